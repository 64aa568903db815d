"""How new collateral was, remembered by all replicas (attacks H03)."""

from __future__ import annotations

import pytest

from fakes.redis_server import RedisServer
from fakes.replicas import replica, until

NEW, OLD = {"crl": [2], "tcb": [17, 5]}, {"crl": [1], "tcb": [17, 9]}
NEWEST = {"crl": [2], "tcb": [17, 9]}


async def test_what_one_learns_all_remember(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        a.ages.remember(NEW)
        await until(lambda: b.ages.newest() == NEW)
        b.ages.remember(OLD)
        await until(lambda: a.ages.newest() == b.ages.newest() == NEWEST)


async def test_a_replica_that_starts_is_told(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        a.ages.remember(NEW)
        async with replica(redis_server) as b:
            await until(lambda: b.ages.newest() == NEW)


@pytest.mark.attack("H03")
async def test_a_flushed_redis_takes_nothing_from_anybody(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        a.ages.remember(NEW)
        await until(lambda: b.ages.newest() == NEW)
        redis_server.admin("FLUSHALL")
        async with replica(redis_server) as c:
            await until(lambda: c.ages.newest() == NEW)


async def test_what_is_learnt_while_redis_is_away_is_told_later(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        copy = redis_server.saved()
        redis_server.kill()
        a.ages.remember(NEW)
        redis_server.restart_from(copy)
        await until(lambda: b.ages.newest() == NEW)
