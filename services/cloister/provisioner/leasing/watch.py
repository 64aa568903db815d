"""What workers hear of their leases, as soon as it is on record (docs/decisions/0057-leases.md; attacks F13, J14).

A lease was given by a line of the record, and each model has the line that changed it last: a version, a policy, a set
of signers, a withdrawal, a lift. A lease whose line comes before that one is under terms that are no longer today's:
its worker is to ask again, or, where what it holds is withdrawn, to drop it. So a stream that begins tells at once what
was missed, and after a restart of this service nobody asks who need not.

A worker hears only of leases that its own instance was given. Of any other it hears what it hears of one that nobody
remembers, as after a state was put back: that it has changed, whenever anything changes of any model. Called on the
event loop, but for `tell`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from cloister.api.v1.provisioner_pb2 import LeaseEvent
from cloister.errors import CloisterError, InvalidRequest, Overloaded, Unavailable
from cloister.kit.log import get_logger

SIGN_OF_LIFE_S: Final = 2.0
MAX_WATCHERS: Final = 20_000
MAX_OF_INSTANCE: Final = 4
MAX_LEASES: Final = 1024
"""That one worker names."""
ASKED_PER_S: Final = 100
"""How many workers at once are asked to come again within a second."""
MOST_WITHIN_MS: Final = 10_000
ANY: Final = ""
"""Stands for every model's name among those that are watched."""
_log = get_logger()


class GivenLease(NamedTuple):
    """A lease on record.

    Attributes:
        sequence: Of the line that gave it.
    """

    name: str
    version: int
    sequence: int


class Terms(NamedTuple):
    """What holds for a model now.

    Attributes:
        changed_at: Sequence of the line that changed it last.
        withdrawn: Versions that are withdrawn; 0 among them for all.
    """

    changed_at: int = 0
    withdrawn: frozenset[int] = frozenset()

    def end(self, lease: GivenLease) -> bool:
        """Whether what the lease is for is withdrawn."""
        return not self.withdrawn.isdisjoint({0, lease.version})


@dataclass(frozen=True, slots=True)
class LeaseDesk:
    """Where the watch looks things up. Both block, and raise Unavailable and SealBroken.

    Attributes:
        given: Of these lease ids, those that this instance was given and that go still.
        terms: Of the model of this name.
    """

    given: Callable[[str, Collection[str]], Mapping[str, GivenLease]]
    terms: Callable[[str], Terms]


class _Watcher:
    """The leases of one stream that nothing has been said of yet."""

    def __init__(self, leases: dict[str, GivenLease], unknown: list[str]) -> None:
        self.leases = leases
        self.unknown = unknown
        self.anything_changed = False
        self.news = asyncio.Event()

    @property
    def names(self) -> set[str]:
        return {lease.name for lease in self.leases.values()}


class LeaseWatch:
    """Tells each worker what becomes of its leases.

    Args:
        desk: Looks things up.
        loop: On which it runs.
        sign_of_life_s: The longest without an event.
    """

    def __init__(
        self, desk: LeaseDesk, loop: asyncio.AbstractEventLoop, *, sign_of_life_s: float = SIGN_OF_LIFE_S
    ) -> None:
        self._desk = desk
        self._loop = loop
        self._sign_of_life_s = sign_of_life_s
        self._watchers: defaultdict[str, set[_Watcher]] = defaultdict(set)
        self._terms: dict[str, Terms] = {}
        self._of_instance: Counter[str] = Counter()
        self._closed = False

    def tell(self, name: str) -> None:
        """Say that something about a model has changed, once that is durable. Blocks; for any thread but the loop's."""
        try:
            known = self._desk.terms(name)
        except CloisterError as error:  # the change is made; whoever renews goes by it
            _log.error("leases.untold", model=name, reason=error.reason, error=error)
            return
        self._loop.call_soon_threadsafe(self._hear, name, known)

    def close(self) -> None:
        """Send everyone away: this service is going."""
        self._closed = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.news.set()

    async def events(self, instance: str, lease_ids: Collection[str]) -> AsyncGenerator[LeaseEvent, None]:
        """News of these leases, and a sign of life every two seconds; for as long as somebody listens.

        Raises:
            InvalidRequest: There are too many, or one is no lease id.
            Overloaded: Too many are watching, or this worker too often.
            Unavailable: This service is going, or cannot look them up.
        """
        if len(lease_ids) > MAX_LEASES or any(len(each) > 64 for each in lease_ids):
            raise InvalidRequest(f"a worker names {MAX_LEASES} leases at most", reason="leases.invalid")
        with self._entered(instance):
            given = dict(await asyncio.to_thread(self._desk.given, instance, lease_ids))
            with self._watching(_Watcher(given, sorted(set(lease_ids) - given.keys()))) as watcher:
                await self._look_up(watcher.names)
                event = LeaseEvent()
                while not self._closed:
                    event.sequence += 1
                    self._say(watcher, event)
                    yield event
                    event = LeaseEvent(sequence=event.sequence)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._sign_of_life_s):
                            await watcher.news.wait()
                    watcher.news.clear()
        raise Unavailable("the provisioner is draining", reason="peer.draining")

    async def _look_up(self, names: Collection[str]) -> None:
        def found() -> list[tuple[str, Terms]]:
            return [(name, self._desk.terms(name)) for name in names]

        for name, terms in await asyncio.to_thread(found):
            self._adopt(name, terms)

    @contextmanager
    def _entered(self, instance: str) -> Iterator[None]:
        if self._of_instance.total() >= MAX_WATCHERS or self._of_instance[instance] >= MAX_OF_INSTANCE:
            raise Overloaded("too many are watching", reason="watchers.full")
        self._of_instance[instance] += 1
        try:
            yield
        finally:
            self._of_instance[instance] -= 1
            if not self._of_instance[instance]:
                del self._of_instance[instance]

    @contextmanager
    def _watching(self, watcher: _Watcher) -> Iterator[_Watcher]:
        names = watcher.names | ({ANY} if watcher.unknown else set())
        for name in names:
            self._watchers[name].add(watcher)
        try:
            yield watcher
        finally:
            for name in names:
                self._watchers[name].discard(watcher)
                if not self._watchers[name]:
                    del self._watchers[name]
                    self._terms.pop(name, None)

    def _hear(self, name: str, terms: Terms) -> None:
        self._adopt(name, terms)
        for watcher in self._watchers.get(ANY, ()):
            watcher.anything_changed = True
            watcher.news.set()

    def _adopt(self, name: str, terms: Terms) -> None:
        """Take over what is known of a model, unless newer is, and wake whom it concerns."""
        if name in self._watchers and terms.changed_at >= self._terms.get(name, Terms()).changed_at:
            self._terms[name] = terms
            for watcher in self._watchers[name]:
                watcher.news.set()

    def _say(self, watcher: _Watcher, event: LeaseEvent) -> None:
        """Put into an event what there is to say, once for each lease."""
        if watcher.unknown and watcher.anything_changed:
            event.changed.extend(watcher.unknown)
            event.within_ms = _within_ms(self._of_instance.total())
            watcher.unknown = []
        for lease_id, lease in list(watcher.leases.items()):
            terms = self._terms[lease.name]
            if terms.end(lease):
                event.ended.append(lease_id)
            elif terms.changed_at > lease.sequence:
                event.changed.append(lease_id)
                event.within_ms = max(event.within_ms, _within_ms(len(self._watchers[lease.name])))
            else:
                continue
            del watcher.leases[lease_id]


def _within_ms(workers: int) -> int:
    return min(MOST_WITHIN_MS, workers * 1000 // ASKED_PER_S)
