"""The record: what was decided, in order, on disk before the answer leaves.

One SQLite table whose triggers forbid UPDATE and DELETE. That keeps honest code from slips; against the operator, leaf
hashes (RFC 6962) let anyone who kept a Merkle root see that a record is missing or changed. Each record is the
canonical JSON of its fields. No record, no release: what cannot be written raises `Unavailable`.

One thread writes (`kit/group_commit.py`): a crowd shares the waiting for the disk, and everyone is told only when
theirs is on it. `append` and reading block; `appended` is for the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cloister.api.v1 import audit_pb2
from cloister.errors import Unavailable
from cloister.kit.group_commit import GroupCommit
from cloister.kit.record_line import Field, about, line, time_of
from cloister.tlog.merkle import leaf_hash

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS records (
    sequence INTEGER PRIMARY KEY,
    record BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS records_keep BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'records are not changed'); END;
CREATE TRIGGER IF NOT EXISTS records_stay BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'records are not deleted'); END;
"""
_PAGE: Final = 256


class AuditLog:
    """An append-only record on disk; `opened` makes one."""

    def __init__(self, connection: sqlite3.Connection, now: Callable[[], datetime]) -> None:
        self._connection = connection
        self._now = now
        self._lock = threading.Lock()
        self._commits = GroupCommit[dict[str, Field]](self._commit, name="audit")

    @classmethod
    @contextmanager
    def opened(cls, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[AuditLog]:
        """The record in the file `path`, made with mode 0600 if it is not there.

        Raises:
            Unavailable: It cannot be opened or is damaged.
        """
        with _translated():
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5.0)
        audit = cls(connection, now)
        try:
            with _translated():
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA trusted_schema=OFF")
                connection.executescript(_SCHEMA)
            with audit._commits.running():
                yield audit
        finally:
            # Whoever was cancelled may still be reading in a thread; SQLite must not lose its connection under it.
            with audit._lock:
                connection.close()

    def append(self, event: str, **fields: Field) -> int:
        """Write one record and return its sequence number, once it is on disk.

        Args:
            event: `noun.verbed`.
            fields: Plain values; never a secret.

        Raises:
            Unavailable: It could not be written; whatever it was about must not happen.
        """
        return self._submitted(event, fields).result()

    async def appended(self, event: str, **fields: Field) -> int:
        """As `append`, without holding the event loop up. One that is cancelled may be written or not."""
        return await asyncio.wrap_future(self._submitted(event, fields))

    def _submitted(self, event: str, fields: dict[str, Field]) -> Future[int]:
        with _translated():  # what is no record must not spoil those that it would be written with
            told = about(event, fields)
        return self._commits.submit(told)

    def _commit(self, group: Sequence[dict[str, Field]]) -> list[int]:
        with self._lock, _translated():
            return self._write(group)

    def _write(self, group: Sequence[dict[str, Field]]) -> list[int]:
        """Write all of a group in one transaction, or nothing; returns their numbers."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            last = self._last()
            numbers = list(range(last + 1, last + 1 + len(group)))
            records = [
                line(told, sequence=number, now=self._now()) for told, number in zip(group, numbers, strict=True)
            ]
            rows = [(number, record, leaf_hash(record)) for number, record in zip(numbers, records, strict=True)]
            self._connection.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        return numbers

    def records(self, after: int = 0, newest: int = 0) -> Iterator[audit_pb2.AuditRecord]:
        """Records with a sequence number above `after`, oldest first, as far as they went when asked.

        Args:
            after: 0 for all.
            newest: Only those among the newest so many; 0 for all.

        Raises:
            Unavailable: The record cannot be read, has a gap, or a hash does not fit.
        """
        with self._lock, _translated():
            last = self._last()
        if newest:
            after = max(after, last - newest)
        while after < last:
            with self._lock, _translated():
                page = self._connection.execute(
                    "SELECT sequence, record, leaf_hash FROM records WHERE sequence > ? AND sequence <= ? "
                    "ORDER BY sequence LIMIT ?",
                    (after, last, _PAGE),
                ).fetchall()
            for sequence, record, leaf in page:
                if sequence != after + 1 or leaf != leaf_hash(record):
                    raise Unavailable(f"the record is damaged at number {after + 1}", reason="record.damaged")
                after = sequence
                yield audit_pb2.AuditRecord(sequence=sequence, record=record, leaf_hash=leaf)
            if not page:
                raise Unavailable(f"the record is damaged at number {after + 1}", reason="record.damaged")

    def latest(self, event: str) -> bytes | None:
        """The newest record of an event, or None if there is none.

        Raises:
            Unavailable: The record cannot be read.
        """
        with self._lock, _translated():
            row = self._connection.execute(
                "SELECT record FROM records WHERE json_extract(CAST(record AS TEXT), '$.event') = ? "
                "ORDER BY sequence DESC LIMIT 1",
                (event,),
            ).fetchone()
        return None if row is None else bytes(row[0])

    def latest_at(self, event: str) -> datetime | None:
        """When the record last tells of an event, or None if it never does.

        Raises:
            Unavailable: The record cannot be read.
        """
        record = self.latest(event)
        with _translated():
            return None if record is None else time_of(record)

    def _last(self) -> int:
        row = self._connection.execute("SELECT COALESCE(MAX(sequence), 0) FROM records").fetchone()
        return int(row[0])


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, TypeError, KeyError) as error:
        raise Unavailable("the record cannot be written or read", reason="record.unavailable") from error
