"""The store of jobs on Redis, opened; what is loaded for it is loaded here, and only where there are jobs."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from cloister.gateway.jobs.keeping.redis_store import RedisJobStore
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.kit.redis import connected
from cloister.kit.redis_checks import check_jobs
from cloister.kit.redis_settings import RedisSettings

CONNECTIONS: Final = 32
"""To Redis; half of them may wait there for jobs, or for ends."""


@asynccontextmanager
async def opened_stores(
    settings: RedisSettings, cluster: str, consumer: str, on_dropped: Callable[[str], None]
) -> AsyncIterator[StoreWatch]:
    """A store whose connections open with its first use.

    Args:
        settings: Where Redis is.
        cluster: Trust domain.
        consumer: As of `consumer_name`.
        on_dropped: Told the reason whenever something in Redis is not believed.

    Raises:
        NotReady: A file that the settings name cannot be used.
    """
    async with connected(settings, CONNECTIONS) as client:
        store = RedisJobStore(
            client,
            shared_key=settings.read_shared_key(),
            cluster=cluster,
            consumer=consumer,
            timeout_s=settings.timeout_s,
            connections=CONNECTIONS,
            on_dropped=on_dropped,
        )

        async def check() -> None:
            await check_jobs(client, settings)
            await store.check_key()

        yield StoreWatch(store, check)


def consumer_name(name: str, listen: str, number: int) -> str:
    """The name of one process towards Redis: the same when it starts again, and no other's.

    Gateways may share their settings: on one machine their addresses tell them apart, else the machines' names do.
    """
    whole = f"{name} {socket.gethostname()} {listen} {number}"
    shown = re.sub(r"[^a-z0-9._-]", "-", name.lower())[:32]
    return f"{shown}-{number}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
