"""One Redis: scripts, deadlines, what its users may not do, what a restart brings back, and files that are replaced."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from cloister.errors import NotReady, Overloaded, Unavailable
from cloister.kit.redis import Client, command, connected, evaluate
from cloister.kit.redis_checks import check_jobs
from cloister.kit.redis_settings import RedisSettings
from fakes.pki import CLUSTER, MeshPki
from fakes.redis_server import JOBS_USER, RedisServer, access_list, redis_running
from fakes.redis_topologies import DURABLE

KEY = f"{CLUSTER}:jobs:{{iris}}"
TWICE = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', KEYS[1] .. ':too', ARGV[1]) return 'done'"
TIMEOUT_S = 5.0


def settings_for(server: RedisServer, **changes: Any) -> RedisSettings:
    return server.settings(user=JOBS_USER, timeout_s=TIMEOUT_S, **changes)


async def set_twice(client: Client, value: str) -> Any:
    return await evaluate(client, TIMEOUT_S, TWICE, [KEY], value)


async def read_again(client: Client, key: str) -> Any:
    """What is there, from a server that was started anew: connections to the old one end first."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await command(client, TIMEOUT_S, "GET", key)
            except Unavailable:
                await asyncio.sleep(0.01)


async def why_not(settings: RedisSettings) -> tuple[str, str]:
    async with connected(settings) as client:
        with pytest.raises(NotReady) as refused:
            await check_jobs(client, settings)
    return refused.value.reason, str(refused.value)


async def test_a_closed_and_durable_redis_will_do(redis_server: RedisServer) -> None:
    async with connected(settings_for(redis_server)) as client:
        await check_jobs(client, settings_for(redis_server))


async def test_a_script_runs_whether_redis_knows_it_or_not(redis_server: RedisServer) -> None:
    async with connected(settings_for(redis_server)) as client:
        redis_server.admin("SCRIPT", "FLUSH")
        assert [await set_twice(client, value) for value in ("1", "2")] == [b"done", b"done"]
        assert await command(client, TIMEOUT_S, "GET", KEY) == b"2"


async def test_a_command_may_block_for_longer_than_others_may_take(redis_server: RedisServer) -> None:
    async with connected(redis_server.settings(user=JOBS_USER, timeout_s=0.05)) as client:
        words = ("XREAD", "BLOCK", 300, "STREAMS", KEY + ":never", "$")
        assert await command(client, TIMEOUT_S, *words, key=KEY) in (None, [], {})
        with pytest.raises(Unavailable):
            await command(client, 0.05, *words, key=KEY)
        assert await command(client, TIMEOUT_S, "PING") is True


async def test_a_full_redis_refuses_what_grows_and_says_so(redis_server: RedisServer) -> None:
    async with connected(settings_for(redis_server)) as client:
        await set_twice(client, "before")
        redis_server.admin("CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(Overloaded) as full:
                await set_twice(client, "after")
            assert (
                await evaluate(client, TIMEOUT_S, f"#!lua flags=allow-oom\n{TWICE}", [KEY], "all the same") == b"done"
            )
        finally:
            redis_server.admin("CONFIG", "SET", "maxmemory", 0)
    assert full.value.reason == "state.full"


@pytest.mark.attack("H06")
@pytest.mark.parametrize(
    "words",
    [
        ("CONFIG", "GET", "*"),
        ("CONFIG", "SET", "dir", "/tmp"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("KEYS", "*"),
        ("SCAN", 0),
        ("SAVE",),
        ("BGREWRITEAOF",),
        ("SHUTDOWN", "NOSAVE"),
        ("REPLICAOF", "127.0.0.1", 1),
        ("ACL", "LIST"),
        ("ACL", "SETUSER", "gateway", "allkeys"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
        ("MODULE", "LIST"),
        ("FUNCTION", "LIST"),
        ("DUMP", KEY),
        ("RESTORE", KEY, 0, b""),
        ("GET", f"{CLUSTER}:verifier:members"),
        ("SET", "elsewhere", "value"),
        ("XADD", f"{CLUSTER}:verifier:stream", "*", "e", ""),
        ("EVAL", "return redis.call('GET', ARGV[1])", 0, f"{CLUSTER}:verifier:members"),
        ("EVAL", "return redis.call('KEYS', '*')", 0),
        ("PUBLISH", "channel", "word"),
    ],
    ids=lambda words: "-".join(str(word).partition(" ")[0] for word in words[:2]),
)
async def test_the_gateways_user_can_do_nothing_that_jobs_do_not_need(
    redis_server: RedisServer, words: tuple[Any, ...]
) -> None:
    async with connected(settings_for(redis_server)) as client:
        with pytest.raises(Unavailable) as refused:
            await command(client, TIMEOUT_S, *words)
    assert re.search("permissions|can't access|can't run", str(refused.value.__cause__))
    assert redis_server.admin("PING") is True


@pytest.mark.parametrize("default", ["user default off", "user default off ~* -@all +get"])
async def test_a_redis_that_would_not_replay_what_scripts_wrote(tmp_path: Path, pki: MeshPki, default: str) -> None:
    """It is refused, and rightly: what was kept in it is gone after a restart."""
    with redis_running(tmp_path / "redis", pki, lines=DURABLE, users=access_list(pki.cluster, default)) as server:
        reason, said = await why_not(settings_for(server))
        assert reason == "redis.unsuitable"
        assert "user default off resetpass ~* &* +@all" in said
        async with connected(settings_for(server)) as client:
            await set_twice(client, "kept?")
            server.kill()
            server.start()
            assert await read_again(client, KEY) is None


async def test_a_redis_that_forgets(tmp_path: Path, pki: MeshPki) -> None:
    with redis_running(tmp_path / "redis", pki) as server:
        reason, said = await why_not(settings_for(server))
    assert reason == "redis.unsuitable"
    assert "appendonly yes" in said


@pytest.mark.attack("H03")
async def test_what_was_kept_is_there_after_a_kill(tmp_path: Path, pki: MeshPki) -> None:
    with redis_running(tmp_path / "redis", pki, lines=DURABLE) as server:
        async with connected(settings_for(server)) as client:
            await set_twice(client, "kept")
            server.kill()
            with pytest.raises(Unavailable):
                await set_twice(client, "while it is away")
            server.start()
            assert await read_again(client, KEY + ":too") == b"kept"


async def test_another_root_another_certificate_and_another_password_are_taken_up(tmp_path: Path, pki: MeshPki) -> None:
    """By the next connection: a client that was there before goes on with what has been put in place of its files."""
    other = MeshPki(pki.cluster)
    with redis_running(tmp_path / "redis", pki, lines=DURABLE) as server:
        settings = settings_for(server)
        async with connected(settings) as client:
            await set_twice(client, "before")
            server.kill()
            server.take_identities(other)
            server.change_password("a new one")
            server.start()
            assert await read_again(client, KEY) == b"before"
            settings.password_file.write_bytes(b"not this one")
            server.kill()
            server.start()
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await command(client, TIMEOUT_S, "PING")
