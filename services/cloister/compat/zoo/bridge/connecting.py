"""A client of the Redis that their clients know, and what must be so before anything is read there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from cryptography.x509 import load_pem_x509_certificates
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, UnixDomainSocketConnection
from redis.exceptions import RedisError

from cloister.compat.zoo.bridge.settings import TheirRedis
from cloister.errors import NotReady, Unavailable
from cloister.kit import redis_clients
from cloister.kit.redis_clients import Login, Tls, Way
from cloister.rpc.files import read_public

CALLS: Final = 16
"""At a time; reads that block come on top, one for each stream."""
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_OLDEST: Final = (6, 2)


@asynccontextmanager
async def connected(settings: TheirRedis, streams: int) -> AsyncIterator[Redis]:
    """A client; connections open with the first call.

    Args:
        settings: Which Redis.
        streams: How many streams will be read from it.
    """
    password = settings.password_file
    login = Login(settings.user, password) if password is not None else None
    roots = settings.trust_roots
    tls = Tls(roots, settings.certificate, settings.private_key) if roots is not None else None
    if tls is not None:
        way = Way(tls=tls, login=login, connect_s=settings.timeout_s, connections=CALLS + streams)
        client = redis_clients.server(settings.address, way)
    else:
        client = _plain(settings, login, CALLS + streams)
    try:
        yield client
    finally:
        await client.aclose()


def _plain(settings: TheirRedis, login: Login | None, connections: int) -> Redis:
    options: dict[str, Any] = {
        "credential_provider": login,
        "socket_connect_timeout": settings.timeout_s,
        "socket_timeout": None,
        "protocol": 2,
        "driver_info": None,
        "max_connections": connections,
    }
    if settings.is_unix:
        pool = ConnectionPool(connection_class=UnixDomainSocketConnection, path=settings.path, **options)
    else:
        host, port = settings.address
        pool = ConnectionPool(connection_class=Connection, host=host, port=port, **options)
    return Redis.from_pool(pool)


def check_other_than(settings: TheirRedis, mesh_redis: str, mesh_roots_pem: str) -> None:
    """Check by what is known here that this is not the Redis of the mesh, where nothing may lie in clear.

    Args:
        settings: Which Redis.
        mesh_redis: Address of the mesh's own, as its folder says; may be empty.
        mesh_roots_pem: Certificates of the mesh's authority.

    Raises:
        NotReady: It is (`redis.of_mesh`), or a file cannot be read.
    """
    if not settings.is_unix and mesh_redis and _place(str(settings.address)) == _place(mesh_redis):
        raise _of_mesh("it has the address of the mesh's own")
    if settings.trust_roots is None:
        return
    try:
        named = load_pem_x509_certificates(read_public(settings.trust_roots))
    except ValueError as error:
        raise NotReady(f"{settings.trust_roots} holds no certificates in PEM", reason="file.unreadable") from error
    if set(named) & set(load_pem_x509_certificates(mesh_roots_pem.encode())):
        raise _of_mesh("its certificate would be one of the mesh's authority")


async def check_suitable(client: Redis, timeout_s: float, cluster: str) -> None:
    """Check what a server says of itself, and that no jobs of the mesh lie there.

    Raises:
        NotReady: It is too old (`redis.unsuitable`), or the mesh's own (`redis.of_mesh`).
        Unavailable: It does not answer.
    """
    found: Any = client
    try:
        async with asyncio.timeout(timeout_s):
            told = await found.info("server")
            jobs = await _has_jobs(found, cluster)
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Cluster Serving's Redis does not answer: {error}", reason="redis.unreachable") from error
    version = str(told.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST:
        raise NotReady(f"Redis {version} is older than 6.2, and cannot hand over requests", reason="redis.unsuitable")
    if jobs:
        raise _of_mesh("jobs of the mesh lie there")


async def _has_jobs(client: Any, cluster: str) -> bool:
    try:
        return bool(await client.exists(f"{cluster}:jobs:models"))
    except RedisError:  # an access list that does not let us look at that key does not let the mesh's jobs be read
        return False


def _place(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"{'127.0.0.1' if host.strip('[]') in _LOOPBACK else host}:{port}"


def _of_mesh(why: str) -> NotReady:
    return NotReady(
        f"this is the mesh's Redis ({why}), and requests in clear may not lie there; give Cluster Serving's clients "
        "another",
        reason="redis.of_mesh",
    )
