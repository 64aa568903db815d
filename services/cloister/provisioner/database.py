"""The provisioner's SQLite file (WAL) on one machine: one connection, used by one thread at a time.

A change and its line in the record stand or fall together: whoever changes something has the line written inside the
transaction, which is rolled back when that raises. What is deleted is overwritten in the file, and its log is cut off.
Not so in an enclave: an encrypted file of Gramine that is cut off and then killed does not open again. There the log is
begun anew, and what it still has of deleted keys, wrapped, lies under the state's key until it is written over.
Blocking and thread safe: called off the event loop.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cloister.errors import NotReady, SealBroken, Unavailable
from cloister.kit.environment import inside_enclave
from cloister.kit.log import get_logger

_MODELS: Final = """
CREATE TABLE model (
    name TEXT PRIMARY KEY, owner TEXT NOT NULL, owner_key BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE model_version (
    name TEXT NOT NULL REFERENCES model (name), version INTEGER NOT NULL CHECK (version > 0),
    manifest BLOB NOT NULL, signature BLOB NOT NULL, wrapped_key BLOB NOT NULL, root_key_id TEXT NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE policy (
    name TEXT NOT NULL REFERENCES model (name), version INTEGER NOT NULL CHECK (version > 0),
    policy BLOB NOT NULL, signature BLOB NOT NULL,
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
    wrapped_seed BLOB NOT NULL, root_key_id TEXT NOT NULL,
    PRIMARY KEY (name, number)
) STRICT, WITHOUT ROWID;
"""
_SCHEMAS: Final = (_MODELS, _EPOCHS)
"""What each version of the file added to the one before."""

_log = get_logger()

Record = Callable[[], int]
"""Writes the line of a change and returns its sequence number."""


class Database:
    """An open file; `opened` makes one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[Database]:
        """Open the file, made with mode 0600 when it is not there.

        Raises:
            NotReady: It was written by a later version, or is no such file.
            Unavailable: It cannot be opened.
        """
        connection = _connect(path)
        database = cls(connection)
        try:
            yield database
        finally:
            # Whoever was cancelled may still be at work in a thread; SQLite must not lose its connection under it.
            with database._lock:
                connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Cursor]:
        """One look at what is there.

        Raises:
            Unavailable: It cannot be read or written.
        """
        try:
            with self._lock:
                cursor = self._connection.cursor()
                try:
                    yield cursor
                finally:
                    cursor.close()
        except sqlite3.Error as error:
            raise Unavailable("the model store cannot be read or written", reason="store.unavailable") from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """One change, whole or not at all; raises as `reading`."""
        with self.reading() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")

    def root_key_ids(self) -> set[str]:
        """Names of all root keys that some key in it was wrapped with; raises as `reading`."""
        with self.reading() as cursor:
            found = cursor.execute("SELECT root_key_id FROM model_version UNION SELECT root_key_id FROM epoch")
            return {row[0] for row in found}

    def scrub(self) -> None:
        """Leave nothing of what was deleted in the file's log, outside an enclave; raises as `reading`."""
        with self.reading() as cursor:
            cursor.execute(f"PRAGMA {_checkpoint()}")


def altered(model_name: str) -> SealBroken:
    """The error, and the alarm, for a record that is not as it was written."""
    _log.error("store.altered", model=model_name)
    return SealBroken(reason="store.altered")


def _checkpoint() -> str:
    return f"wal_checkpoint({'RESTART' if inside_enclave() else 'TRUNCATE'})"


def _connect(path: Path) -> sqlite3.Connection:
    try:
        # SQLite gives its -wal and -shm files the mode of the database, so it is made with the right one first.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o177:
            raise NotReady(f"the model store {path} must have mode 0600", reason="store.unusable")
        # Used from the threads of a pool, one at a time, under our own lock.
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"the model store {path} cannot be opened", reason="store.unavailable") from error
    try:
        _prepare(connection)
    except sqlite3.Error as error:
        connection.close()
        raise NotReady(f"{path} is not a model store", reason="store.unusable") from error
    except NotReady:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    settings = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF")
    # The last: of what was deleted before this process began, nothing stays in the file's log.
    for pragma in (*settings, "secure_delete = ON", _checkpoint()):
        connection.execute(f"PRAGMA {pragma}")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > len(_SCHEMAS):
        raise NotReady("the model store was written by a later version of Cloister", reason="store.unusable")
    for version, schema in enumerate(_SCHEMAS[found:], found + 1):
        connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {version}; COMMIT;")
