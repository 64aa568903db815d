"""Redis, as far as it is trusted: to be there, over mutual TLS, under a user of our own (attacks H04, H06).

It is one server, several that Sentinels watch, or a Cluster; the settings say which. Whatever is read from it is bytes
with a bounded length; what the bytes say is for those who sealed them to check. Every call has a deadline, none is
repeated by itself, and every failure is `Unavailable`, but that Redis is full, which is `Overloaded`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisClusterException, RedisError

from cloister.errors import Overloaded, Unavailable
from cloister.kit import redis_clients
from cloister.kit.redis_clients import Client, Login, Tls, Way
from cloister.kit.redis_settings import RedisSettings
from cloister.rpc.files import read_private, read_public

__all__ = ["Client", "RedisSettings", "command", "connected", "evaluate", "translated", "way", "way_to_sentinels"]

CONNECTIONS: Final = 16

Word = str | bytes | int


@asynccontextmanager
async def connected(settings: RedisSettings, connections: int = CONNECTIONS) -> AsyncIterator[Client]:
    """A client, as our own user; connections open with the first call.

    Args:
        settings: Which Redis.
        connections: Most at a time to one server; what blocks there holds one.

    Raises:
        NotReady: A file is missing, or open to others.
    """
    _check_files(settings)
    async with AsyncExitStack() as stack:
        ours = way(settings, connections)
        client: Client
        if settings.cluster:
            client = redis_clients.cluster(settings.addresses, ours)
        elif settings.sentinel:
            sentinels = redis_clients.sentinel(settings.addresses, way_to_sentinels(settings))
            for each in sentinels.sentinels:
                stack.push_async_callback(each.aclose)
            client = redis_clients.master(settings.sentinel, sentinels, ours)
        else:
            client = redis_clients.server(settings.addresses[0], ours)
        stack.push_async_callback(client.aclose)
        yield client


def way(settings: RedisSettings, connections: int = CONNECTIONS) -> Way:
    """How we come to Redis."""
    login = Login(settings.user, settings.password_file)
    return Way(tls=_tls(settings), login=login, connect_s=_connect_s(settings), connections=connections)


def way_to_sentinels(settings: RedisSettings) -> Way:
    """How we come to Sentinels."""
    assert settings.sentinel_password_file is not None
    login = Login(settings.sentinel_user, settings.sentinel_password_file)
    return Way(tls=_tls(settings), login=login, connect_s=_connect_s(settings), connections=CONNECTIONS)


@contextmanager
def translated() -> Iterator[None]:
    """Redis's errors as ours."""
    try:
        yield
    except OutOfMemoryError as error:
        raise Overloaded("the shared state is full", reason="state.full") from error
    except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
        raise Unavailable("the shared state cannot be reached", reason="state.unavailable") from error


async def command(client: Client, timeout_s: float, *words: Word, key: str = "") -> Any:
    """One command and its reply, in time.

    Args:
        client: From `connected`.
        timeout_s: Deadline; of a command that blocks, what it may block and the deadline of others.
        words: The command.
        key: One of its keys, by which a Cluster's node is found; where it is not given, redis-py finds it, and asks a
            node where that is for commands such as XREADGROUP.

    Raises:
        Unavailable: There was no answer in time, or an error.
        Overloaded: Redis is full (`state.full`).
    """
    with translated():
        async with asyncio.timeout(timeout_s):
            return await _run(client, words, key)


async def evaluate(client: Client, timeout_s: float, script: str, keys: Sequence[str | bytes], *args: Word) -> Any:
    """Run a script and return its answer, in time; raises as `command` does.

    It goes by its digest. A server that does not know it has run nothing and is then sent it whole, and keeps it.

    Args:
        client: From `connected`.
        timeout_s: Deadline of both.
        script: Lua.
        keys: All that it touches; in a Cluster, with one hash tag.
        args: What it gets besides.
    """
    with translated():
        async with asyncio.timeout(timeout_s):
            try:
                return await _run(client, ("EVALSHA", _sha1(script), len(keys), *keys, *args))
            except NoScriptError:
                return await _run(client, ("EVAL", script, len(keys), *keys, *args))


async def _run(client: Client, words: Sequence[Word], key: str = "") -> Any:
    if isinstance(client, RedisCluster) and key:
        await client.initialize()
        node = client.get_node_from_key(key)
        return await client.execute_command(*words, target_nodes=node)
    return await client.execute_command(*words)


def _tls(settings: RedisSettings) -> Tls:
    return Tls(settings.trust_roots, settings.certificate, settings.private_key)


def _connect_s(settings: RedisSettings) -> float:
    """Of several, one may be away without a word: there must be time for another."""
    return settings.timeout_s if len(settings.addresses) == 1 else settings.timeout_s / 2


def _check_files(settings: RedisSettings) -> None:
    for secret in (settings.private_key, settings.password_file, settings.sentinel_password_file):
        if secret is not None:
            read_private(secret)
    for path in (settings.certificate, settings.trust_roots):
        read_public(path)


@lru_cache(maxsize=256)
def _sha1(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
