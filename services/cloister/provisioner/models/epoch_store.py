"""The store of epochs: the keys that jobs are sealed to, wrapped, until they are destroyed.

Numbers count what was begun for a model's name, destroyed ones included, so none comes twice. As in `store`, a change
is made with its line in the log. Blocking and thread safe: called off the event loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cloister.errors import NotReady, SealBroken
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.tables import EPOCH, EPOCH_COUNT, Key
from cloister.provisioner.models.copy_check import check_copy
from cloister.provisioner.models.store import Line
from cloister.provisioner.models.stored import in_force
from cloister.provisioner.vaults.vault import EpochId


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """One epoch of a model; times are Unix time.

    Attributes:
        number: From 1, of this model's name.
        suite: Of its key pair.
        policy: The release policy under which it began, exact bytes, and its owner's `signature`.
        recovery_copy: Of its key pair's seed, as `wrapped_seed` is.
    """

    name: str
    number: int
    suite: str
    began_ms: int
    seal_until_ms: int
    open_until_ms: int
    policy: bytes
    signature: bytes
    recovery_copy: bytes = field(repr=False)
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

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def next_number(self, name: str) -> int:
        """The number of the next epoch to begin."""
        with self._ledger.looking() as look:
            return _next_number(look, name)

    def begin(self, epoch: StoredEpoch, *, line: Line) -> None:
        """Keep an epoch that has the next number.

        Raises:
            NotReady: Its policy is in force no longer (`policy.changed`), another began (`epoch.begun`), or a
                recovery key was dealt (`recovery.dealt`): ask again.
        """

        def change(change: Change) -> int:
            policy = in_force(change, epoch.name)
            if policy is None or policy.policy != epoch.policy:
                raise NotReady("the release policy has changed meanwhile", reason="policy.changed")
            if epoch.number != _next_number(change, epoch.name):
                raise NotReady("another epoch has begun meanwhile", reason="epoch.begun")
            check_copy(change, epoch.recovery_copy)
            change.put(EPOCH_COUNT, Key(epoch.name), epoch.number)
            change.put(
                EPOCH,
                Key(epoch.name, epoch.number),
                epoch.suite,
                epoch.began_ms,
                epoch.seal_until_ms,
                epoch.open_until_ms,
                epoch.policy,
                epoch.signature,
                epoch.recovery_copy,
                epoch.wrapped_seed,
                epoch.root_key_id,
            )
            return line(change)

        self._ledger.change(change)

    def kept(self, name: str, now_ms: int) -> list[StoredEpoch]:
        """Those of a model that have not come to their end, newest first.

        Raises:
            SealBroken: One is not as it was written, or missing (`store.altered`).
        """
        with self._ledger.looking() as look:
            found = [StoredEpoch(name, number, *row) for number, row in look.all(EPOCH, name).items()]
        return [epoch for epoch in reversed(found) if epoch.open_until_ms > now_ms]

    def ended(self, now_ms: int) -> list[StoredEpoch]:
        """Those of all models that have come to their end and are not destroyed yet, as far as they are as written."""
        with self._ledger.looking() as look:
            query = "SELECT name, number FROM epoch WHERE open_until_ms <= ? ORDER BY open_until_ms"
            found = [Key(*row) for row in look.cursor.execute(query, (now_ms,)).fetchall()]
            ended = []
            for key in found:
                with suppress(SealBroken):
                    if row := look.get(EPOCH, key):
                        ended.append(StoredEpoch(*key, *row))
            return ended

    def destroy(self, epochs: Sequence[StoredEpoch], *, line: Callable[[StoredEpoch, Change], int]) -> None:
        """Delete epochs for good, each with its line; nothing of them stays on disk."""

        def change(change: Change) -> None:
            for epoch in epochs:
                change.delete(EPOCH, Key(epoch.name, epoch.number))
                line(epoch, change)

        self._ledger.change(change)


def _next_number(look: Look, name: str) -> int:
    row = look.get(EPOCH_COUNT, Key(name))
    return 1 if row is None else int(row[0]) + 1
