"""The record: what is in it stays, in order, and what cannot be written stops the caller."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.errors import Unavailable
from cloister.kit.audit import AuditLog
from cloister.tlog.merkle import leaf_hash

NOW = datetime(2026, 5, 4, 12, 30, 0, 250_000, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def audit(path: Path) -> Iterator[AuditLog]:
    with AuditLog.opened(path, now=lambda: NOW) as opened:
        yield opened


def test_a_record_is_canonical_json_with_its_leaf_hash(audit: AuditLog) -> None:
    assert audit.append("key.released", model="ü", version=3, mrenclave=None, tcb=["a"]) == 1
    (record,) = audit.records()
    assert (
        record.record
        == (
            '{"event":"key.released","model":"ü","mrenclave":null,"sequence":1,"tcb":["a"],'
            '"time":"2026-05-04T12:30:00.250000Z","version":3}'
        ).encode()
    )
    assert record.leaf_hash == leaf_hash(record.record)


def test_fields_cannot_pass_for_the_records_own(audit: AuditLog) -> None:
    audit.append("e", sequence=99, time="never")
    record = json.loads(next(audit.records()).record)
    assert (record["sequence"], record["time"]) == (1, "2026-05-04T12:30:00.250000Z")


def test_it_goes_on_where_it_was(path: Path) -> None:
    for _ in range(2):
        with AuditLog.opened(path) as audit:
            audit.append("e")
    with AuditLog.opened(path) as audit:
        assert [record.sequence for record in audit.records()] == [1, 2]
        assert [record.sequence for record in audit.records(after=1)] == [2]
        assert list(audit.records(after=7)) == []


def test_the_newest_of_an_event_is_found(audit: AuditLog) -> None:
    assert audit.latest("key.released") is None
    for number, event in enumerate(("key.released", "key.released", "key.refused")):
        audit.append(event, number=number, about="key.released")
    found = audit.latest("key.released")
    assert found is not None
    assert json.loads(found)["number"] == 1


def test_more_than_a_page(audit: AuditLog) -> None:
    for number in range(300):
        audit.append("e", number=number)
    assert [record.sequence for record in audit.records()] == list(range(1, 301))


def test_the_newest_lines_alone(audit: AuditLog) -> None:
    for _ in range(300):
        audit.append("e")
    assert [record.sequence for record in audit.records(newest=2)] == [299, 300]
    assert [record.sequence for record in audit.records(after=299, newest=2)] == [300]
    assert next(record.sequence for record in audit.records(after=100, newest=150)) == 151
    assert len(list(audit.records(newest=999))) == 300


def test_reading_sees_what_was_there_when_it_began(audit: AuditLog) -> None:
    audit.append("e")
    reading = audit.records()
    next(reading)
    audit.append("e")
    assert list(reading) == []


def test_threads_do_not_mix(audit: AuditLog) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda number: audit.append("e", number=number), range(40)))
    assert sorted(numbers) == list(range(1, 41))


async def test_what_comes_while_the_disk_is_busy_is_written_together(audit: AuditLog) -> None:
    statements: list[str] = []
    audit._connection.set_trace_callback(statements.append)
    async with asyncio.TaskGroup() as group:
        with audit._lock:  # as it is while a transaction goes to disk
            tasks = [group.create_task(audit.appended("e", number=number)) for number in range(50)]
            await asyncio.sleep(0.02)
    assert [task.result() for task in tasks] == list(range(1, 51))
    assert [json.loads(record.record)["number"] for record in audit.records()] == list(range(50))
    assert 1 <= statements.count("COMMIT") <= 2


async def test_it_is_on_disk_when_its_number_is_known(audit: AuditLog, path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(audit.appended("e")) for _ in range(5)]
    other = sqlite3.connect(path)
    assert {number for (number,) in other.execute("SELECT sequence FROM records")} == {task.result() for task in tasks}
    other.close()


async def test_what_is_no_record_spoils_no_other(audit: AuditLog) -> None:
    async with asyncio.TaskGroup() as group:
        with audit._lock:
            good = [group.create_task(audit.appended("e")) for _ in range(3)]
            bad = group.create_task(_reason(audit.appended("e", field="x" * (65 << 10))))
            await asyncio.sleep(0.02)
    assert bad.result() == "record.unavailable"
    assert [task.result() for task in good] == [1, 2, 3]


async def test_a_group_that_cannot_be_written_fails_as_one(audit: AuditLog, path: Path) -> None:
    other = sqlite3.connect(path)
    other.executescript(
        "CREATE TRIGGER full BEFORE INSERT ON records WHEN NEW.sequence = 3 "
        "BEGIN SELECT RAISE(ABORT, 'disk full'); END;"
    )
    audit.append("first")
    async with asyncio.TaskGroup() as group:
        with audit._lock:
            tasks = [group.create_task(_reason(audit.appended("e"))) for _ in range(3)]
            await asyncio.sleep(0.02)
    other.close()
    written = [record.sequence for record in audit.records()]
    assert len(written) == 1 + [task.result() for task in tasks].count("")
    assert 3 not in written


async def test_a_closed_record_says_so(path: Path) -> None:
    with AuditLog.opened(path) as audit:
        audit.append("e")
    for closed in (lambda: audit.append("e"), lambda: next(audit.records())):
        with pytest.raises(Unavailable):
            closed()


async def _reason(appending: Awaitable[int]) -> str:
    """Empty for what was written."""
    try:
        await appending
    except Unavailable as error:
        return error.reason
    return ""


@pytest.mark.attack("H07")
@pytest.mark.parametrize("statement", ["UPDATE records SET record = x'00'", "DELETE FROM records"])
def test_records_are_neither_changed_nor_deleted(audit: AuditLog, path: Path, statement: str) -> None:
    audit.append("e")
    other = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="records are not"):
        other.execute(statement)
    other.close()


@pytest.mark.attack("H07")
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE records SET record = x'00' WHERE sequence = 2",
        "DELETE FROM records WHERE sequence = 2",
        "DELETE FROM records WHERE sequence = 1",
    ],
)
def test_damage_is_noticed_when_it_is_read(audit: AuditLog, path: Path, damage: str) -> None:
    for _ in range(3):
        audit.append("e")
    other = sqlite3.connect(path)
    other.executescript(f"DROP TRIGGER records_keep; DROP TRIGGER records_stay; {damage};")
    other.close()
    with pytest.raises(Unavailable, match="damaged"):
        list(audit.records())


@pytest.mark.attack("H07")
def test_what_cannot_be_written_raises(audit: AuditLog, path: Path) -> None:
    other = sqlite3.connect(path)
    other.executescript("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END;")
    with pytest.raises(Unavailable) as caught:
        audit.append("key.released")
    assert caught.value.reason == "record.unavailable"
    other.executescript("DROP TRIGGER full")
    other.close()
    assert audit.append("key.released") == 1


@pytest.mark.parametrize("field", [b"bytes", object(), float("nan"), "x" * (65 << 10)])
def test_what_is_not_a_plain_fact_is_not_recorded(audit: AuditLog, field: object) -> None:
    with pytest.raises(Unavailable):
        audit.append("e", field=field)  # type: ignore[arg-type]  # a mistake, on purpose
    assert list(audit.records()) == []


def test_the_file_is_ours_alone_and_must_be_a_record(path: Path, tmp_path: Path) -> None:
    with AuditLog.opened(path):
        assert path.stat().st_mode & 0o077 == 0
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database at all" * 100)
    for wrong in (broken, tmp_path / "nowhere" / "audit.db"):
        with pytest.raises(Unavailable), AuditLog.opened(wrong):
            pass


def test_it_tells_when_something_happened_last(tmp_path: Path) -> None:
    times = iter(datetime(2026, 3, 1, 12, 0, second, tzinfo=UTC) for second in range(4))
    with AuditLog.opened(tmp_path / "audit.db", now=lambda: next(times)) as audit:
        assert audit.latest_at("key.released") is None
        for event in ("key.released", "key.refused", "key.released", "key.refused"):
            audit.append(event, model="key.released")
        assert audit.latest_at("key.released") == datetime(2026, 3, 1, 12, 0, 2, tzinfo=UTC)
