"""The rotation of the root key: each secret that lies under another one is wrapped anew, while releases go on.

What is new lies under the next root key from the first moment on, and both are open. Some secrets at a time are
unwrapped, wrapped, and put in the place of what was there if that is still the same, with one line for all of them. So
a kill loses nothing: each row names its root key, and whatever lies under another than the one that wraps is looked
for now and then, and at every start. A line says that a rotation has begun, and one, written with the last secret,
that it ended. Blocking and thread safe, unless it says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cloister.errors import NotReady, SealBroken, Unavailable
from cloister.kit.log import get_logger
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.look import Look
from cloister.provisioner.ledger.tables import Key, Table
from cloister.provisioner.models.kept_secrets import SECRETS, KeptSecret, kept_secret, put_wrapped
from cloister.provisioner.vaults.roots import Roots
from cloister.provisioner.vaults.vault import Wrapped

BEGUN: Final = "root.rotation_begun"
REWRAPPED: Final = "keys.rewrapped"
ENDED: Final = "root.rotation_ended"
LOOK_S: Final = 60.0
_AT_A_TIME: Final = 32

_log = get_logger()


@dataclass(frozen=True, slots=True)
class RootKey:
    """One root key, as it is now.

    Attributes:
        key_id: Its name.
        back_end: Where it is kept; empty where it is not open.
        wraps: Whether it wraps what is new.
        secrets: How many lie under it.
    """

    key_id: str
    back_end: str
    wraps: bool
    secrets: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A rotation that has begun: to which root key, how many secrets are to go, and the number of its line."""

    to: str
    secrets: int
    sequence: int


class Rotation:
    """The root keys of one ledger.

    Attributes:
        wanted: Set where secrets are to be looked for at once; of the event loop.

    Args:
        ledger: What is kept.
        roots: Root keys of the settings.
        cluster: Trust domain of the mesh.
    """

    def __init__(self, ledger: Ledger, roots: Roots, cluster: str) -> None:
        self.wanted = asyncio.Event()
        self._ledger = ledger
        self._roots = roots
        self._keyring = roots.keyring
        self._cluster = cluster

    def status(self) -> list[RootKey]:
        """Every root key that is open or that something lies under; the one that wraps comes first."""
        counts = self._counts()
        wrapping = self._keyring.wrapping_id
        others = sorted((counts.keys() | self._keyring.ids) - {wrapping})
        return [
            RootKey(key_id, self._roots.back_end_of(key_id), key_id == wrapping, counts.get(key_id, 0))
            for key_id in (wrapping, *others)
        ]

    def begin(self, by: str) -> Begun:
        """Go over to the next root key; what lies under others is wrapped anew in the background.

        Args:
            by: SPIFFE id of who asks, for the record.

        Raises:
            NotReady: There is no other root key to go over to (`root_key.same`), or it is not usable.
            Unavailable: Its back end does not answer, or the line cannot be written; nothing has changed.
        """
        counts = self._counts()
        opened = self._roots.next(counts)
        to = opened[0].vaults[0].key_id()
        others = sorted(counts.keys() - {to})
        if to == self._keyring.wrapping_id and not others:
            raise NotReady(
                "all lies under this root key already: name another in [next_vault], or have Vault rotate its key",
                reason="root_key.same",
            )
        to_go = sum(counts[each] for each in others)

        def change(change: Change) -> int:
            sequence = change.line(BEGUN, to_root=to, from_roots=others, secrets=to_go, by=by)
            if not others:
                change.line(ENDED, to_root=to)
            return sequence

        sequence = self._ledger.change(change)
        self._roots.turn_to(opened)
        return Begun(to, to_go, sequence)

    def sweep(self) -> int:
        """Wrap anew all that lies under another root key than the one that wraps; returns how much it was.

        What does not unwrap stays as it is, and in the log; it holds up nothing else.

        Raises:
            Unavailable: The vault does not answer, or nothing can be written; the next one goes on from there.
            NotReady: The vault refuses, or nothing may be written now.
        """
        to = self._keyring.wrapping_id
        left = self._under_others(to)
        done = 0
        for start in range(0, len(left), _AT_A_TIME):
            done += self._rewrap(left[start : start + _AT_A_TIME], to)
        return done

    def _rewrap(self, rows: Sequence[tuple[Table, Key]], to: str) -> int:
        anew: list[tuple[KeptSecret, Wrapped]] = []
        for table, key in rows:
            with suppress(SealBroken):  # the alarm was given where it was found
                secret = self._secret(table, key)
                if secret is not None and secret.wrapped.root_key_id != to:
                    anew.append((secret, self._wrapped_anew(secret)))
        return self._ledger.change(lambda change: _put(change, anew, to))

    def _secret(self, table: Table, key: Key) -> KeptSecret | None:
        with self._ledger.looking() as look:
            return kept_secret(look, table, key, self._cluster)

    def _wrapped_anew(self, secret: KeptSecret) -> Wrapped:
        try:
            opened = self._keyring.unwrap(secret.record, secret.wrapped)
        except SealBroken:
            _log.error("store.altered", row=secret.table.called(secret.key))
            raise
        try:
            return self._keyring.wrap(secret.record, opened)
        finally:
            opened.wipe()

    def _under_others(self, to: str) -> list[tuple[Table, Key]]:
        with self._ledger.looking() as look:
            return _under_others(look, to)

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        with self._ledger.looking() as look:
            for table in SECRETS:
                query = f"SELECT root_key_id, count(*) FROM {table.name} GROUP BY root_key_id"  # noqa: S608  # constants
                for key_id, count in look.cursor.execute(query):
                    counts[key_id] = counts.get(key_id, 0) + count
        return counts


