"""The store on Redis, held to what whoever uses one relies on; so is the fake that unit tests have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from cloister.gateway.jobs.keeping.redis_store import RedisJobStore
from fakes.job_store_contract import JobStoreContract
from fakes.job_store_on_redis import jobs_redis, store_on
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer
from fakes.run_jobs import now_ms


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, pki: MeshPki) -> Iterator[RedisServer]:
    with jobs_redis(tmp_path_factory.mktemp("contract") / "redis", pki) as running:
        yield running


@pytest.fixture
def emptied(shared: RedisServer) -> RedisServer:
    shared.admin("FLUSHALL")
    return shared


@pytest.fixture
async def store(emptied: RedisServer, pki: MeshPki) -> AsyncIterator[RedisJobStore]:
    async with store_on(emptied, pki.cluster, now_ms, consumer="one") as kept:  # type: ignore[arg-type]
        yield kept.store


@pytest.fixture
async def other(emptied: RedisServer, pki: MeshPki) -> AsyncIterator[RedisJobStore]:
    async with store_on(emptied, pki.cluster, now_ms, consumer="two") as kept:  # type: ignore[arg-type]
        yield kept.store


class TestRedisJobStore(JobStoreContract):
    """See the contract."""
