from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import NotReady, Overloaded, SealBroken
from cloister.seal.session_table import WINDOW, Session, SessionTable
from fakes.sealed import unhurried

_CIPHER = AESGCMSIV(bytes(32))


def _opens(session: Session, sequence: int) -> bool:
    try:
        session.check(sequence)
    except SealBroken:
        return False
    session.mark(sequence, 0)
    return True


@unhurried
@given(st.lists(st.one_of(st.integers(0, 3000), st.integers(0, 2**64 - 1)), max_size=60))
def test_a_window_opens_each_number_once_and_none_behind_it(sequences: list[int]) -> None:
    session, seen, highest = Session(_CIPHER), set(), -1
    for sequence in sequences:
        expected = sequence not in seen and sequence > highest - WINDOW
        assert _opens(session, sequence) is expected
        if expected:
            seen.add(sequence)
            highest = max(highest, sequence)


def _add(table: SessionTable, name: int, deadline_ms: int, now_ms: int = 0) -> None:
    table.check_room(bytes([name]), now_ms)
    session = Session(_CIPHER)
    session.mark(0, deadline_ms)
    table.add(bytes([name]), session)


def test_the_session_unused_for_longest_makes_room() -> None:
    table = SessionTable(2)
    _add(table, 1, 10)
    _add(table, 2, 10)
    assert table.find(b"\x01")
    _add(table, 3, 10)
    assert len(table) == 2
    assert table.find(b"\x01")
    assert table.find(b"\x02") is None
    with pytest.raises(NotReady) as raised:
        table.check_room(b"\x02", 0)
    assert raised.value.reason == "session.unknown"


def test_a_dropped_record_raises_the_floor() -> None:
    table = SessionTable(1)
    _add(table, 1, 10)
    _add(table, 2, 20)
    table.check_room(b"\x03", 10)
    assert table.floor_ms == 0
    table.check_room(b"\x03", 11)
    assert table.floor_ms == 10


def test_full_records_refuse_new_sessions_until_they_lapse() -> None:
    table = SessionTable(1)
    for name in range(17):
        _add(table, name, 10)
    with pytest.raises(Overloaded):
        table.check_room(b"\xff", 10)
    table.check_room(b"\xff", 11)


def test_a_table_holds_something() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SessionTable(0)
