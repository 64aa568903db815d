"""The ledger: changes and lines together, groups, refusals, a full disk, a second writer."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from cloister.errors import AlreadyExists, CloisterError, LogBroken, NotReady, Unavailable
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.database import NAME
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.tables import MODEL, POLICY, Key
from cloister.tlog import proofs
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.merkle import leaf_hash, root
from cloister.tlog.note import Ed25519Key, SignedNote
from fakes.release_desk import open_ledger
from fakes.results import CLUSTER


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path) as opened:
        yield opened


@pytest.fixture
def disk(ledger: Ledger, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The file, as whoever has the disk opens it."""
    connection = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    yield connection
    connection.close()


def put_model(name: str, *, refuse: Exception | None = None) -> Callable[[Change], int]:
    """A change that registers a name."""

    def change(change: Change) -> int:
        change.put(MODEL, Key(name), "alice", b"a" * 32)
        sequence = change.line("model.put", model=name)
        if refuse is not None:
            raise refuse
        return sequence

    return change


def lines_of(ledger: Ledger) -> list[dict[str, object]]:
    return [json.loads(entry.record) for entry in ledger.log.records()]


def test_a_row_and_the_line_that_vouches_for_it_are_written_together(ledger: Ledger) -> None:
    assert ledger.change(put_model("iris")) == 2
    with ledger.looking() as look:
        assert look.get(MODEL, Key("iris")) == ("alice", b"a" * 32)
        assert look.sequence_of(MODEL, Key("iris")) == 2
    digest = MODEL.digest(("iris", "alice", b"a" * 32)).hex()
    assert lines_of(ledger)[-1]["rows"] == {"model/iris": digest}


async def test_one_change_that_is_refused_spoils_no_other_of_its_group(ledger: Ledger) -> None:
    refusal = AlreadyExists("taken")
    outcomes = await in_one_group(ledger, put_model("iris"), put_model("wine", refuse=refusal), put_model("digits"))
    assert outcomes == [3, refusal, 4]
    assert [line.get("model") for line in lines_of(ledger)] == [None, None, "iris", "digits"]
    with ledger.looking() as look:
        assert look.get(MODEL, Key("wine")) is None
        assert look.names(MODEL) == ["digits", "iris"]


async def test_later_changes_of_a_group_see_the_earlier_ones(ledger: Ledger) -> None:
    seen: list[object] = []

    def look_first(change: Change) -> int:
        seen.append(change.get(MODEL, Key("iris")))
        return change.line("looked")

    await in_one_group(ledger, put_model("iris"), look_first)
    assert seen == [("alice", b"a" * 32)]


def test_a_row_without_a_line_is_no_change(ledger: Ledger) -> None:
    def change(change: Change) -> None:
        change.put(MODEL, Key("iris"), "alice", b"a" * 32)

    with pytest.raises(ValueError, match="no line"):
        ledger.change(change)
    with ledger.looking() as look:
        assert look.get(MODEL, Key("iris")) is None
    assert ledger.append("e") == 2


def test_the_head_is_signed_with_each_group_and_leads_to_every_line(ledger: Ledger) -> None:
    for _ in range(9):
        ledger.append("e")
    note = SignedNote.parse(ledger.log.checkpoint())
    Ed25519Key(f"{CLUSTER}/provisioner/1", ledger.log.log_key()).verify(note)
    head = Checkpoint.parse(note.text)
    leaves = [leaf_hash(entry.record) for entry in ledger.log.records()]
    assert (head.size, head.root) == (10, root(leaves))
    for size in range(1, 11):
        assert ledger.log.root(size) == root(leaves[:size])
        proof = ledger.log.consistency(size, 10)
        proofs.verify_consistency(size, 10, proof, root(leaves[:size]), head.root)
        proofs.verify_inclusion(leaves[size - 1], size - 1, 10, ledger.log.inclusion(size, 10), head.root)


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    for number in range(5):
        with open_ledger(tmp_path) as ledger:
            assert ledger.log.size() == 1 + number if number else True
            ledger.append("e", number=number)
    with open_ledger(tmp_path) as ledger:
        assert [line["event"] for line in lines_of(ledger)] == ["log.begun", *["e"] * 5]
        assert [entry.sequence for entry in ledger.log.records(after=4)] == [5, 6]
        assert [entry.sequence for entry in ledger.log.records(newest=1)] == [6]


async def test_what_comes_while_the_disk_is_busy_is_written_together(ledger: Ledger) -> None:
    sizes: set[int] = set()

    def put(number: int, change: Change) -> int:
        sizes.add(ledger.log.size())  # what is on disk, while this is not
        return put_model(f"model{number}")(change)

    outcomes = await in_one_group(ledger, *[partial(put, number) for number in range(100)])
    assert outcomes == list(range(3, 103))
    assert sizes == {2}


def test_threads_do_not_mix(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda each: ledger.append("e", number=each), range(64)))
    written = {line["number"]: line["sequence"] for line in lines_of(ledger) if line["event"] == "e"}
    assert written == dict(enumerate(numbers))


