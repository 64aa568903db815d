"""Members on this machine, past a restart (attacks C10, H03)."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloister.errors import EvidenceRejected, InvalidRequest, NotReady, Unavailable
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.member import MemberRecord
from cloister.verifier.member_file import MemberFile
from fakes.members import KEYS, OTHER_KEYS, member
from fakes.results import Clock

LIFE_S = 3600.0


@contextmanager
def verifier(
    folder: Path, *, ahead: timedelta = timedelta(), clock: Callable[[], float] | None = None
) -> Iterator[AttestedWorkers]:
    """The list of a verifier that starts now, or with a clock that is set wrong."""
    with MemberFile.opened(folder / "members.db", now=lambda: datetime.now(UTC) + ahead) as store:
        attested = AttestedWorkers(monotonic=clock or Clock(), store=store)
        for record, life_s in store.records(max_life_s=LIFE_S):
            attested.merge(record, life_s=life_s)
        yield attested


def names(attested: AttestedWorkers) -> set[str]:
    return {each.instance for each in attested.members}


async def removed(attested: AttestedWorkers) -> None:
    """Let what was removed reach the disk, as `keeping` does."""
    assert attested._store is not None
    for held in attested._unkept.values():
        await attested._store.put(held.record, life_s=LIFE_S)


async def test_members_and_pins_outlive_the_process(tmp_path: Path) -> None:
    with verifier(tmp_path) as attested:
        await attested.admit(member(1, collateral=b"{}" * 9), life_s=LIFE_S)
        await attested.admit(member(2), life_s=LIFE_S)
        await attested.pin(member(3).instance, KEYS, life_s=LIFE_S)
        attested.leave(member(2).instance)
        await removed(attested)
        kept = attested.get(member(1).instance)
    with verifier(tmp_path) as attested:
        assert names(attested) == {member(1).instance}
        assert attested.get(member(1).instance) == kept
        for number in (1, 2, 3):
            with pytest.raises(EvidenceRejected):
                await attested.pin(member(number).instance, OTHER_KEYS, life_s=LIFE_S)
            await attested.pin(member(number).instance, KEYS, life_s=LIFE_S)
    assert (tmp_path / "members.db").stat().st_mode & 0o777 == 0o600


async def test_a_renewal_is_what_comes_back(tmp_path: Path) -> None:
    with verifier(tmp_path) as attested:
        for token in ("first", "second"):
            await attested.admit(member(1, attestation_result=token), life_s=LIFE_S)
    with verifier(tmp_path) as attested:
        found = attested.get(member(1).instance)
        assert found is not None
        assert found.attestation_result == "second"


@pytest.mark.attack("H03")
async def test_an_older_copy_brings_back_who_left_until_its_result_ends_and_nobody_else(tmp_path: Path) -> None:
    with verifier(tmp_path) as attested:
        await attested.admit(member(1), life_s=LIFE_S)
    shutil.copytree(tmp_path, tmp_path / "older")
    with verifier(tmp_path) as attested:
        attested.revoke(member(1).instance)
        await attested.admit(member(2), life_s=LIFE_S)
        await removed(attested)
    with verifier(tmp_path) as attested:
        assert names(attested) == {member(2).instance}
    clock = Clock()
    with verifier(tmp_path / "older", clock=clock) as attested:
        assert names(attested) == {member(1).instance}
        clock.pass_s(LIFE_S)
        attested.expire()
        assert not names(attested)
    with verifier(tmp_path / "older", ahead=timedelta(hours=1, seconds=1)) as attested:
        assert not names(attested)


@pytest.mark.parametrize("ahead", [timedelta(hours=-5), timedelta(days=-400)])
async def test_a_clock_that_was_set_back_gives_nobody_more_than_one_life(tmp_path: Path, ahead: timedelta) -> None:
    with verifier(tmp_path) as attested:
        await attested.admit(member(1), life_s=LIFE_S)
    clock = Clock()
    with verifier(tmp_path, ahead=ahead, clock=clock) as attested:
        assert names(attested) == {member(1).instance}
        clock.pass_s(LIFE_S)
        attested.expire()
        assert not names(attested)


async def test_what_has_ended_is_not_kept(tmp_path: Path) -> None:
    with verifier(tmp_path) as attested:
        await attested.admit(member(1, collateral=b"{1}"), life_s=1.0)
    with verifier(tmp_path, ahead=timedelta(seconds=2)) as attested:
        assert not names(attested)
        await attested.admit(member(1, keys=OTHER_KEYS), life_s=LIFE_S)
    with sqlite3.connect(tmp_path / "members.db") as connection:
        counted = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("members", "pins", "collateral")
        ]
    connection.close()
    assert counted == [1, 1, 1]


@pytest.mark.parametrize("content", [b"junk" * 1000, b"SQLite format 3\0" + bytes(4000)])
def test_a_file_that_is_damaged_stops_the_verifier_and_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "members.db").write_bytes(content)
    with pytest.raises(NotReady, match="remove it") as refused, verifier(tmp_path):
        pass
    assert refused.value.reason == "members.lost"


async def test_a_row_that_was_changed_stops_the_verifier(tmp_path: Path) -> None:
    with verifier(tmp_path) as attested:
        await attested.admit(member(1), life_s=LIFE_S)
    with sqlite3.connect(tmp_path / "members.db") as connection:
        connection.execute("UPDATE collateral SET content = x'00'")
    connection.close()
    with pytest.raises(NotReady), verifier(tmp_path):
        pass


async def test_what_cannot_be_kept_is_not_admitted(tmp_path: Path) -> None:
    with verifier(tmp_path) as attested:
        with sqlite3.connect(tmp_path / "members.db") as connection:
            connection.execute("CREATE TRIGGER full BEFORE INSERT ON members BEGIN SELECT RAISE(ABORT, 'full'); END")
        connection.close()
        with pytest.raises(Unavailable):
            await attested.admit(member(1), life_s=LIFE_S)
        assert not names(attested)


def test_a_record_is_read_as_it_was_written() -> None:
    record = MemberRecord(member(1), 7, "left")
    read, sha256 = MemberRecord.decoded(record.encoded())
    assert read.completed(record.member.collateral, sha256) == record
    with pytest.raises(InvalidRequest):
        read.completed(b"other", sha256)


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\x87" + b"\x00" * 7, b"\xff", b"\x1c"])
def test_anything_else_is_no_record(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        MemberRecord.decoded(raw)
    assert refused.value.reason == "record.malformed"


def test_at_one_version_a_removal_outranks_a_membership_and_a_later_membership_both() -> None:
    joined = MemberRecord(member(1), 7)
    gone, again = replace(joined, removed="left"), replace(joined, version=8)
    assert joined.rank < gone.rank < again.rank
    for order in ((joined, gone, again), (again, gone, joined), (gone, again, joined)):
        attested = AttestedWorkers(monotonic=Clock())
        for record in order:
            attested.merge(record, life_s=LIFE_S)
        assert attested.records[0][0] == again


def test_the_file_is_closed_under_nobody_who_writes(tmp_path: Path) -> None:
    """Who is cancelled leaves a thread behind that writes on: SQLite crashes if its connection goes meanwhile."""
    opened = MemberFile.opened(tmp_path / "members.db", now=lambda: datetime.now(UTC))
    store = opened.__enter__()
    inside, enough = threading.Event(), threading.Event()

    def write() -> None:
        with store._writing() as connection:
            inside.set()
            enough.wait(10)
            connection.execute("SELECT 1").fetchone()

    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(write)
        assert inside.wait(10)
        closing = pool.submit(opened.__exit__, None, None, None)
        assert not wait([closing], timeout=0.05).done
        enough.set()
        writing.result(10)
        closing.result(10)
    with pytest.raises(Unavailable):
        store._put(MemberRecord(member(1), 1), LIFE_S)
