"""Where a verifier's state lives: on this machine, or in a Redis that several verifiers share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.kit.redis import RedisSettings, connected
from cloister.kit.redis_checks import check_server
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.collateral_memory import FILE_NAME as COLLATERAL_MEMORY
from cloister.verifier.collateral_memory import CollateralMemory, FileMemory
from cloister.verifier.lift_orders import LiftOrders
from cloister.verifier.member_file import MemberFile
from cloister.verifier.nonces import Challenges, Nonces
from cloister.verifier.replicas.ages import SharedMemory
from cloister.verifier.replicas.challenges import SharedNonces
from cloister.verifier.replicas.link import Link
from cloister.verifier.replicas.listening import Listening
from cloister.verifier.replicas.members import SharedMembers
from cloister.verifier.replicas.revocations import SharedRevocations
from cloister.verifier.replicas.runner import Runner
from cloister.verifier.replicas.sealing import RecordSeal
from cloister.verifier.revocations import RevocationFile, Revocations
from cloister.verifier.settings import Settings

_log = get_logger()


@dataclass(frozen=True, slots=True)
class State:
    """What a verifier knows that is not in its settings."""

    challenges: Challenges
    attested: AttestedWorkers
    collateral_memory: CollateralMemory
    revocations: Revocations


@asynccontextmanager
async def kept_state(
    settings: Settings, folder: Path, lifecycle: Lifecycle, metrics: Metrics, *, orders: LiftOrders
) -> AsyncIterator[State]:
    """Challenges, members, the memory of collateral and revocations, wherever the settings say.

    Raises:
        NotReady: The file or the Redis is not what it must be; the message says what to do.
        Unavailable: Redis does not answer.
    """
    memory = FileMemory(folder / COLLATERAL_MEMORY)
    revocations = Revocations(RevocationFile(folder / "revocations.json"), now=_utc_now)
    if settings.redis is None:
        with MemberFile.opened(folder / "members.db", now=_utc_now) as store:
            yield _on_this_machine(settings, store, memory, revocations)
    else:
        async with _shared(settings, settings.redis, memory, revocations, orders, lifecycle, metrics) as state:
            yield state


def _on_this_machine(
    settings: Settings, store: MemberFile, memory: CollateralMemory, revocations: Revocations
) -> State:
    attested = AttestedWorkers(monotonic=time.monotonic, store=store)
    for record, life_s in store.records(max_life_s=settings.membership_s):
        attested.merge(record, life_s=life_s)
    if len(attested):
        _log.info("members.restored", members=len(attested))
    return State(Nonces(ttl_s=settings.challenge_ttl_s, monotonic=time.monotonic), attested, memory, revocations)


@asynccontextmanager
async def _shared(
    settings: Settings,
    redis: RedisSettings,
    memory: CollateralMemory,
    revocations: Revocations,
    orders: LiftOrders,
    lifecycle: Lifecycle,
    metrics: Metrics,
) -> AsyncIterator[State]:
    seal = RecordSeal(redis.read_shared_key(), settings.cluster)
    async with connected(redis) as client:
        await check_server(client, redis)
        runner = Runner(
            client,
            prefix=f"{settings.cluster}:verifier:",
            timeout_s=redis.timeout_s,
            on_refused=metrics.state_refused,
        )
        link = Link(runner, seal, ttl_s=settings.challenge_ttl_s, monotonic=time.monotonic)
        store = SharedMembers(link, runner, seal, max_life_s=settings.membership_s, now=_utc_now)
        attested = AttestedWorkers(monotonic=time.monotonic, store=store)
        ages = SharedMemory(memory, link, asyncio.get_running_loop())
        rulings = SharedRevocations(revocations, attested, link, runner, orders=orders)
        listening = Listening(store, attested, ages, rulings, runner)
        loops = [
            lifecycle.spawn(link.writing(), "link.writing"),
            lifecycle.spawn(link.calling(), "link.calling"),
            lifecycle.spawn(ages.telling(), "ages.telling"),
        ]
        try:
            await link.begin(listening)
            loops.append(lifecycle.spawn(link.following(listening), "link.following"))
            loops.append(lifecycle.spawn(rulings.telling(), "revocations.telling"))
            loops.append(lifecycle.spawn(rulings.watching(), "revocations.watching"))
            yield State(SharedNonces(link, runner, seal), attested, ages, revocations)
        finally:
            link.close()
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops)


def _utc_now() -> datetime:
    return datetime.now(UTC)