def test_it_remembers_when_a_key_was_released_last(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.append("key.refused", model="key.released")
        assert ledger.log.released_at() is None
        ledger.append("key.released")
        ledger.append("key.refused")
    with open_ledger(tmp_path) as ledger:
        told = datetime.fromisoformat(str(lines_of(ledger)[2]["time"]))
        remembered = ledger.log.released_at()
        assert remembered is not None
        assert timedelta(0) <= remembered - told < timedelta(milliseconds=1)


@contextmanager
def no_page_left(ledger: Ledger) -> Iterator[None]:
    """SQLite's own limit, which fails as a disk without room does (SQLITE_FULL)."""
    writing = ledger._database.writing
    pages = writing.execute("PRAGMA page_count").fetchone()[0]
    writing.execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        writing.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def no_byte_left(ledger: Ledger) -> Iterator[None]:
    """The kernel lets no file grow further, in the middle of a write where it comes to that (EFBIG)."""
    largest = max(path.stat().st_size for path in ledger._database.path.parent.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.attack("H07")
@pytest.mark.parametrize("full", [no_page_left, no_byte_left])
def test_a_disk_that_is_full_refuses_and_loses_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, full: Callable[[Ledger], AbstractContextManager[None]]
) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.change(put_model("iris"))
        with full(ledger):
            written = fill(ledger)
            with pytest.raises(Unavailable) as refused:
                ledger.change(put_model("x" * 20_000))
            assert refused.value.reason == "record.unavailable"
            with ledger.looking() as look:
                assert look.get(MODEL, Key("iris")) == ("alice", b"a" * 32)
                assert look.names(MODEL) == ["iris"]
        assert ledger.append("e") == written + 3
    with open_ledger(tmp_path) as ledger:
        assert [line["event"] for line in lines_of(ledger)] == ["log.begun", "model.put", *["e"] * (written + 1)]


@pytest.mark.attack("F10")
def test_a_second_writer_of_one_state_is_noticed_before_it_forks_the_log(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as first, open_ledger(tmp_path) as second:
        first.append("e")
        with pytest.raises(NotReady) as refused:
            second.append("e")
        assert refused.value.reason == "writer.other"
        assert first.append("e") == 3
    with open_ledger(tmp_path) as ledger:
        assert [line["event"] for line in lines_of(ledger)] == ["log.begun", "e", "e"]


def test_who_watches_is_asked_before_a_change(ledger: Ledger) -> None:
    def may_not_write() -> None:
        raise NotReady("not now", reason="witness.behind")

    ledger.append("e")
    ledger.watch(may_write=may_not_write)
    with pytest.raises(NotReady):
        ledger.append("e")
    assert ledger.log.size() == 2


async def test_what_removes_the_reason_is_written_anyway(ledger: Ledger) -> None:
    def may_not_write() -> None:
        raise NotReady("not now", reason="state.stale")

    ledger.watch(may_write=may_not_write)
    assert await ledger.changed(lambda change: change.line("e"), anyway=True) == 2


@pytest.mark.attack("H07")
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE line SET record = x'00' WHERE sequence = 2",
        "DELETE FROM line WHERE sequence = 2",
        "DELETE FROM line WHERE sequence = 1",
        "UPDATE line SET nodes = zeroblob(32) WHERE sequence = 2",
    ],
)
def test_a_line_that_was_changed_or_deleted_is_noticed_when_it_is_read(
    ledger: Ledger, disk: sqlite3.Connection, damage: str
) -> None:
    for _ in range(3):
        ledger.append("e")
    disk.executescript(f"DROP TRIGGER line_kept; DROP TRIGGER line_stays; {damage}")
    with pytest.raises(LogBroken):
        list(ledger.log.records())


@pytest.mark.attack("H07")
@pytest.mark.parametrize("statement", ["UPDATE line SET record = x'00'", "DELETE FROM line"])
def test_lines_are_neither_changed_nor_deleted(disk: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="lines are not"):
        disk.execute(statement)


async def test_what_is_cancelled_spoils_no_other(ledger: Ledger) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ledger.appended("e")).cancel()
        kept = tasks.create_task(ledger.appended("kept"))
    assert kept.result() >= 2


def test_a_closed_ledger_says_so(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        pass
    for closed in (lambda: ledger.append("e"), lambda: next(ledger.log.records())):
        with pytest.raises(Unavailable):
            closed()


def test_policies_of_a_name_are_counted_by_the_log(ledger: Ledger) -> None:
    ledger.change(put_model("iris"))
    for version in (3, 1):
        ledger.change(partial(put_policy, version))
    with ledger.looking() as look:
        assert look.numbers(POLICY, "iris") == [1, 3]
        assert (look.newest(POLICY, "iris"), look.newest(POLICY, "wine")) == (3, 0)


def put_policy(version: int, change: Change) -> int:
    change.put(POLICY, Key("iris", version), b"policy", b"s" * 64)
    return change.line("policy.set")


def fill(ledger: Ledger) -> int:
    """Write lines until there is no room for one; returns how many there was room for."""
    for written in range(1_000):
        try:
            ledger.append("e", text="x" * 2000)
        except Unavailable:
            return written
    raise AssertionError("the disk is never full")


async def in_one_group(ledger: Ledger, *changes: Callable[[Change], object]) -> list[object]:
    """What comes of changes that came while the one before, a line, was being written."""
    busy, free = threading.Event(), threading.Event()

    def wait(change: Change) -> int:
        busy.set()
        assert free.wait(30)
        return change.line("waited")

    async def outcome(change: Callable[[Change], object]) -> object:
        try:
            return await ledger.changed(change)
        except CloisterError as error:
            return error

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ledger.changed(wait))
        await asyncio.to_thread(busy.wait, 30)
        outcomes = [tasks.create_task(outcome(change)) for change in changes]
        await asyncio.sleep(0)  # all have been handed in
        free.set()
    return [task.result() for task in outcomes]
