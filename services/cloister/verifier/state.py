"""Where a verifier's state lives: on this machine, or in a Redis that several verifiers share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.kit.redis import RedisSettings, connected
from cloister.kit.redis_checks import check_server
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.member_file import MemberFile
from cloister.verifier.nonces import Challenges, Nonces
from cloister.verifier.replicas.challenges import SharedNonces
from cloister.verifier.replicas.link import Link
from cloister.verifier.replicas.members import MemberReader, SharedMembers
from cloister.verifier.replicas.runner import Runner
from cloister.verifier.replicas.sealing import RecordSeal
from cloister.verifier.settings import Settings

State = tuple[Challenges, AttestedWorkers]
_log = get_logger()


@asynccontextmanager
async def kept_state(settings: Settings, folder: Path, lifecycle: Lifecycle, metrics: Metrics) -> AsyncIterator[State]:
    """Challenges and members, wherever the settings say.

    Raises:
        NotReady: The file or the Redis is not what it must be; the message says what to do.
        Unavailable: Redis does not answer.
    """
    if settings.redis is None:
        with MemberFile.opened(folder / "members.db", now=_utc_now) as store:
            yield _on_this_machine(settings, store)
    else:
        async with _shared(settings, settings.redis, lifecycle, metrics) as state:
            yield state


def _on_this_machine(settings: Settings, store: MemberFile) -> State:
    attested = AttestedWorkers(monotonic=time.monotonic, store=store)
    for record, life_s in store.records(max_life_s=settings.membership_s):
        attested.merge(record, life_s=life_s)
    if len(attested):
        _log.info("members.restored", members=len(attested))
    return Nonces(ttl_s=settings.challenge_ttl_s, monotonic=time.monotonic), attested


@asynccontextmanager
async def _shared(
    settings: Settings, redis: RedisSettings, lifecycle: Lifecycle, metrics: Metrics
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
        reader = MemberReader(store, attested, runner)
        loops = [
            lifecycle.spawn(link.writing(), "link.writing"),
            lifecycle.spawn(link.calling(), "link.calling"),
        ]
        try:
            await link.begin(reader)
            loops.append(lifecycle.spawn(link.following(reader), "link.following"))
            yield SharedNonces(link, runner, seal), attested
        finally:
            link.close()
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops)


def _utc_now() -> datetime:
    return datetime.now(UTC)
