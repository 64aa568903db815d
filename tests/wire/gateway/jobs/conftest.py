"""A redis-server for jobs, emptied before each test, and a gateway's store on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from fakes.job_store_on_redis import Clock, Kept, jobs_redis, store_on
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer


@pytest.fixture(scope="session")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture(scope="session")
def lasting_server(tmp_path_factory: pytest.TempPathFactory, pki: MeshPki) -> Iterator[RedisServer]:
    with jobs_redis(tmp_path_factory.mktemp("jobs") / "redis", pki) as server:
        yield server


@pytest.fixture
def server(lasting_server: RedisServer) -> RedisServer:
    lasting_server.admin("FLUSHALL")
    return lasting_server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def kept(server: RedisServer, pki: MeshPki, clock: Clock) -> AsyncIterator[Kept]:
    async with store_on(server, pki.cluster, clock) as kept:
        yield kept


@pytest.fixture
async def second(server: RedisServer, pki: MeshPki, clock: Clock) -> AsyncIterator[Kept]:
    async with store_on(server, pki.cluster, clock, consumer="gateway-2") as kept:
        yield kept
