"""What is revoked: in force from the moment it is on disk, past every restart (attacks E11, J14).

The list is small and read at every appraisal, so it is held whole, lifts included: they are what keeps an older copy
from bringing back what was lifted (`rulings.py`). `RevocationStore` is where it is kept. A revocation may end by
itself: that is how a member which no longer passes today's policy is put out for as long as its results live, and no
longer.

`check` and the properties are for any thread. Everything else is called on the event loop only; the store's calls block
and are made off it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from cloister.errors import AlreadyExists, EvidenceRejected, InvalidRequest, NotFound, NotReady, Overloaded, Unavailable
from cloister.kit.revocation import Name, Names
from cloister.rpc.files import read_private, replace_private
from cloister.verifier.rulings import Revocation, Ruling, decoded, encoded, succeeding

# In force, and as many lifts that are remembered.
MAX_REVOCATIONS: Final = 10_000


class RevocationStore(Protocol):
    """Where revocations are kept. Both calls block."""

    def load(self) -> list[Ruling]:
        """Everything that was saved last; raises NotReady when that cannot be told."""

    def save(self, rulings: Sequence[Ruling]) -> None:
        """Keep exactly these, or what was kept before; raises Unavailable."""


class Revocations:
    """The revocations in force.

    Args:
        store: Keeps them.
        now: Aware UTC.

    Attributes:
        version: Goes up by one with every change.
    """

    def __init__(self, store: RevocationStore, *, now: Callable[[], datetime]) -> None:
        self.version = 1
        self._store = store
        self._now = now
        self._held: Mapping[Name, Ruling] = {each.name: each for each in store.load()}
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def rulings(self) -> list[Ruling]:
        """All that was ruled and may still count, the last change last."""
        now = self._now()
        return [each for each in self._held.values() if not each.has_ended(now)]

    @property
    def in_force(self) -> list[Revocation]:
        """All revocations that count, oldest first."""
        return [each.revocation for each in self.rulings if not each.lifted]

    @property
    def names(self) -> frozenset[Name]:
        """What they name."""
        return frozenset(each.name for each in self.in_force)

    def check(self, names: Names) -> None:
        """Raise if a worker of these names must not be believed.

        Raises:
            EvidenceRejected: At step 7; `measurement.revoked`, `signer.revoked`, `platform.revoked` or
                `instance.revoked`.
        """
        held, now = self._held, self._now()
        for name in names:
            found = held.get(name)
            if found is not None and found.binds(now):
                raise EvidenceRejected(f"its {name.kind.value} is revoked", step=7, reason=name.kind.refusal)

    async def add(self, added: Revocation) -> None:
        """Bring a revocation into force; one that would end by itself changes nothing where one holds for good.

        Raises:
            Overloaded: There are too many.
            Unavailable: It cannot be kept; nothing has changed.
        """
        async with self._writing:
            held = self._held.get(added.name)
            if added.ends_at is not None and held is not None and _for_good(held):
                return
            wanted = self._with([succeeding(held, added)])
            if sum(not each.lifted for each in wanted.values()) > MAX_REVOCATIONS:
                raise Overloaded(f"more than {MAX_REVOCATIONS} revocations are in force", reason="revocations.full")
            await self._save(wanted)
            self._adopt(wanted)

    async def lift(self, name: Name, order: bytes = b"") -> None:
        """Take one out of force; `order` is kept with it.

        Raises:
            NotFound: It is not revoked.
            Unavailable: That cannot be kept; it stays revoked.
        """
        async with self._writing:
            self.held(name)
            wanted = self._with([replace(self._held[name], lifted=True, order=order)])
            await self._save(wanted)
            self._adopt(wanted)

    def news(self, rulings: Iterable[Ruling]) -> list[Ruling]:
        """Those of another verifier's rulings that outrank what is held here."""
        now = self._now()
        return [each for each in rulings if not each.has_ended(now) and self._is_news(each)]

    async def merge(self, rulings: Iterable[Ruling]) -> None:
        """Take in what another verifier ruled, as far as it is news: in force first, then kept.

        Raises:
            Unavailable: It counts now, and a restart may forget it.
        """
        async with self._writing:
            news = self.news(rulings)
            if news:
                self._adopt(self._with(news))
                await self._save(self._held)

    def check_new(self, name: Name) -> None:
        """Raise AlreadyExists if it is revoked for good already."""
        held = self._held.get(name)
        if held is not None and _for_good(held):
            raise AlreadyExists(f"this {name.kind.value} is revoked already")

    def held(self, name: Name) -> Revocation:
        """The revocation of this name; raises NotFound if it is not revoked."""
        found = self._held.get(name)
        if found is None or not found.binds(self._now()):
            raise NotFound(f"this {name.kind.value} is not revoked")
        return found.revocation

    async def changed(self, version: int) -> None:
        """Wait until there is a later version than this; raises Unavailable when this service is going."""
        while self.version <= version and not self._closed:
            await self._changed.wait()
        if self._closed:
            raise Unavailable("the verifier is draining", reason="peer.draining")

    def tell_again(self) -> None:
        """Wake everyone who waits for changes: what they are told besides has changed."""
        self._adopt(self._held)

    def close(self) -> None:
        """Send everyone away who waits for changes."""
        self._closed = True
        self._changed.set()

    async def expiring(self, *, every_s: float = 1.0) -> None:
        """Notice, for as long as the service runs, that a revocation has ended by itself."""
        while True:
            await asyncio.sleep(every_s)
            current = self.rulings
            if len(current) != len(self._held):
                self._adopt({each.name: each for each in current})

    def _is_news(self, ruling: Ruling) -> bool:
        held = self._held.get(ruling.name)
        if held is None:
            return True
        # What ends by itself never takes the place of what does not, however it is versioned: its end would be a lift.
        return held.rank < ruling.rank and (ruling.lasts or not _for_good(held))

    def _with(self, changed: Sequence[Ruling]) -> dict[Name, Ruling]:
        """What holds after a change. Of too many lifts the oldest are forgotten, which lifts nothing."""
        now, new = self._now(), {each.name: each for each in changed}
        every = {name: each for name, each in self._held.items() if name not in new and not each.has_ended(now)} | new
        lifted = [name for name, each in every.items() if each.lifted]
        for name in lifted[:-MAX_REVOCATIONS]:
            del every[name]
        return every

    async def _save(self, wanted: Mapping[Name, Ruling]) -> None:
        await asyncio.to_thread(self._store.save, list(wanted.values()))

    def _adopt(self, wanted: Mapping[Name, Ruling]) -> None:
        self._held = dict(wanted)
        self.version += 1
        before, self._changed = self._changed, asyncio.Event()
        before.set()


class RevocationFile:
    """Revocations in a JSON file that is replaced whole, and is nobody else's to write."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[Ruling]:
        """See `RevocationStore`; a file that is damaged, or not there where it was, stops the verifier."""
        if not self._path.exists():
            return []
        try:
            return decoded(read_private(self._path))
        except (ValueError, KeyError, TypeError, InvalidRequest) as error:
            raise NotReady(
                f"{self._path} cannot be read, so nothing says what is revoked; put its last copy back, or remove it "
                "and revoke anew what the record says was revoked",
                reason="revocations.lost",
            ) from error

    def save(self, rulings: Sequence[Ruling]) -> None:
        """See `RevocationStore`."""
        try:
            replace_private(self._path, encoded(rulings))
        except OSError as error:
            raise Unavailable("the revocation cannot be written", reason="state.unavailable") from error


def _for_good(ruling: Ruling) -> bool:
    return ruling.lasts and not ruling.lifted
