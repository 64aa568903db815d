"""Stores of jobs on a real redis-server, as several gateways would have them, and somebody with every power over it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cloister.gateway.jobs.job import Accepted, Claimed, Ending, Job, Record
from cloister.gateway.jobs.keeping.redis_store import RedisJobStore
from cloister.gateway.jobs.store import Bounds
from cloister.kit.redis import RedisSettings, connected
from fakes.pki import MeshPki
from fakes.redis_server import JOBS_USER, RedisServer, redis_running

MODEL, TENANT, OTHER = "tiny", "hospital", "somebody else"
BOUNDS = Bounds(jobs=100_000, size_bytes=1 << 30, tenant_jobs=50_000, tenant_bytes=1 << 29, tenant_kept_bytes=1 << 29)
MINUTE_MS = 60_000
CONNECTIONS = 8


class HasSettings(Protocol):
    """One server, or several."""

    def settings(self, **changes: Any) -> RedisSettings:
        """What a gateway is told of it."""


@dataclass
class Clock:
    """What gateways take for Unix time."""

    ms: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


@dataclass
class Kept:
    """A store, with what it said it has dropped."""

    store: RedisJobStore
    cluster: str
    dropped: list[str] = field(default_factory=list)


@contextmanager
def jobs_redis(folder: Path, pki: MeshPki, *, lines: str = "") -> Iterator[RedisServer]:
    """A server for jobs."""
    with redis_running(folder, pki, lines=lines) as server:
        yield server


@asynccontextmanager
async def store_on(
    server: HasSettings, cluster: str, clock: Clock, *, consumer: str = "gateway-1", key: bytes = b"s" * 32
) -> AsyncIterator[Kept]:
    """One gateway's store."""
    async with connected(server.settings(user=JOBS_USER), CONNECTIONS) as client:
        kept = Kept(None, cluster)  # type: ignore[arg-type]
        kept.store = RedisJobStore(
            client,
            shared_key=key,
            cluster=cluster,
            consumer=consumer,
            connections=CONNECTIONS,
            now_ms=clock,
            on_dropped=kept.dropped.append,
        )
        yield kept


def new_job(clock: Clock, **changes: Any) -> Job:
    """A job that was submitted now and lives for ten minutes."""
    request = changes.pop("request", secrets.token_bytes(100))
    fields: dict[str, Any] = {
        "job_id": secrets.token_bytes(16),
        "tenant": TENANT,
        "model_name": MODEL,
        "request": request,
        "submitted_ms": clock(),
        "not_after_ms": clock() + 10 * MINUTE_MS,
        "result_ttl_s": 3600,
    }
    return Job(**{**fields, **changes})


def key_of(kept: Kept, kind: str, job: Job | None = None, *, model_name: str = MODEL) -> str:
    """What a key is called, of a model or of one of its jobs."""
    return f"{kept.cluster}:jobs:{{{model_name}}}:{kind}" + (f":{job.job_id.hex()}" if job else "")


def put_before(server: RedisServer, kept: Kept, job: Job, priority: str = "normal", tenant: str = TENANT) -> None:
    """Let a job wait before all others of a tenant, as somebody who writes into Redis can."""
    server.admin("ZADD", key_of(kept, f"wait:{priority}:{tenant}"), 1, job.job_id.hex())
    server.admin("ZADD", key_of(kept, "turns"), "NX", 1, tenant)


async def accepted(kept: Kept, job: Job) -> Job:
    """Submit a job that there is a place for."""
    assert await kept.store.submit([job], BOUNDS) == [Accepted(job.job_id)]
    return job


async def only(kept: Kept, job: Job) -> Record:
    """What is known of a job that is known."""
    (record,) = await kept.store.read(job.model_name, job.tenant, [job.job_id])
    assert record is not None
    return record


async def answered(kept: Kept, job: Job, response: bytes) -> Claimed:
    """Take a job, the only one that waits, and answer it."""
    (claimed,) = await kept.store.claim(job.model_name, 10, 0)
    assert claimed.job.job_id == job.job_id
    await kept.store.settle(job.model_name, [Ending(claimed, response=response)])
    return claimed


_LIVES = """
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
    out[#out + 1] = key
    out[#out + 1] = redis.call('PTTL', key)
end
return out
"""


def lives_ms(server: RedisServer) -> dict[bytes, int]:
    """Every key with how long it has to live; -1 for ever."""
    found = server.admin("EVAL", _LIVES, 0)
    return dict(zip(found[::2], found[1::2], strict=True))
