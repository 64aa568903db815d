from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import LogBroken
from cloister.tlog import merkle, proofs
from fakes.sealed import unhurried

_VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "merkle-proofs.json").read_text())


def _leaves(size: int) -> list[bytes]:
    return [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(size)]


def _stored(leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
    """The perfect subtrees that these leaves fill, as a log stores them."""
    filled = {(0, index): leaf for index, leaf in enumerate(leaves)}
    for level in range(1, len(leaves).bit_length()):
        for index in range(len(leaves) >> level):
            children = filled[level - 1, 2 * index], filled[level - 1, 2 * index + 1]
            filled[level, index] = merkle.node_hash(*children)
    return filled


class _Log:
    def __init__(self, size: int) -> None:
        self.leaves = _leaves(size)
        self._stored = _stored(self.leaves)

    def subtree(self, level: int, index: int) -> bytes:
        return self._stored[level, index]

    def root(self, size: int) -> bytes:
        return merkle.root(self.leaves[:size])


_LOG = _Log(70)


@pytest.mark.parametrize("vector", _VECTORS["inclusion"], ids=lambda vector: vector["name"])
def test_inclusion_agrees_with_the_vectors_of_transparency_dev(vector: dict[str, Any]) -> None:
    proof = [b64decode(each) for each in vector["proof"]]
    said = (b64decode(vector["leafHash"]), vector["leafIdx"], vector["treeSize"], proof, b64decode(vector["root"]))
    if vector["wantErr"]:
        with pytest.raises(LogBroken):
            proofs.verify_inclusion(*said)
    else:
        proofs.verify_inclusion(*said)


@pytest.mark.parametrize("vector", _VECTORS["consistency"], ids=lambda vector: vector["name"])
def test_consistency_agrees_with_the_vectors_of_transparency_dev(vector: dict[str, Any]) -> None:
    proof = [b64decode(each) for each in vector["proof"]]
    said = (vector["size1"], vector["size2"], proof, b64decode(vector["root1"]), b64decode(vector["root2"]))
    if vector["wantErr"]:
        with pytest.raises(LogBroken):
            proofs.verify_consistency(*said)
    else:
        proofs.verify_consistency(*said)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 33, 70])
def test_the_head_comes_from_stored_subtrees(size: int) -> None:
    assert proofs.head(size, _LOG.subtree) == _LOG.root(size)


@unhurried
@given(size=st.integers(1, 70), data=st.data())
def test_each_line_of_each_size_is_proved_and_nothing_else_is(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = proofs.inclusion(index, size, _LOG.subtree)
    assert path == merkle.path(merkle.levels(_LOG.leaves[:size]), index)
    proofs.verify_inclusion(_LOG.leaves[index], index, size, path, _LOG.root(size))
    other = data.draw(st.integers(0, 69).filter(lambda value: value != index))
    with pytest.raises(LogBroken):
        proofs.verify_inclusion(_LOG.leaves[other], index, size, path, _LOG.root(size))
    with pytest.raises(LogBroken):
        proofs.verify_inclusion(_LOG.leaves[index], index, size, [*path, bytes(32)], _LOG.root(size))


@unhurried
@given(sizes=st.tuples(st.integers(0, 70), st.integers(0, 70)).map(sorted), data=st.data())
def test_each_size_extends_each_before_it_and_no_other_log(sizes: list[int], data: st.DataObject) -> None:
    old, new = sizes
    path = proofs.consistency(old, new, _LOG.subtree)
    roots = _LOG.root(old), _LOG.root(new)
    proofs.verify_consistency(old, new, path, *roots)
    if old:
        edited = data.draw(st.integers(0, old - 1))
        leaves = list(_LOG.leaves[:new])
        leaves[edited] = merkle.leaf_hash(b"edited")
        forked = merkle.root(leaves)
        honest_proof_of_fork = proofs.consistency(old, new, lambda *at: _stored(leaves)[at])
        for shown in (path, honest_proof_of_fork):
            with pytest.raises(LogBroken):
                proofs.verify_consistency(old, new, shown, _LOG.root(old), forked)
    for wrong in ([*path, bytes(32)], path[:-1] or [bytes(32)], [*path, b"short"]):
        with pytest.raises(LogBroken):
            proofs.verify_consistency(old, new, wrong, *roots)


def test_a_log_does_not_shrink() -> None:
    with pytest.raises(ValueError, match="extend"):
        proofs.consistency(5, 4, _LOG.subtree)
    with pytest.raises(LogBroken):
        proofs.verify_consistency(5, 4, [bytes(32)], _LOG.root(5), _LOG.root(4))


@pytest.mark.parametrize("index", [-1, 3, 70])
def test_there_is_no_proof_of_a_line_that_is_not_there(index: int) -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        proofs.inclusion(index, 3, _LOG.subtree)
