"""Whether a Redis is closed to everybody but us: found out by trying, before anything is kept there (attack H06).

Settings that a server reports of itself can be wrong or forbidden to read; what a stranger gets for an answer cannot.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from cloister.errors import NotReady, Unavailable
from cloister.kit.redis import RedisSettings, command, opened

EXPOSED: Final = "redis.exposed"
_UNSUITABLE: Final = "redis.unsuitable"


async def check_server(client: Redis, settings: RedisSettings) -> None:
    """Check that this Redis may hold our state.

    Raises:
        NotReady: It lets in who must not come in (`redis.exposed`), or is not what we need (`redis.unsuitable`); the
            message says what to set.
        Unavailable: It does not answer.
    """
    told = await _told(client, settings)
    who = await command(client, settings.timeout_s, "ACL", "WHOAMI")
    if who not in (settings.user, settings.user.encode()):
        raise NotReady("Redis knows us as another user than redis.user", reason=EXPOSED)
    if int(told["redis_version"].split(".")[0]) < 7 or told["redis_mode"] not in ("standalone", "sentinel"):
        raise NotReady("Redis 7 or later is needed, and no Redis Cluster", reason=_UNSUITABLE)
    if told["maxmemory_policy"] != "noeviction":
        raise NotReady("Redis drops keys when full: set maxmemory-policy noeviction", reason=_UNSUITABLE)
    if await _answers(opened(settings, user=None, password=None), settings):
        raise NotReady("Redis serves clients without a password: set `user default off`", reason=EXPOSED)
    if await _speaks(opened(settings, user=None, password=None, certified=False), settings):
        raise NotReady("Redis asks for no client certificate: set tls-auth-clients yes", reason=EXPOSED)
    if await _speaks_plain(settings.host, int(told["tcp_port"]), settings.timeout_s):
        raise NotReady("Redis listens without TLS too: set port 0", reason=EXPOSED)


async def _told(client: Redis, settings: RedisSettings) -> dict[str, str]:
    """What the server says of itself, as far as we look at it."""
    found: dict[str, str] = {}
    for section in ("server", "memory"):
        told = await command(client, settings.timeout_s, "INFO", section)
        found |= {str(name): str(value) for name, value in told.items()}
    missing = {"redis_version", "redis_mode", "maxmemory_policy", "tcp_port"} - found.keys()
    if missing:
        raise NotReady(f"this is no Redis: it does not say its {', '.join(sorted(missing))}", reason=_UNSUITABLE)
    return found


async def _answers(stranger: Redis, settings: RedisSettings) -> bool:
    """Whether a stranger is served."""
    try:
        await command(stranger, settings.timeout_s, "PING")
    except Unavailable:
        return False
    finally:
        await stranger.aclose()
    return True


async def _speaks(stranger: Redis, settings: RedisSettings) -> bool:
    """Whether a stranger hears so much as a refusal in Redis's own words."""
    try:
        await command(stranger, settings.timeout_s, "PING")
    except Unavailable as error:
        return isinstance(error.__cause__, ResponseError | AuthenticationError)
    finally:
        with suppress(RedisError, OSError):
            await stranger.aclose()
    return True


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
