"""Whether a Redis is closed to everybody but us: found out by trying, before anything is kept there (attack H06).

Settings that a server reports of itself can be wrong or forbidden to read; what a stranger gets for an answer cannot.
Every server is tried: the master, its replicas and the Sentinels that watch them, or all nodes of a Cluster, since each
has what is kept, or says where it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from cloister.errors import NotReady, Unavailable
from cloister.kit import redis_clients
from cloister.kit.log import get_logger
from cloister.kit.redis import command, translated, way, way_to_sentinels
from cloister.kit.redis_clients import Client, Tls, Way
from cloister.kit.redis_settings import Address, RedisSettings

EXPOSED: Final = "redis.exposed"
_UNSUITABLE: Final = "redis.unsuitable"

_log = get_logger()


class _Wanted(NamedTuple):
    """What a server must be: its mode as INFO says it, and whether a restart must bring everything back."""

    mode: str
    durable: bool


async def check_server(client: Client, settings: RedisSettings) -> None:
    """Check that this Redis may hold what several verifiers share: one server, or a master with replicas.

    Raises:
        NotReady: It lets in who must not come in (`redis.exposed`), or is not what we need (`redis.unsuitable`); the
            message says what to set.
        Unavailable: It does not answer.
    """
    if settings.cluster:
        raise NotReady("Redis 7 or later is needed, and no Redis Cluster", reason=_UNSUITABLE)
    await _check(client, settings, _Wanted("standalone", durable=False))


async def check_jobs(client: Client, settings: RedisSettings) -> None:
    """Check that this Redis, which may be a Cluster, may hold jobs and has them again after a restart.

    Raises:
        NotReady: As `check_server` does; also where it has no append-only file, or would lose a part of it.
        Unavailable: It does not answer.
    """
    await _check(client, settings, _Wanted("cluster" if settings.cluster else "standalone", durable=True))


async def _check(client: Client, settings: RedisSettings, wanted: _Wanted) -> None:
    if settings.sentinel:
        for address in settings.addresses:
            await _check_sentinel(address, settings)
    needed, others = await _servers(client, settings)
    for address in (*needed, *others):
        await _check_strangers(address, way(settings), settings)
        try:
            await _check_told(address, settings, wanted)
        except Unavailable:
            if address in needed:
                raise
            _log.warning("redis.unchecked", address=str(address), why="it does not answer")


async def _servers(client: Client, settings: RedisSettings) -> tuple[list[Address], list[Address]]:
    """Those that must answer, and those that hold copies."""
    with translated():
        async with asyncio.timeout(settings.timeout_s):
            if isinstance(client, RedisCluster):
                await client.initialize()
                nodes = client.get_primaries(), client.get_replicas()
                primaries, copies = ([_address(node.host, node.port) for node in each] for each in nodes)
                return primaries, copies
            if settings.sentinel:
                pool: Any = client.connection_pool
                sentinels: Sentinel = pool.sentinel_manager
                master = await sentinels.discover_master(settings.sentinel)
                replicas = await sentinels.discover_slaves(settings.sentinel)
                return [_address(*master)], [_address(*each) for each in replicas]
    return list(settings.addresses), []


def _address(host: Any, port: Any) -> Address:
    return Address(str(host), int(port))


async def _check_sentinel(address: Address, settings: RedisSettings) -> None:
    """A Sentinel says where our Redis is, so nobody else may tell it; one that is away is not asked by us either."""
    ours = way_to_sentinels(settings)
    await _check_strangers(address, ours, settings)
    try:
        async with _client(address, ours) as sentinel:
            told = await command(sentinel, settings.timeout_s, "INFO", "server")
    except Unavailable:
        _log.warning("redis.unchecked", address=str(address), why="it does not answer")
        return
    if str(told.get("redis_mode")) != "sentinel":
        raise NotReady(f"{address} is no Sentinel: leave redis.sentinel empty, or name Sentinels", reason=_UNSUITABLE)
    await _check_plain(address, told, settings)


async def _check_strangers(address: Address, ours: Way, settings: RedisSettings) -> None:
    stranger = replace(ours, login=None)
    async with _client(address, stranger) as nobody:
        if await _answers(nobody, settings):
            raise NotReady(f"{address} serves clients without a password: set `user default off`", reason=EXPOSED)
    async with _client(address, replace(stranger, tls=Tls(settings.trust_roots))) as uncertified:
        if await _speaks(uncertified, settings):
            raise NotReady(f"{address} asks for no client certificate: set tls-auth-clients yes", reason=EXPOSED)


async def _check_told(address: Address, settings: RedisSettings, wanted: _Wanted) -> None:
    async with _client(address, way(settings)) as client:
        who = await command(client, settings.timeout_s, "ACL", "WHOAMI")
        if who not in (settings.user, settings.user.encode()):
            raise NotReady(f"{address} knows us as another user than redis.user", reason=EXPOSED)
        told = await _told(client, settings)
        if int(told["redis_version"].split(".")[0]) < 7 or told["redis_mode"] != wanted.mode:
            also = ", and one that is no Cluster" if wanted.mode == "standalone" else ", as a Cluster"
            raise NotReady(f"{address}: Redis 7 or later is needed{also}", reason=_UNSUITABLE)
        if told["maxmemory_policy"] != "noeviction":
            raise NotReady(f"{address} drops keys when full: set maxmemory-policy noeviction", reason=_UNSUITABLE)
        await _check_plain(address, told, settings)
        if wanted.durable:
            await _check_durable(address, client, told, settings)


async def _check_durable(address: Address, client: Redis, told: dict[str, str], settings: RedisSettings) -> None:
    if told["aof_enabled"] != "1":
        raise NotReady(f"{address} forgets when it restarts: set appendonly yes", reason=_UNSUITABLE)
    # Until 8.2 what a transaction or a script wrote is replayed as the default user, and dropped where that one may not
    # write, although the server is well (https://github.com/redis/redis/issues/14541).
    may = await command(client, settings.timeout_s, "ACL", "DRYRUN", "default", "SET", "key", "value")
    if may not in ("OK", b"OK", True):
        raise NotReady(
            f"{address} would not replay what scripts wrote: set `user default off resetpass ~* &* +@all`, which lets "
            "nobody in",
            reason=_UNSUITABLE,
        )


async def _told(client: Redis, settings: RedisSettings) -> dict[str, str]:
    """What the server says of itself, as far as we look at it."""
    found: dict[str, str] = {}
    for section in ("server", "memory", "persistence"):
        told = await command(client, settings.timeout_s, "INFO", section)
        found |= {str(name): str(value) for name, value in told.items()}
    missing = {"redis_version", "redis_mode", "maxmemory_policy", "tcp_port", "aof_enabled"} - found.keys()
    if missing:
        raise NotReady(f"this is no Redis: it does not say its {', '.join(sorted(missing))}", reason=_UNSUITABLE)
    return found


async def _answers(stranger: Redis, settings: RedisSettings) -> bool:
    """Whether a stranger is served."""
    try:
        await command(stranger, settings.timeout_s, "PING")
    except Unavailable:
        return False
    return True


async def _speaks(stranger: Redis, settings: RedisSettings) -> bool:
    """Whether a stranger hears so much as a refusal in Redis's own words."""
    try:
        await command(stranger, settings.timeout_s, "PING")
    except Unavailable as error:
        return isinstance(error.__cause__, ResponseError | AuthenticationError)
    return True


async def _check_plain(address: Address, told: dict[str, str], settings: RedisSettings) -> None:
    if await _speaks_plain(address.host, int(told["tcp_port"]), settings.timeout_s):
        raise NotReady(f"{address} listens without TLS too: set port 0", reason=EXPOSED)


async def _speaks_plain(host: str, port: int, timeout_s: float) -> bool:
    """Whether Redis answers there without TLS, if only to refuse."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(b"PING\r\n")
            await writer.drain()
            return await reader.read(1) in (b"+", b"-")
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def _client(address: Address, how: Way) -> AsyncIterator[Redis]:
    client = redis_clients.server(address, how)
    try:
        yield client
    finally:
        with suppress(RedisError, OSError):
            await client.aclose()
