"""The store of models: manifests, wrapped keys and release policies.

The first registration of a name fixes its owner: a SPIFFE id and an Ed25519 key. Versions, of models and of policies,
only go up. A change and its line in the record stand or fall together: `record` is called inside the transaction,
which is rolled back when it raises. Blocking and thread safe: called off the event loop.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass, field

from cloister.errors import AlreadyExists, NotFound
from cloister.provisioner.database import Database, Record
from cloister.provisioner.vault import RecordId

_MODEL_COLUMNS = "name, version, owner, owner_key, manifest, signature, wrapped_key, root_key_id"


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

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, model: StoredModel, *, record: Record) -> int:
        """Add a version of a model, and the owner of its name when it is the first; returns what `record` returned.

        Raises:
            AlreadyExists: The name is another owner's (`name.taken`), or the version is not above all before it
                (`version.not_higher`).
        """
        with self._database.transaction() as cursor:
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
        with self._database.transaction() as cursor:
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
        with self._database.reading() as cursor:
            return _owner(cursor, name)

    def find(self, name: str, version: int = 0) -> tuple[StoredModel, StoredPolicy | None] | None:
        """A model (version 0: its newest) and the policy in force, if any; None when there is no such model."""
        with self._database.reading() as cursor:
            wanted = "(?2 = 0 OR version = ?2)"
            row = cursor.execute(
                f"SELECT {_MODEL_COLUMNS} FROM model_version JOIN model USING (name)"  # noqa: S608  # constants
                f" WHERE name = ?1 AND {wanted} ORDER BY version DESC LIMIT 1",
                (name, version),
            ).fetchone()
            return None if row is None else (_model(row), _policy(cursor, name))

    def listing(self, owner: str | None = None) -> list[tuple[StoredModel, StoredPolicy | None]]:
        """All versions of all models, or of those whose owner has this SPIFFE id, each with the policy in force."""
        with self._database.reading() as cursor:
            rows = cursor.execute(
                f"SELECT {_MODEL_COLUMNS} FROM model_version JOIN model USING (name)"  # noqa: S608  # constants
                " WHERE ?1 IS NULL OR owner = ?1 ORDER BY name, version",
                (owner,),
            ).fetchall()
            policies = {row[0]: _policy(cursor, row[0]) for row in rows}
            return [(_model(row), policies[row[0]]) for row in rows]


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
