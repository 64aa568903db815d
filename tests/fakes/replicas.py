"""Replicas of a verifier's state over one real Redis, without the verifiers around them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cloister.appraisal import freshness
from cloister.kit.redis import connected
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.collateral_memory import CollateralMemory
from cloister.verifier.lift_orders import LiftOrders
from cloister.verifier.replicas import scripts
from cloister.verifier.replicas.ages import SharedMemory
from cloister.verifier.replicas.challenges import SharedNonces
from cloister.verifier.replicas.entries import Kind
from cloister.verifier.replicas.link import Link
from cloister.verifier.replicas.listening import Listening
from cloister.verifier.replicas.members import SharedMembers
from cloister.verifier.replicas.revocations import SharedRevocations
from cloister.verifier.replicas.runner import Runner
from cloister.verifier.replicas.sealing import RecordSeal
from cloister.verifier.revocations import Revocations, RevocationStore
from cloister.verifier.rulings import Ruling
from fakes.pki import CLUSTER
from fakes.redis_server import RedisServer

PREFIX = f"{CLUSTER}:verifier:"


class Remembered:
    """A `CollateralMemory` that forgets when the test ends."""

    def __init__(self) -> None:
        self._newest: dict[str, list[int]] = {}

    def newest(self) -> dict[str, list[int]]:
        return dict(self._newest)

    def remember(self, ages: Mapping[str, list[int]]) -> None:
        self._newest = freshness.newest(self._newest, ages)


class Kept:
    """A `RevocationStore` that forgets when the test ends."""

    def __init__(self, rulings: Sequence[Ruling] = ()) -> None:
        self.rulings = list(rulings)

    def load(self) -> list[Ruling]:
        return list(self.rulings)

    def save(self, rulings: Sequence[Ruling]) -> None:
        self.rulings = list(rulings)


@dataclass
class Replica:
    """One replica's state, its loops under way.

    Attributes:
        refusals: Reasons of everything in Redis that it refused.
    """

    link: Link
    nonces: SharedNonces
    attested: AttestedWorkers
    ages: SharedMemory
    revocations: Revocations
    refusals: list[str] = field(default_factory=list)

    async def session_after(self) -> None:
        """Wait until a session is under way."""
        await until(lambda: self.link._journal is not None)

    async def settle(self) -> None:
        """Wait until this replica has heard all that is in the stream now."""
        journal = self.link.journal
        number, _ = await self.link.write(scripts.WRITE, Kind.TICK, b"")
        await until(lambda: journal._peers[journal.session].number >= number)


async def met(*replicas: Replica) -> None:
    """Wait until they know each other, so that what one issues is good at all."""

    def known() -> bool:
        journals = [each.link.journal for each in replicas]
        return all(one.sight().get(other.session, 0) >= other._floor for one in journals for other in journals)

    await until(known)


async def until(true: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait for something that other tasks bring about."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def replica(
    server: RedisServer,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ttl_s: float = 60.0,
    shared_key: bytes = b"s" * 32,
    per_peer: int = 1024,
    capacity: int = 65_536,
    memory: CollateralMemory | None = None,
    kept: RevocationStore | None = None,
    orders: LiftOrders | None = None,
) -> AsyncIterator[Replica]:
    """A replica that has begun its first session."""
    refusals: list[str] = []
    seal = RecordSeal(shared_key, CLUSTER)
    async with connected(server.settings(timeout_s=2.0)) as client:
        runner = Runner(client, prefix=PREFIX, timeout_s=2.0, on_refused=refusals.append)
        link = Link(runner, seal, ttl_s=ttl_s, monotonic=monotonic)
        store = SharedMembers(link, runner, seal, max_life_s=3600, now=now)
        attested = AttestedWorkers(monotonic=monotonic, store=store)
        ages = SharedMemory(memory or Remembered(), link, asyncio.get_running_loop())
        revocations = Revocations(kept or Kept(), now=now)
        shared = SharedRevocations(revocations, attested, link, runner, orders=orders or LiftOrders(CLUSTER))
        listening = Listening(store, attested, ages, shared, runner)
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(loop) for loop in (link.writing(), link.calling(), ages.telling(), attested.keeping())
            ]
            await link.begin(listening)
            loops += [
                group.create_task(loop) for loop in (link.following(listening), shared.telling(), shared.watching())
            ]
            nonces = SharedNonces(link, runner, seal, per_peer=per_peer, capacity=capacity)
            try:
                yield Replica(link, nonces, attested, ages, revocations, refusals)
            finally:
                link.close()
                for loop in loops:
                    loop.cancel()
