"""Who is attested now, and who wants to know.

A worker is a member from its first accepted evidence until its Attestation Result ends, it leaves, or it is revoked.
Its instance name is pinned to the keys of its first evidence for as long as any result for them lives, past leaving
too: the same instance with another key is another party and is refused. Only its HPKE key may be a new one.

A watcher first gets everyone as they are (JOINED each, then CURRENT), then each change. Its queue is bounded: one that
does not keep up is cut and must begin again, which gives it a fresh and complete picture.

What is said here is kept in a `MemberStore`, so it outlives this process, and reaches other verifiers where there are
several. What comes from there, from the past or from a peer, comes in by `merge`.

Called on the event loop only. Time is monotonic.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from cloister.errors import EvidenceRejected, NotReady, Overloaded, Unavailable
from cloister.verifier.member import Change, Event, Keys, Member, MemberRecord
from cloister.verifier.watchers import Watchers

__all__ = ["AttestedWorkers", "Change", "Event", "Keys", "Member", "MemberStore"]

RETRY_S: Final = 0.5


class MemberStore(Protocol):
    """Where members and the pins of their keys are kept."""

    async def pin(self, instance: str, keys: Keys, *, life_s: float) -> None:
        """Bind an instance name to its keys for `life_s` from now, wherever this store is read.

        Raises:
            EvidenceRejected: It is bound to others (`instance.keys_changed`).
            Unavailable: That cannot be kept.
        """

    async def put(self, record: MemberRecord, *, life_s: float) -> None:
        """Keep a record for `life_s` from now, unless one of a higher rank is kept; raises Unavailable."""


@dataclass(slots=True)
class _Pin:
    keys: Keys
    ends_at: float


@dataclass(frozen=True, slots=True)
class _Held:
    record: MemberRecord
    ends_at: float


class AttestedWorkers:
    """The members, their expiry, and the watchers.

    Args:
        monotonic: A clock that never goes back, in seconds.
        store: Keeps them; without one they live in memory only.
        capacity: Most instances known at once, those that left included until their results end.
        queue_limit: Most events that wait for one watcher.
        watcher_limit: Most watchers at once.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        store: MemberStore | None = None,
        capacity: int = 16_384,
        queue_limit: int = 1024,
        watcher_limit: int = 256,
    ) -> None:
        self._monotonic = monotonic
        self._store = store
        self._capacity = capacity
        self._held: dict[str, _Held] = {}
        self._pins: dict[str, _Pin] = {}
        self._unkept: dict[str, _Held] = {}
        self._watchers = Watchers(queue_limit=queue_limit, watcher_limit=watcher_limit)
        self._soonest = math.inf
        self._sooner = asyncio.Event()
        self._unkept_grew = asyncio.Event()

    def __len__(self) -> int:
        return len(self.members)

    @property
    def members(self) -> list[Member]:
        """Everyone attested now; for any thread."""
        return [held.record.member for held in list(self._held.values()) if not held.record.removed]

    @property
    def records(self) -> list[tuple[MemberRecord, float]]:
        """All that is known, removals too, and for how many seconds it still counts."""
        now = self._monotonic()
        return [(held.record, held.ends_at - now) for held in self._held.values() if held.ends_at > now]

    def count(self, *, simulated: bool) -> int:
        """How many members there are under a simulated anchor, or under Intel's; for any thread."""
        return sum(member.simulated == simulated for member in self.members)

    def get(self, instance: str) -> Member | None:
        """The member with this instance name, if it is attested now."""
        held = self._held.get(instance)
        return held.record.member if held is not None and not held.record.removed else None

    def ends_at(self, instance: str) -> float | None:
        """When the membership of `instance` ends, on our clock; None where it has none."""
        held = self._held.get(instance)
        return held.ends_at if held is not None and not held.record.removed else None

    async def pin(self, instance: str, keys: Keys, *, life_s: float) -> None:
        """Bind an instance name to its keys for `life_s` from now, or find that it is bound to others.

        Raises:
            EvidenceRejected: The instance is known with another key (`instance.keys_changed`).
            Overloaded: Too many instances are known.
            Unavailable: It cannot be kept.
        """
        self._check_pin(instance, keys)
        if self._store is not None:
            await self._store.pin(instance, keys, life_s=life_s)
        self._pin_here(instance, keys, life_s)

    async def admit(self, member: Member, *, life_s: float) -> None:
        """Make `member` known to all watchers for `life_s` from now; its keys are pinned by this too.

        Raises:
            EvidenceRejected: The instance is known with another key.
            Overloaded: Too many instances are known.
            Unavailable: It cannot be kept; nobody hears of it.
        """
        await self.pin(member.instance, member.keys, life_s=life_s)
        held = self._held.get(member.instance)
        # Counting from the end of the result, later memberships outrank those that somebody may have forgotten.
        version = max(int(member.expires_at.timestamp() * 1000), held.record.version + 1 if held else 0)
        record = MemberRecord(member, version)
        if self._store is not None:
            await self._store.put(record, life_s=life_s)
        self.merge(record, life_s=life_s)

    def leave(self, instance: str) -> bool:
        """Take a member out because it says it is going; says whether there was one."""
        return self._remove(instance, "left")

    def revoke(self, instance: str) -> bool:
        """Take a member out because it is not believed any more; says whether there was one. Its pin stays."""
        return self._remove(instance, "revoked")

    def merge(self, record: MemberRecord, *, life_s: float) -> None:
        """Take in what is known of an instance, unless more is known already.

        Raises:
            EvidenceRejected: The instance is known with another key.
            Overloaded: Too many instances are known.
        """
        member, now = record.member, self._monotonic()
        before = self._held.get(member.instance)
        if life_s <= 0 or (before is not None and before.record.rank >= record.rank):
            return
        self._pin_here(member.instance, member.keys, life_s)
        self._held[member.instance] = held = _Held(record, now + life_s)
        if held.ends_at < self._soonest:
            self._soonest = held.ends_at
            self._sooner.set()
        was = before.record.member if before is not None and not before.record.removed else None
        if not record.removed:
            self._watchers.publish(Event(Change.JOINED if was is None else Change.RENEWED, member))
        elif was is not None:
            self._watchers.publish(Event(Change.GONE, was, record.removed))

    def expire(self) -> float | None:
        """Take out all whose results have ended.

        Returns:
            Seconds until the next end, or None when nobody is left.
        """
        now = self._monotonic()
        for instance in [name for name, pin in self._pins.items() if pin.ends_at <= now]:
            del self._pins[instance]
        for instance, held in list(self._held.items()):
            if held.ends_at <= now:
                del self._held[instance]
                if not held.record.removed:
                    self._watchers.publish(Event(Change.GONE, held.record.member, "expired"))
        return min((held.ends_at - now for held in self._held.values()), default=None)

    async def expiring(self) -> None:
        """Take members out as their results end, for as long as the service runs."""
        while True:
            self._sooner.clear()
            wait_s = self.expire()
            self._soonest = math.inf if wait_s is None else self._monotonic() + wait_s
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._sooner.wait()

    def keep(self, instance: str) -> None:
        """Have what is known of an instance kept soon: a removal, or what the store has lost."""
        held = self._held.get(instance)
        if held is not None:
            self._unkept[instance] = held
            self._unkept_grew.set()

    async def keeping(self) -> None:
        """See that this happens, for as long as the service runs."""
        while self._store is not None:
            await self._unkept_grew.wait()
            self._unkept_grew.clear()
            for instance, held in list(self._unkept.items()):
                try:
                    await self._store.put(held.record, life_s=held.ends_at - self._monotonic())
                except (Unavailable, Overloaded, NotReady):
                    await asyncio.sleep(RETRY_S)
                    self._unkept_grew.set()
                else:
                    if self._unkept[instance] is held:
                        del self._unkept[instance]

    def watching(self) -> AbstractContextManager[AsyncIterator[Event]]:
        """Everyone as they are, then CURRENT, then each change as it happens.

        Raises:
            Overloaded: There are too many watchers; while iterating: this one was too slow (`watcher.cut`).
            Unavailable: This service is going; while iterating too.
        """
        joined = [Event(Change.JOINED, member) for member in self.members]
        return self._watchers.watching([*joined, Event(Change.CURRENT)])

    def close(self) -> None:
        """Tell every watcher that this service is going: they begin again, elsewhere or later."""
        self._watchers.close()

    def _remove(self, instance: str, reason: str) -> bool:
        held = self._held.get(instance)
        if held is None or held.record.removed:
            return False
        record = MemberRecord(held.record.member, held.record.version, reason)
        self.merge(record, life_s=held.ends_at - self._monotonic())
        self.keep(instance)
        return True

    def _check_pin(self, instance: str, keys: Keys) -> None:
        held = self._pins.get(instance)
        if held is not None and held.ends_at > self._monotonic() and held.keys.lasting != keys.lasting:
            raise EvidenceRejected("this instance is known with other keys", reason="instance.keys_changed")

    def _pin_here(self, instance: str, keys: Keys, life_s: float) -> None:
        self._check_pin(instance, keys)
        held, ends_at = self._pins.get(instance), self._monotonic() + life_s
        if held is None and len(self._pins) >= self._capacity:
            self.expire()
            if len(self._pins) >= self._capacity:
                raise Overloaded("too many instances are attested", reason="instances.full")
        self._pins[instance] = _Pin(keys, max(ends_at, held.ends_at if held is not None else 0.0))
