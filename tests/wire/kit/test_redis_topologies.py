"""Redis behind Sentinels and as a Cluster: whoever holds a copy, or says where it is, is tried too (attacks H06)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cloister.errors import NotReady, Unavailable
from cloister.kit.redis import command, connected, evaluate
from cloister.kit.redis_checks import check_jobs, check_server
from cloister.kit.redis_settings import RedisSettings
from fakes.pki import CLUSTER
from fakes.redis_server import USER, RedisServer, free_port
from fakes.redis_topologies import Clustered, Watched

TIMEOUT_S = 5.0
SET = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])"
OPEN = {
    "without a password": (
        ("ACL", "SETUSER", "default", "on", "nopass"),
        ("ACL", "SETUSER", "default", "off", "resetpass"),
    ),
    "without a certificate": (
        ("CONFIG", "SET", "tls-auth-clients", "no"),
        ("CONFIG", "SET", "tls-auth-clients", "yes"),
    ),
}


@contextmanager
def opened(server: RedisServer, to: str) -> Iterator[None]:
    """A server that lets in whoever comes so."""
    if to == "without TLS":
        words, back = (("CONFIG", "SET", "port", free_port()), ("CONFIG", "SET", "port", 0))
    else:
        words, back = OPEN[to]  # type: ignore[assignment]
    server.admin(*words)
    try:
        yield
    finally:
        server.admin(*back)


async def why_not(settings: RedisSettings) -> tuple[str, str]:
    async with connected(settings) as client:
        with pytest.raises(NotReady) as refused:
            await check_jobs(client, settings)
    return refused.value.reason, str(refused.value)


@pytest.mark.parametrize(
    ("which", "to"),
    [
        *((which, to) for which in ("master", "replica") for to in (*OPEN, "without TLS")),
        ("sentinel", "without a password"),  # whose configuration is not changed while it runs
    ],
)
@pytest.mark.attack("H06")
async def test_one_of_the_watched_that_is_open(redis_watched: Watched, which: str, to: str) -> None:
    server: RedisServer = getattr(redis_watched, which)
    with opened(server, to):
        reason, said = await why_not(redis_watched.settings(timeout_s=TIMEOUT_S))
    assert reason == "redis.exposed"
    assert str(server.port) in said


@pytest.mark.parametrize("to", [*OPEN, "without TLS"])
@pytest.mark.attack("H06")
async def test_one_node_of_a_cluster_that_is_open(redis_cluster: Clustered, to: str) -> None:
    last = redis_cluster.nodes[2]  # which the settings do not name
    with opened(last, to):
        reason, said = await why_not(redis_cluster.settings(timeout_s=TIMEOUT_S))
    assert reason == "redis.exposed"
    assert str(last.port) in said


async def test_a_cluster_keeps_each_models_jobs_where_they_belong(redis_cluster: Clustered) -> None:
    settings = redis_cluster.settings(timeout_s=TIMEOUT_S)
    async with connected(settings) as client:
        await check_jobs(client, settings)
        for number in range(12):
            key = f"{CLUSTER}:jobs:{{model-{number}}}"
            assert await evaluate(client, TIMEOUT_S, SET, [key], number) == str(number).encode()
            stream = f"{key}:stream"
            entry = await evaluate(
                client, TIMEOUT_S, "return redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])", [stream], number
            )
            words: tuple[Any, ...] = ("XREAD", "BLOCK", 10, "STREAMS", stream, "0")
            ((_, ((found, _),)),) = await command(client, TIMEOUT_S, *words, key=key)
            assert found == entry
    held = [int(node.admin("DBSIZE")) for node in redis_cluster.nodes]
    assert sum(held) == 24
    assert all(held)


async def test_scripts_of_replicas_need_one_server(redis_cluster: Clustered) -> None:
    settings = redis_cluster.settings(user=USER, timeout_s=TIMEOUT_S)
    async with connected(settings) as client:
        with pytest.raises(NotReady, match="no Redis Cluster"):
            await check_server(client, settings)


async def test_a_cluster_that_the_settings_do_not_call_one(redis_cluster: Clustered) -> None:
    settings = redis_cluster.nodes[0].settings(user="gateway", timeout_s=TIMEOUT_S)
    reason, said = await why_not(settings)
    assert reason == "redis.unsuitable"
    assert "no Cluster" in said


async def test_a_server_that_the_settings_call_a_cluster(redis_watched: Watched) -> None:
    settings = redis_watched.master.settings(user="gateway", cluster=True, timeout_s=TIMEOUT_S)
    async with connected(settings) as client:
        with pytest.raises(Unavailable):
            await check_jobs(client, settings)


async def test_the_master_that_sentinels_name_is_followed(redis_watched: Watched) -> None:
    """Last of this file: its master is dead afterwards."""
    settings = redis_watched.settings(timeout_s=TIMEOUT_S)
    key = f"{CLUSTER}:jobs:{{iris}}"
    async with connected(settings) as client:
        await check_jobs(client, settings)
        await check_server(client, redis_watched.settings(user="gateway"))
        await evaluate(client, TIMEOUT_S, SET, [key], "before")
        while redis_watched.replica.admin("GET", key) != b"before":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        redis_watched.master.kill()
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await evaluate(client, TIMEOUT_S, SET, [key], "after") == b"after"
                    break
                except Unavailable:
                    await asyncio.sleep(0.05)
    assert redis_watched.replica.admin("GET", key) == b"after"