async def rotating(rotation: Rotation, roots: Roots, look_s: float = LOOK_S) -> None:
    """Go on with what was begun, and keep the back ends open, for as long as the service runs."""
    while True:
        rotation.wanted.clear()
        await asyncio.to_thread(roots.keep_alive)
        try:
            done = await asyncio.to_thread(rotation.sweep)
        except (NotReady, Unavailable) as error:
            _log.warning("root.not_rotated", reason=error.reason, error=error)
        else:
            if done:
                _log.info("root.rotated", secrets=done)
        with suppress(TimeoutError):
            async with asyncio.timeout(look_s):
                await rotation.wanted.wait()


def _put(change: Change, anew: Sequence[tuple[KeptSecret, Wrapped]], to: str) -> int:
    """Put wraps in the place of those that they were made of, and the lines; what has changed meanwhile is left."""
    put = [secret for secret, wrapped in anew if _put_one(change, secret, wrapped)]
    if put:
        others = sorted({secret.wrapped.root_key_id for secret in put})
        names = [secret.table.called(secret.key) for secret in put]
        change.line(REWRAPPED, to_root=to, from_roots=others, secrets=names)
    if not _under_others(change, to):
        change.line(ENDED, to_root=to)
    return len(put)


def _put_one(change: Change, secret: KeptSecret, wrapped: Wrapped) -> bool:
    table = secret.table
    query = f"SELECT {', '.join(table.wrapped)} FROM {table.name} WHERE {table.found}"  # noqa: S608  # constants
    found = change.cursor.execute(query, table.key_values(secret.key)).fetchone()
    if found != (secret.wrapped.content, secret.wrapped.root_key_id):
        return False
    put_wrapped(change, secret, wrapped)
    return True


def _under_others(look: Look, to: str) -> list[tuple[Table, Key]]:
    """Where secrets lie under another root key than this."""
    found = []
    for table in SECRETS:
        query = f"SELECT {', '.join(table.key)} FROM {table.name} WHERE root_key_id <> ?"  # noqa: S608  # constants
        found += [(table, Key(*row)) for row in look.cursor.execute(query, (to,))]
    return found
