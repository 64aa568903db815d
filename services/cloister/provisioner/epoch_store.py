"""The store of epochs: the keys that jobs are sealed to, wrapped, until they are destroyed.

Numbers count what was begun for a model's name, destroyed ones included, so none comes twice. As in `models`, a change
and its line in the record stand or fall together. Blocking and thread safe: called off the event loop.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cloister.errors import NotReady
from cloister.provisioner.database import Database, Record
from cloister.provisioner.vault import EpochId

_COLUMNS = "name, number, suite, began_ms, seal_until_ms, open_until_ms, policy, signature, wrapped_seed, root_key_id"


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """One epoch of a model; times are Unix time.

    Attributes:
        number: From 1, of this model's name.
        suite: Of its key pair.
        policy: The release policy under which it began, exact bytes, and its owner's `signature`.
        wrapped_seed: Of its key pair.
    """

    name: str
    number: int
    suite: str
    began_ms: int
    seal_until_ms: int
    open_until_ms: int
    policy: bytes
    signature: bytes
    wrapped_seed: bytes = field(repr=False)
    root_key_id: str

    @property
    def policy_digest(self) -> bytes:
        """SHA-256 of the policy."""
        return hashlib.sha256(self.policy).digest()

    def record_id(self, owner_key: bytes) -> EpochId:
        """What its wrapped seed is bound to."""
        return EpochId(
            model_name=self.name,
            epoch=self.number,
            suite=self.suite,
            began_ms=self.began_ms,
            seal_until_ms=self.seal_until_ms,
            open_until_ms=self.open_until_ms,
            policy_sha256=self.policy_digest,
            owner_key=owner_key,
        )


class EpochStore:
    """Epochs of all models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next_number(self, name: str) -> int:
        """The number of the next epoch to begin."""
        with self._database.reading() as cursor:
            row = cursor.execute("SELECT begun FROM epoch_count WHERE name = ?", (name,)).fetchone()
            return 1 if row is None else int(row[0]) + 1

    def begin(self, epoch: StoredEpoch, *, record: Record) -> None:
        """Keep an epoch that has the next number.

        Raises:
            NotReady: Its policy is in force no longer (`policy.changed`): ask again under the new one.
        """
        with self._database.transaction() as cursor:
            in_force = cursor.execute(
                "SELECT policy FROM policy WHERE name = ? ORDER BY version DESC LIMIT 1", (epoch.name,)
            ).fetchone()
            if in_force != (epoch.policy,):
                raise NotReady("the release policy has changed meanwhile", reason="policy.changed")
            cursor.execute("INSERT OR REPLACE INTO epoch_count VALUES (?, ?)", (epoch.name, epoch.number))
            cursor.execute(
                f"INSERT INTO epoch ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # constants
                (
                    epoch.name,
                    epoch.number,
                    epoch.suite,
                    epoch.began_ms,
                    epoch.seal_until_ms,
                    epoch.open_until_ms,
                    epoch.policy,
                    epoch.signature,
                    epoch.wrapped_seed,
                    epoch.root_key_id,
                ),
            )
            record()

    def kept(self, name: str, now_ms: int) -> list[StoredEpoch]:
        """Those of a model that have not come to their end, newest first."""
        with self._database.reading() as cursor:
            rows = cursor.execute(
                f"SELECT {_COLUMNS} FROM epoch WHERE name = ? AND open_until_ms > ?"  # noqa: S608  # constants
                " ORDER BY number DESC",
                (name, now_ms),
            ).fetchall()
            return [StoredEpoch(*row) for row in rows]

    def ended(self, now_ms: int) -> list[StoredEpoch]:
        """Those of all models that have come to their end and are not destroyed yet."""
        with self._database.reading() as cursor:
            rows = cursor.execute(
                f"SELECT {_COLUMNS} FROM epoch WHERE open_until_ms <= ? ORDER BY open_until_ms",  # noqa: S608  # constants
                (now_ms,),
            ).fetchall()
            return [StoredEpoch(*row) for row in rows]

    def destroy(self, epoch: StoredEpoch, *, record: Record) -> None:
        """Delete an epoch for good."""
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM epoch WHERE name = ? AND number = ?", (epoch.name, epoch.number))
            record()

    def scrub(self) -> None:
        """Leave nothing of the destroyed ones on disk."""
        self._database.scrub()
