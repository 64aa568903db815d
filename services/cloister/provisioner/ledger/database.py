"""The provisioner's SQLite file (WAL) on one machine: state and log, in one. Who writes it is the ledger.

It has two connections: one writes, and one looks while that waits for the disk. What is deleted is overwritten in the
file, and the file's own log is cut off. Not so in an enclave: an encrypted file of Gramine that is cut off and then
killed does not open again. There that log is begun anew, and what it still has of deleted keys, wrapped, lies under the
state's key until it is written over.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloister.errors import NotReady, Unavailable
from cloister.kit.environment import inside_enclave
from cloister.kit.log import get_logger
from cloister.provisioner.ledger.tables import TABLES

NAME: Final = "ledger.db"
_LOG: Final = """
CREATE TABLE line (
    sequence INTEGER PRIMARY KEY CHECK (sequence > 0), record BLOB NOT NULL, nodes BLOB NOT NULL
) STRICT;
CREATE TRIGGER line_kept BEFORE UPDATE ON line BEGIN SELECT RAISE(ABORT, 'lines are not changed'); END;
CREATE TRIGGER line_stays BEFORE DELETE ON line BEGIN SELECT RAISE(ABORT, 'lines are not deleted'); END;
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1), checkpoint TEXT NOT NULL, resumed INTEGER NOT NULL,
    released_ms INTEGER NOT NULL, mac BLOB NOT NULL
) STRICT;
CREATE TABLE vouched (
    tbl TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, sequence INTEGER NOT NULL, sha256 BLOB NOT NULL,
    PRIMARY KEY (tbl, name, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE log_key (
    name TEXT PRIMARY KEY, public BLOB NOT NULL, recovery_copy BLOB NOT NULL,
    wrapped_key BLOB NOT NULL, root_key_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE held (name TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
_MODELS: Final = """
CREATE TABLE model (
    name TEXT PRIMARY KEY, owner TEXT NOT NULL, owner_key BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE model_version (
    name TEXT NOT NULL REFERENCES model (name), version INTEGER NOT NULL CHECK (version > 0),
    manifest BLOB NOT NULL, signature BLOB NOT NULL, recovery_copy BLOB NOT NULL,
    wrapped_key BLOB NOT NULL, root_key_id TEXT NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE policy (
    name TEXT NOT NULL REFERENCES model (name), version INTEGER NOT NULL CHECK (version > 0),
    policy BLOB NOT NULL, signature BLOB NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
"""
_SIGNERS: Final = """
CREATE TABLE signer_set (
    name TEXT NOT NULL REFERENCES model (name), version INTEGER NOT NULL CHECK (version > 0), envelope BLOB NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
"""
_EPOCHS: Final = """
CREATE TABLE epoch_count (
    name TEXT PRIMARY KEY REFERENCES model (name), begun INTEGER NOT NULL CHECK (begun > 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE epoch (
    name TEXT NOT NULL REFERENCES model (name), number INTEGER NOT NULL CHECK (number > 0), suite TEXT NOT NULL,
    began_ms INTEGER NOT NULL CHECK (began_ms > 0), seal_until_ms INTEGER NOT NULL CHECK (seal_until_ms > 0),
    open_until_ms INTEGER NOT NULL CHECK (open_until_ms > 0), policy BLOB NOT NULL, signature BLOB NOT NULL,
    recovery_copy BLOB NOT NULL, wrapped_seed BLOB NOT NULL, root_key_id TEXT NOT NULL,
    PRIMARY KEY (name, number)
) STRICT, WITHOUT ROWID;
"""
_RECOVERY: Final = """
CREATE TABLE recovery_key (
    name TEXT NOT NULL, number INTEGER NOT NULL CHECK (number > 0), deal BLOB NOT NULL, PRIMARY KEY (name, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE recovery_attempt (id INTEGER PRIMARY KEY, noted TEXT NOT NULL) STRICT;
"""
_LEASES: Final = """
CREATE TABLE withdrawal (
    name TEXT NOT NULL REFERENCES model (name), version INTEGER NOT NULL CHECK (version >= 0),
    withdrawn_at_ms INTEGER NOT NULL, by_whom TEXT NOT NULL, reason TEXT NOT NULL, lifted INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE lease (
    instance TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, lease_id TEXT NOT NULL,
    sequence INTEGER NOT NULL, ends_ms INTEGER NOT NULL,
    PRIMARY KEY (instance, name, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_end ON lease (ends_ms);
"""
_SCHEMAS: Final = (_LOG + _MODELS + _SIGNERS + _EPOCHS + _LEASES + _RECOVERY,)
"""What each version of the file added to the one before."""

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Database:
    """An open file.

    Attributes:
        path: Where it is.
        writing: The one connection that writes, from one thread.
        looking: Reads what is committed; whoever uses it holds `lock`.
    """

    path: Path
    writing: sqlite3.Connection
    looking: sqlite3.Connection
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[Database]:
        """Open the file, made with mode 0600 when it is not there.

        Raises:
            NotReady: It was written by a later version, or is no such file.
            Unavailable: It cannot be opened.
        """
        _make(path)
        with closing(_connect(path)) as writing:
            try:
                _prepare(writing)
            except sqlite3.Error as error:
                raise NotReady(f"{path} is not a provisioner's state", reason="store.unusable") from error
            database = cls(path, writing, _connect(path))
            database.looking.execute("PRAGMA query_only = ON")
            try:
                yield database
            finally:
                # Whoever was cancelled may still be looking in a thread; it must not lose its connection meanwhile.
                with database.lock:
                    database.looking.close()

    def root_key_ids(self) -> set[str]:
        """Names of all root keys that some key in it was wrapped with."""
        wrapped = [table.name for table in TABLES if table.wrapped]
        found = self.writing.execute(" UNION ".join(f"SELECT root_key_id FROM {name}" for name in wrapped))  # noqa: S608  # constants
        return {row[0] for row in found}

    def scrub(self) -> None:
        """Leave nothing of what was deleted in the file's log, outside an enclave; on the thread that writes."""
        self.writing.execute(f"PRAGMA {_checkpoint()}")


@contextmanager
def translated() -> Iterator[None]:
    """What SQLite raises, as an error of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise unavailable(error) from error


def unavailable(error: sqlite3.Error) -> Unavailable:
    """The error, and the alarm, for a state that cannot be read or written: a full disk, say."""
    _log.error("record.unavailable", error=error)
    return Unavailable("the state cannot be read or written", reason="record.unavailable")


def _checkpoint() -> str:
    return f"wal_checkpoint({'RESTART' if inside_enclave() else 'TRUNCATE'})"


def _make(path: Path) -> None:
    """See to it that the file is there, and private; SQLite gives its -wal and -shm files the mode that it has.

    Only while this process has no connection to it: whoever closes a file loses every POSIX lock that the process holds
    on it. Without its lock another process takes a connection for gone, and deletes the -wal that it writes to.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o177:
            raise NotReady(f"the state {path} must have mode 0600", reason="store.unusable")
    except OSError as error:
        raise Unavailable(f"the state {path} cannot be opened", reason="store.unavailable") from error


def _connect(path: Path) -> sqlite3.Connection:
    try:
        # Used from several threads, one at a time, under locks of ours.
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    except sqlite3.Error as error:
        raise Unavailable(f"the state {path} cannot be opened", reason="store.unavailable") from error


def _prepare(connection: sqlite3.Connection) -> None:
    settings = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF")
    # The last: of what was deleted before this process began, nothing stays in the file's log.
    for pragma in (*settings, "secure_delete = ON", _checkpoint()):
        connection.execute(f"PRAGMA {pragma}")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > len(_SCHEMAS):
        raise NotReady(
            f"the state was written by a later version of Cloister (its form is {found}, and {len(_SCHEMAS)} is the "
            "newest known here): start that version again, which finds it as it left it",
            reason="store.unusable",
        )
    for version, schema in enumerate(_SCHEMAS[found:], found + 1):
        connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {version}; COMMIT;")
