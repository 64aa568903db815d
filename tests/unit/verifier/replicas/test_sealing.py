from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import SealBroken
from cloister.verifier.replicas.entries import Entry, Kind
from cloister.verifier.replicas.sealing import RecordSeal

KEY = b"s" * 32
SEAL = RecordSeal(KEY, "demo.cloister.internal")
ENTRY = Entry(b"e" * 16, 3, Kind.USED, b"i" * 16)


def test_what_one_replica_seals_another_opens() -> None:
    other = RecordSeal(KEY, "demo.cloister.internal")
    assert other.open("here", SEAL.seal("here", b"plain")) == b"plain"
    assert Entry.opened(other, ENTRY.sealed(SEAL)) == ENTRY


@pytest.mark.parametrize(
    ("key", "cluster", "place"),
    [
        (b"x" * 32, "demo.cloister.internal", "here"),
        (KEY, "other.cloister.internal", "here"),
        (KEY, "demo.cloister.internal", "there"),
    ],
    ids=["another key", "another cluster", "another place"],
)
def test_a_record_opens_where_it_belongs_and_nowhere_else(key: bytes, cluster: str, place: str) -> None:
    with pytest.raises(SealBroken) as broken:
        RecordSeal(key, cluster).open(place, SEAL.seal("here", b"plain"))
    assert broken.value.reason == "state.forged"


@given(at=st.integers(0, 16 + 12 + 5 + 16 - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(at: int, bit: int) -> None:
    sealed = bytearray(SEAL.seal("here", b"plain"))
    sealed[at] ^= 1 << bit
    with pytest.raises(SealBroken):
        SEAL.open("here", bytes(sealed))


@pytest.mark.attack("H04")
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_refused(raw: bytes) -> None:
    for sealed in (raw, SEAL.seal("stream", raw)):
        with pytest.raises(SealBroken):
            Entry.opened(SEAL, sealed)


def test_no_nonce_comes_twice() -> None:
    assert len({SEAL.seal("here", b"")[:28] for _ in range(1000)}) == 1000
