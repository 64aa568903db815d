"""Who is attested now, and who wants to know.

A worker is a member from its first accepted evidence until its Attestation Result ends, it leaves, or it is replaced.
Its instance name is pinned to the keys of its first evidence for as long as any result for them lives, past leaving
too: the same instance with another key is another party and is refused.

A watcher first gets everyone as they are (JOINED each, then CURRENT), then each change. Its queue is bounded: one that
does not keep up is cut and must begin again, which gives it a fresh and complete picture.

Called on the event loop only. Time is monotonic.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from cloister.errors import CloisterError, EvidenceRejected, Overloaded, Unavailable


@dataclass(frozen=True, slots=True)
class Keys:
    """The public keys that one start of a worker speaks with."""

    tls_spki_sha256: bytes
    receipt_key: bytes
    hpke_suite: str
    hpke_public: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """An attested worker, with what a third party needs in order to judge it.

    Attributes:
        endpoint: host:port to reach it at, as it says; a hint for routing, believed by nobody.
        collateral: JSON, exactly as the verifier used it.
        expires_at: End of its Attestation Result.
    """

    instance: str
    spiffe_id: str
    server_name: str
    endpoint: str
    keys: Keys
    claims: bytes
    quote: bytes
    collateral: bytes
    attestation_result: str
    expires_at: datetime
    simulated: bool


class Change(Enum):
    """What happened to a member; CURRENT says that the snapshot is complete."""

    JOINED = "joined"
    RENEWED = "renewed"
    GONE = "gone"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of what a watcher hears. `reason` is set for GONE: left, expired or revoked."""

    change: Change
    member: Member | None = None
    reason: str = ""


class _Watcher:
    """What waits for one watcher, and why nothing more will come."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Event] = deque()
        self._wake = asyncio.Event()
        self.end: CloisterError | None = None

    def offer(self, event: Event) -> None:
        if len(self._waiting) >= self._limit:
            self.stop(Overloaded("the watcher did not keep up; begin again", reason="watcher.cut"))
        self._waiting.append(event)
        self._wake.set()

    def stop(self, end: CloisterError) -> None:
        self.end = end
        self._wake.set()

    async def next(self) -> Event:
        while self.end is None and not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        if self.end is not None:
            raise self.end
        return self._waiting.popleft()


@dataclass(slots=True)
class _Pin:
    keys: Keys
    ends_at: float


class AttestedWorkers:
    """The members, their expiry, and the watchers.

    Args:
        monotonic: A clock that never goes back, in seconds.
        capacity: Most instances known at once, those that left included until their results end.
        queue_limit: Most events that wait for one watcher.
        watcher_limit: Most watchers at once.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        capacity: int = 16_384,
        queue_limit: int = 1024,
        watcher_limit: int = 256,
    ) -> None:
        self._monotonic = monotonic
        self._capacity = capacity
        self._queue_limit = queue_limit
        self._watcher_limit = watcher_limit
        self._members: dict[str, tuple[Member, float]] = {}
        self._pins: dict[str, _Pin] = {}
        self._watchers: set[_Watcher] = set()
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._members)

    def count(self, *, simulated: bool) -> int:
        """How many members there are under a simulated anchor, or under Intel's; for any thread."""
        return sum(member.simulated == simulated for member, _ in list(self._members.values()))

    def get(self, instance: str) -> Member | None:
        """The member with this instance name, if it is attested now."""
        held = self._members.get(instance)
        return held[0] if held is not None else None

    @property
    def members(self) -> list[Member]:
        """Everyone attested now; for any thread."""
        return [member for member, _ in list(self._members.values())]

    def pin(self, instance: str, keys: Keys, *, life_s: float) -> None:
        """Bind an instance name to its keys for `life_s` from now, or find that it is bound to others.

        Raises:
            EvidenceRejected: The instance is known with another key (`instance.keys_changed`).
            Overloaded: Too many instances are known.
        """
        now = self._monotonic()
        held = self._pins.get(instance)
        if held is not None and held.ends_at > now:
            if held.keys != keys:
                raise EvidenceRejected("this instance is known with other keys", reason="instance.keys_changed")
            held.ends_at = max(held.ends_at, now + life_s)
            return
        if held is None and len(self._pins) >= self._capacity:
            self.expire()
            if len(self._pins) >= self._capacity:
                raise Overloaded("too many instances are attested", reason="instances.full")
        self._pins[instance] = _Pin(keys, now + life_s)

    def admit(self, member: Member, *, life_s: float) -> Change:
        """Make `member` known to all watchers for `life_s` from now; its keys are pinned by this too.

        Raises:
            EvidenceRejected: The instance is known with another key.
            Overloaded: Too many instances are known.
        """
        self.pin(member.instance, member.keys, life_s=life_s)
        change = Change.RENEWED if member.instance in self._members else Change.JOINED
        self._members[member.instance] = (member, self._monotonic() + life_s)
        self._changed.set()
        self._publish(Event(change, member))
        return change

    def leave(self, instance: str) -> bool:
        """Take a member out because it says it is going; says whether there was one."""
        return self._remove(instance, "left")

    def revoke(self, instance: str) -> bool:
        """Take a member out because it is not believed any more; says whether there was one. Its pin stays."""
        return self._remove(instance, "revoked")

    def expire(self) -> float | None:
        """Take out all whose results have ended.

        Returns:
            Seconds until the next end, or None when nobody is left.
        """
        now = self._monotonic()
        for instance in [name for name, pin in self._pins.items() if pin.ends_at <= now]:
            del self._pins[instance]
        for instance, (member, ends_at) in list(self._members.items()):
            if ends_at <= now:
                del self._members[instance]
                self._publish(Event(Change.GONE, member, "expired"))
        return min((ends_at - now for _, ends_at in self._members.values()), default=None)

    async def expiring(self) -> None:
        """Take members out as their results end, for as long as the service runs."""
        while True:
            self._changed.clear()
            wait_s = self.expire()
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    @contextmanager
    def watching(self) -> Iterator[AsyncIterator[Event]]:
        """Everyone as they are, then CURRENT, then each change as it happens.

        Raises:
            Overloaded: There are too many watchers; while iterating: this one was too slow (`watcher.cut`).
            Unavailable: This service is going; while iterating too.
        """
        if self._closed:
            raise _draining()
        if len(self._watchers) >= self._watcher_limit:
            raise Overloaded("too many are watching", reason="watchers.full")
        watcher = _Watcher(self._queue_limit)
        snapshot = [Event(Change.JOINED, member) for member, _ in self._members.values()]
        self._watchers.add(watcher)
        try:
            yield _events(watcher, [*snapshot, Event(Change.CURRENT)])
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        """Tell every watcher that this service is going: they begin again, elsewhere or later."""
        self._closed = True
        for watcher in self._watchers:
            watcher.stop(_draining())
        self._watchers.clear()

    def _remove(self, instance: str, reason: str) -> bool:
        held = self._members.pop(instance, None)
        if held is None:
            return False
        self._publish(Event(Change.GONE, held[0], reason))
        return True

    def _publish(self, event: Event) -> None:
        for watcher in list(self._watchers):
            watcher.offer(event)
            if watcher.end is not None:
                self._watchers.discard(watcher)


def _draining() -> Unavailable:
    return Unavailable("the verifier is draining", reason="peer.draining")


async def _events(watcher: _Watcher, snapshot: list[Event]) -> AsyncIterator[Event]:
    for event in snapshot:
        yield event
    while True:
        yield await watcher.next()
