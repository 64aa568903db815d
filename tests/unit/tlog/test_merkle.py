from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import SealBroken
from cloister.tlog import merkle
from fakes.sealed import unhurried

# The eight entries and their tree heads that Certificate Transparency implementations test each other with.
_ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert merkle.root([merkle.leaf_hash(entry) for entry in _ENTRIES[:size]]).hex() == _ROOTS[size - 1]


def test_the_empty_tree_is_the_hash_of_nothing() -> None:
    assert merkle.root([]) == hashlib.sha256(b"").digest()


def _leaves(size: int) -> list[bytes]:
    return [merkle.leaf_hash(i.to_bytes(4, "big")) for i in range(size)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 64, 100])
def test_every_leaf_has_a_path_to_the_root(size: int) -> None:
    leaves = _leaves(size)
    head, paths = merkle.root_and_paths(leaves)
    assert head == merkle.root(leaves)
    for index, path in enumerate(paths):
        assert path == merkle.path(merkle.levels(leaves), index)
        assert merkle.root_of_path(leaves[index], index, size, path) == head


def leads_to(head: bytes, leaf: bytes, index: int, size: int, path: list[bytes]) -> bool:
    try:
        return merkle.root_of_path(leaf, index, size, path) == head
    except SealBroken:
        return False


@unhurried
@given(size=st.integers(1, 40), data=st.data())
def test_a_path_proves_nothing_else(size: int, data: st.DataObject) -> None:
    leaves = _leaves(size)
    index = data.draw(st.integers(0, size - 1))
    path, head = merkle.path(merkle.levels(leaves), index), merkle.root(leaves)
    assert leads_to(head, leaves[index], index, size, path)
    other = data.draw(st.integers(0, 50).filter(lambda value: value != index))
    for wrong in (
        (leaves[index], other, size, path),
        (merkle.leaf_hash(b"other"), index, size, path),
        (leaves[index], index, size, [*path, bytes(32)]),
        (leaves[index], index, size, [*path, b"short"]),
        (leaves[index], -1, size, path),
        *([(leaves[index], index, size, path[:-1])] if path else []),
    ):
        assert not leads_to(head, *wrong)


def test_there_is_no_path_outside_the_tree() -> None:
    tree = merkle.levels(_leaves(3))
    with pytest.raises(IndexError):
        merkle.path(tree, 3)
    with pytest.raises(IndexError):
        merkle.path(tree, -1)


@pytest.mark.parametrize("size", range(34))
def test_a_frontier_has_the_root_of_its_leaves(size: int) -> None:
    leaves = [merkle.leaf_hash(b"%d" % number) for number in range(size)]
    frontier = merkle.Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    assert (frontier.size, frontier.root()) == (size, merkle.root(leaves))
