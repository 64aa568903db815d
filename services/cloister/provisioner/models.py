"""The store of models: manifests, wrapped keys and release policies, in SQLite (WAL) on one machine.

The first registration of a name fixes its owner: a SPIFFE id and an Ed25519 key. Versions, of models and of policies,
only go up. A change and its line in the record stand or fall together: `record` is called inside the transaction,
which is rolled back when it raises. Blocking and thread safe: called off the event loop.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cloister.errors import AlreadyExists, NotFound, NotReady, Unavailable
from cloister.provisioner.vault import RecordId

_SCHEMA_VERSION = 1
_SCHEMA = """
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
_MODEL_COLUMNS = "name, version, owner, owner_key, manifest, signature, wrapped_key, root_key_id"

Record = Callable[[], int]
"""Writes the line of a change and returns its sequence number."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who registered a name first: nobody else adds versions or policies to it."""

    spiffe_id: str
    key: bytes


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One version of a model; `manifest` is the exact bytes that the owner signed."""

    name: str
    version: int
    owner: Owner
    manifest: bytes
    signature: bytes
    wrapped_key: bytes = field(repr=False)
    root_key_id: str

    def record_id(self) -> RecordId:
        """What its wrapped key is bound to."""
        return RecordId(self.name, self.version, hashlib.sha256(self.manifest).digest(), self.owner.key)


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A release policy: the exact bytes that the owner signed."""

    version: int
    policy: bytes
    signature: bytes


class ModelStore:
    """Models and policies of all owners."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[ModelStore]:
        """Open the store, made with mode 0600 when it is not there.

        Raises:
            NotReady: The file was written by a later version, or is not a store.
            Unavailable: It cannot be opened.
        """
        connection = _connect(path)
        store = cls(connection)
        try:
            yield store
        finally:
            # Whoever was cancelled may still be at work in a thread; SQLite must not lose its connection under it.
            with store._lock:
                connection.close()

    def register(self, model: StoredModel, *, record: Record) -> int:
        """Add a version of a model, and the owner of its name when it is the first; returns what `record` returned.

        Raises:
            AlreadyExists: The name is another owner's (`name.taken`), or the version is not above all before it
                (`version.not_higher`).
        """
        with self._transaction() as cursor:
            owner = _owner(cursor, model.name)
            if owner is None:
                cursor.execute(
                    "INSERT INTO model VALUES (?, ?, ?)", (model.name, model.owner.spiffe_id, model.owner.key)
                )
            elif owner != model.owner:
                raise AlreadyExists("the name is taken by another owner or with another key")
            newest = _newest(cursor, "SELECT max(version) FROM model_version WHERE name = ?", model.name)
            if model.version <= newest:
                raise AlreadyExists(f"version {newest} is registered; a new one is higher", reason="version.not_higher")
            cursor.execute(
                "INSERT INTO model_version VALUES (?, ?, ?, ?, ?, ?)",
                (
                    model.name,
                    model.version,
                    model.manifest,
                    model.signature,
                    model.wrapped_key,
                    model.root_key_id,
                ),
            )
            return record()

    def set_policy(self, name: str, policy: StoredPolicy, *, owner: Owner, record: Record) -> int:
        """Put a policy in force; returns what `record` returned.

        Raises:
            NotFound: This owner has no model of that name.
            AlreadyExists: The version is not above that of the policy in force (`version.not_higher`).
        """
        with self._transaction() as cursor:
            if _owner(cursor, name) != owner:
                raise NotFound("there is no such model of yours")
            newest = _newest(cursor, "SELECT max(version) FROM policy WHERE name = ?", name)
            if policy.version <= newest:
                raise AlreadyExists(
                    f"policy version {newest} is in force; a new one is higher", reason="version.not_higher"
                )
            cursor.execute(
                "INSERT INTO policy VALUES (?, ?, ?, ?)", (name, policy.version, policy.policy, policy.signature)
            )
            return record()

    def owner(self, name: str) -> Owner | None:
        """Who registered this name, if anyone did."""
        with self._reading() as cursor:
            return _owner(cursor, name)

    def find(self, name: str, version: int = 0) -> tuple[StoredModel, StoredPolicy | None] | None:
        """A model (version 0: its newest) and the policy in force, if any; None when there is no such model."""
        with self._reading() as cursor:
            wanted = "(?2 = 0 OR version = ?2)"
            row = cursor.execute(
                f"SELECT {_MODEL_COLUMNS} FROM model_version JOIN model USING (name)"  # noqa: S608  # constants
                f" WHERE name = ?1 AND {wanted} ORDER BY version DESC LIMIT 1",
                (name, version),
            ).fetchone()
            return None if row is None else (_model(row), _policy(cursor, name))

    def listing(self, owner: str | None = None) -> list[tuple[StoredModel, StoredPolicy | None]]:
        """All versions of all models, or of those whose owner has this SPIFFE id, each with the policy in force."""
        with self._reading() as cursor:
            rows = cursor.execute(
                f"SELECT {_MODEL_COLUMNS} FROM model_version JOIN model USING (name)"  # noqa: S608  # constants
                " WHERE ?1 IS NULL OR owner = ?1 ORDER BY name, version",
                (owner,),
            ).fetchall()
            policies = {row[0]: _policy(cursor, row[0]) for row in rows}
            return [(_model(row), policies[row[0]]) for row in rows]

    def root_key_ids(self) -> set[str]:
        """Names of all root keys that some record was wrapped with."""
        with self._reading() as cursor:
            return {row[0] for row in cursor.execute("SELECT DISTINCT root_key_id FROM model_version")}

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Cursor]:
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
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._reading() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")


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
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > _SCHEMA_VERSION:
        raise NotReady("the model store was written by a later version of Cloister", reason="store.unusable")
    if found == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")


def _owner(cursor: sqlite3.Cursor, name: str) -> Owner | None:
    row = cursor.execute("SELECT owner, owner_key FROM model WHERE name = ?", (name,)).fetchone()
    return None if row is None else Owner(row[0], row[1])


def _newest(cursor: sqlite3.Cursor, query: str, name: str) -> int:
    found = cursor.execute(query, (name,)).fetchone()[0]
    return int(found) if found is not None else 0


def _policy(cursor: sqlite3.Cursor, name: str) -> StoredPolicy | None:
    row = cursor.execute(
        "SELECT version, policy, signature FROM policy WHERE name = ? ORDER BY version DESC LIMIT 1", (name,)
    ).fetchone()
    return None if row is None else StoredPolicy(*row)


def _model(row: tuple[str, int, str, bytes, bytes, bytes, bytes, str]) -> StoredModel:
    name, version, owner, owner_key, manifest, signature, wrapped_key, root_key_id = row
    return StoredModel(name, version, Owner(owner, owner_key), manifest, signature, wrapped_key, root_key_id)
