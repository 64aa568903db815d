"""What a batch has promised and learnt, on the disk before anything rests on it: so a command that is killed goes on.

A folder beside the output, which nobody else may enter. `journal.sqlite` (WAL, synced at each commit) holds for each
span of rows its tickets, written before anything is sent, and then its end; a ticket opens its answer and is as secret
as it, and answers lie there in clear until the output is written. Blocking: called off the event loop, by
any thread.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from cloister.cli.batch.plan import Identity
from cloister.cli.batch.spans import FailedRow
from cloister.cli.failures import ExitCode, Stop

_FILE: Final = "journal.sqlite"
_LOCK: Final = "lock"
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE batch (
    batch_id TEXT NOT NULL, identity TEXT NOT NULL, rows INTEGER NOT NULL, input TEXT NOT NULL
) STRICT;
CREATE TABLE span (
    number INTEGER PRIMARY KEY, turn INTEGER NOT NULL, answered INTEGER, version TEXT, response BLOB
) STRICT;
CREATE TABLE ticket (
    job_id BLOB PRIMARY KEY, number INTEGER NOT NULL, ticket BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ticket_of ON ticket (number);
CREATE TABLE failure (
    row INTEGER PRIMARY KEY, number INTEGER NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL
) STRICT;
CREATE INDEX failure_of ON failure (number);
"""
# `turn` goes up when a span is asked once more on purpose, and is part of its key; `answered` is NULL until the end.


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEnd:
    """What became of a span.

    Attributes:
        number: Of the span.
        answered: How many of its rows have an answer.
        failed: The others.
        version: Of the model that answered.
        response: A serialised ModelInferResponse with a row for each answered one; empty where there is none.
    """

    number: int
    answered: int
    failed: Sequence[FailedRow]
    version: str = ""
    response: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows and spans, as far as they have ended."""

    answered: int
    failed: int
    spans: int
    versions: dict[str, int]


class Journal:
    """One batch; `open` and `read` make it.

    Attributes:
        folder: Where it lies.
        batch_id: 32 hex digits, random.
        identity: What the batch is of.
        rows: Of the input file.
        input: Its name when the batch began.
    """

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.folder = folder
        self._database = database
        self._changing = threading.Lock()
        found = database.execute("SELECT batch_id, identity, rows, input FROM batch").fetchone()
        if found is None:
            raise Stop(f"{folder} is no journal of a batch; remove it, or name another with --journal")
        self.batch_id: str = found[0]
        self.identity = Identity(**json.loads(found[1]))
        self.rows: int = found[2]
        self.input: str = found[3]

    @classmethod
    @contextmanager
    def read(cls, folder: Path) -> Iterator[Journal]:
        """One that there is, also while its command runs.

        Raises:
            Stop: There is none; or, from the block too, it cannot be read or written: damaged, or the disk is full.
        """
        if not (folder / _FILE).is_file():
            raise Stop(f"{folder} is no journal of a batch", ExitCode.USAGE)
        with _told(folder), closing(_connected(folder)) as database:
            yield cls(folder, database)

    @classmethod
    def begin(cls, folder: Path, identity: Identity, rows: int, input: Path) -> None:  # the command's own word
        """Make the journal of a new batch: whole, or not at all."""
        staged = _beside(folder)
        staged.mkdir(mode=0o700)
        try:
            for name in (_FILE, _LOCK):
                os.close(os.open(staged / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with _told(folder), closing(_connected(staged)) as database:
                database.executescript(_SCHEMA)
                row = (secrets.token_hex(16), json.dumps(asdict(identity)), rows, str(input))
                database.execute("INSERT INTO batch VALUES (?, ?, ?, ?)", row)
                database.execute(f"PRAGMA user_version = {_VERSION}")
            staged.rename(folder)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise

    @property
    def counts(self) -> Counts:
        """What has ended."""
        count = self._database.execute
        versions = dict(count("SELECT version, sum(answered) FROM span WHERE answered > 0 GROUP BY version"))
        (failed,) = count("SELECT count(*) FROM failure").fetchone()
        (spans,) = count("SELECT count(*) FROM span WHERE answered IS NOT NULL").fetchone()
        return Counts(sum(versions.values()), failed, spans, versions)

    def ended(self) -> set[int]:
        """Numbers of the spans that have ended."""
        return {number for (number,) in self._database.execute("SELECT number FROM span WHERE answered IS NOT NULL")}

    def key(self, number: int) -> str:
        """What a span is called at the gateway: whatever is submitted under it is one job."""
        found = self._database.execute("SELECT turn FROM span WHERE number = ?", (number,)).fetchone()
        return f"{self.batch_id}:{number}:{found[0] if found else 0}"

    def tickets(self, number: int | None = None) -> list[tuple[int, bytes]]:
        """Number and ticket of what may have been submitted and has not ended; of one span, or of all."""
        if number is None:
            return self._database.execute("SELECT number, ticket FROM ticket ORDER BY number").fetchall()
        return self._database.execute("SELECT number, ticket FROM ticket WHERE number = ?", (number,)).fetchall()

    def promise(self, tickets: Iterable[tuple[int, bytes, bytes]]) -> None:
        """Keep tickets (number of the span, job id, ticket) before anything is sent."""
        with self._transaction() as database:
            for number, job_id, ticket in tickets:
                database.execute("INSERT OR IGNORE INTO span (number, turn) VALUES (?, 0)", (number,))
                database.execute("INSERT INTO ticket VALUES (?, ?, ?)", (job_id, number, ticket))

    def withdraw(self, job_ids: Iterable[bytes]) -> None:
        """Forget tickets of what the gateway has refused to keep."""
        with self._transaction() as database:
            database.executemany("DELETE FROM ticket WHERE job_id = ?", [(job_id,) for job_id in job_ids])

    def end(self, ends: Iterable[SpanEnd]) -> None:
        """Keep what became of spans; their tickets are needed no more."""
        with self._transaction() as database:
            for each in ends:
                database.execute(
                    "INSERT INTO span (number, turn, answered, version, response) VALUES (?, 0, ?, ?, ?) "
                    "ON CONFLICT (number) DO UPDATE SET answered = excluded.answered, version = excluded.version, "
                    "response = excluded.response",
                    (each.number, each.answered, each.version, each.response),
                )
                database.execute("DELETE FROM ticket WHERE number = ?", (each.number,))
                rows = [(failed.row, each.number, failed.kind, failed.reason, failed.message) for failed in each.failed]
                database.executemany("INSERT INTO failure VALUES (?, ?, ?, ?, ?)", rows)

    def turn(self, numbers: Iterable[int]) -> None:
        """Have spans asked once more, under another key: what became of them is forgotten."""
        with self._transaction() as database:
            for number in numbers:
                database.execute(
                    "UPDATE span SET turn = turn + 1, answered = NULL, version = NULL, response = NULL "
                    "WHERE number = ?",
                    (number,),
                )
                database.execute("DELETE FROM ticket WHERE number = ?", (number,))
                database.execute("DELETE FROM failure WHERE number = ?", (number,))

    def with_failures(self) -> list[int]:
        """Numbers of the spans in which rows have failed."""
        return [number for (number,) in self._database.execute("SELECT DISTINCT number FROM failure")]

    def failures(self) -> Iterator[FailedRow]:
        """All rows that have failed, in order."""
        for found in self._database.execute("SELECT row, kind, reason, message FROM failure ORDER BY row"):
            yield FailedRow(*found)

    def answers(self) -> Iterator[tuple[list[int], bytes]]:
        """Numbers of rows, and a serialised ModelInferResponse with a row for each; in the order of the file."""
        size = self.identity.rows
        found = self._database.execute("SELECT number, response FROM span WHERE answered > 0 ORDER BY number")
        for number, response in found:
            failed = {row for (row,) in self._database.execute("SELECT row FROM failure WHERE number = ?", (number,))}
            first = number * size
            yield [row for row in range(first, min(first + size, self.rows)) if row not in failed], response

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._changing:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                if self._database.in_transaction:  # SQLite may have rolled it back itself, when the disk was full
                    self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Whatever SQLite complains of, in words."""
    try:
        yield
    except sqlite3.Error as error:
        raise Stop(f"{folder} cannot be used: {error}; is the disk full, or the folder damaged?") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second command from the same journal; the kernel lets it go when this one ends, however it ends.

    Raises:
        Stop: Another command has it.
    """
    with (folder / _LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Stop(f"another 'cloister submit' is at work on {folder}; wait for it, or end it") from error
        yield


def drop(folder: Path) -> None:
    """Remove a journal, and with it all that was secret: what is left if that is interrupted is none any more."""
    folder.rename(_beside(folder))
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove what was left of a journal by a command that was killed when it made or removed it."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.????????"):
        shutil.rmtree(left)


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")


def _connected(folder: Path) -> sqlite3.Connection:
    database = sqlite3.connect(folder / _FILE, isolation_level=None, check_same_thread=False, timeout=10)
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        database.close()
        raise Stop(f"{folder} is the journal of another release of 'cloister'; finish it with that one")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database
