"""Copies of secrets and shares of a recovery key: each opens where it belongs and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import hpke, recovery
from cloister.seal.hpke import XWING, KeyPair
from cloister.seal.keys import Secret
from cloister.seal.recovery import Share

PAIR, OTHER = KeyPair.generate(), KeyPair.generate()
CLUSTER, RECORD, SESSION = "demo.cloister.internal", b"model iris 1", b"s" * 16
SECRET = Secret(b"k" * 32)
SHARE = Share(cluster=CLUSTER, generation=2, index=1, words=Secret(b"academic acid acrobat"))


def test_a_copy_opens_to_what_was_kept() -> None:
    copy = recovery.seal_copy(PAIR.public, SECRET, RECORD, cluster=CLUSTER, generation=2)
    assert recovery.generation_of(copy) == 2
    assert recovery.open_copy(PAIR, copy, RECORD, cluster=CLUSTER, generation=2) == SECRET
    assert SECRET.reveal() not in copy
    assert recovery.generation_of(b"") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"pair": OTHER},
        {"record": b"model iris 2"},
        {"cluster": "other.cloister.internal"},
        {"generation": 1},
    ],
    ids=["key", "record", "mesh", "generation"],
)
def test_a_copy_is_of_one_record_one_mesh_and_one_generation(changes: dict[str, Any]) -> None:
    copy = recovery.seal_copy(PAIR.public, SECRET, RECORD, cluster=CLUSTER, generation=2)
    wanted = {"pair": PAIR, "record": RECORD, "cluster": CLUSTER, "generation": 2, **changes}
    with pytest.raises(SealBroken):
        recovery.open_copy(wanted.pop("pair"), copy, wanted.pop("record"), **wanted)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_flipped_bit_of_a_copy_is_found(at: int, bits: int) -> None:
    copy = bytearray(recovery.seal_copy(PAIR.public, SECRET, RECORD, cluster=CLUSTER, generation=2))
    copy[at % len(copy)] ^= bits
    with pytest.raises(SealBroken):
        recovery.open_copy(PAIR, bytes(copy), RECORD, cluster=CLUSTER, generation=2)


def test_a_share_opens_for_its_owner_and_in_its_place() -> None:
    sealed = recovery.seal_dealt(PAIR.public, SHARE)
    assert recovery.open_dealt(PAIR, sealed, cluster=CLUSTER, generation=2, index=1) == SHARE
    for pair, generation, index in ((OTHER, 2, 1), (PAIR, 1, 1), (PAIR, 2, 0)):
        with pytest.raises(SealBroken):
            recovery.open_dealt(pair, sealed, cluster=CLUSTER, generation=generation, index=index)


def test_a_contribution_is_for_one_session() -> None:
    sealed = recovery.seal_contributed(PAIR.public, SHARE, SESSION)
    assert recovery.open_contributed(PAIR, sealed, SESSION) == SHARE
    with pytest.raises(SealBroken):
        recovery.open_contributed(PAIR, sealed, b"t" * 16)
    with pytest.raises(SealBroken):
        recovery.open_contributed(PAIR, recovery.seal_dealt(PAIR.public, SHARE), SESSION)


@pytest.mark.parametrize(
    "changes",
    [
        *({"v": 2}, {"cluster": 1}, {"generation": 0}, {"generation": 1 << 32}, {"index": 16}, {"index": -1}),
        *({"words": "w" * 2000}, {"words": None}, {"more": 1}),
    ],
    ids=str,
)
def test_what_is_sealed_and_no_share_is_malformed(changes: dict[str, Any]) -> None:
    said = {"v": 1, "cluster": CLUSTER, "generation": 2, "index": 1, "words": "acid"}
    info = hpke.context("cloister recovery contribution v1", SESSION)
    good = hpke.seal(XWING, PAIR.public, json.dumps(said).encode(), info)
    assert recovery.open_contributed(PAIR, good, SESSION).index == 1
    bad = hpke.seal(XWING, PAIR.public, json.dumps({**said, **changes}).encode(), info)
    with pytest.raises(InvalidRequest) as refused:
        recovery.open_contributed(PAIR, bad, SESSION)
    assert refused.value.reason == "share.malformed"


def test_a_commitment_is_of_one_share_in_one_place() -> None:
    fields: dict[str, Any] = {"cluster": CLUSTER, "generation": 2, "index": 1, "words": SHARE.words}
    changed = [{"cluster": "other.cloister.internal"}, {"generation": 3}, {"index": 2}, {"words": Secret(b"acid")}]
    commitments = {Share(**{**fields, **change}).commitment() for change in [{}, *changed]}
    assert len(commitments) == 5
    assert "acid" not in repr(SHARE)
