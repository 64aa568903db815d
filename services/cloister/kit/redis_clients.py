"""Clients of Redis by redis-py: one server, the master that Sentinels name, or a Cluster, over mutual TLS 1.3.

Certificates, roots and passwords are read anew for every connection, so what was rotated on disk is taken up when the
next one opens. Only the roots that are named are believed, none of the system's. Nothing is repeated by itself, and
nothing has a limit of its own but the opening of a connection: whoever calls sets the deadline.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from cloister.kit.redis_settings import Address
from cloister.rpc.files import read_private

Client = Redis | RedisCluster


class Tls:
    """What a connection shows, and what it wants to be shown; a stranger has no certificate."""

    def __init__(self, trust_roots: Path, certificate: Path | None = None, private_key: Path | None = None) -> None:
        self._trust_roots = trust_roots
        self._certificate = certificate
        self._private_key = private_key
        self._read: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def context(self) -> ssl.SSLContext:
        """As the files are now, one for all connections while they stay; raises OSError when they cannot be used."""
        files = (self._trust_roots, self._certificate, self._private_key)
        read = [path.read_bytes() for path in files if path is not None]
        if read != self._read:
            context = ssl.create_default_context(cafile=str(self._trust_roots))
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if self._certificate is not None:
                context.load_cert_chain(self._certificate, self._private_key)
            self._context, self._read = context, read
        return self._context


class Login(CredentialProvider):
    """A user in Redis's access list, whose password is in a file of ours."""

    def __init__(self, user: str, password_file: Path) -> None:
        self._user = user
        self._password_file = password_file

    def get_credentials(self) -> tuple[str, str]:
        """User and password; raises NotReady when the file is missing or open to others."""
        return self._user, read_private(self._password_file).strip().decode("utf-8", "replace")

    async def get_credentials_async(self) -> tuple[str, str]:
        """The same; a file of a line is read in less time than a thread takes to begin."""
        return self.get_credentials()


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a client comes.

    Attributes:
        login: As whom; None as nobody.
        connect_s: Deadline of opening one connection.
        connections: Most to one server at a time; whoever would open one more gets a ConnectionError.
    """

    tls: Tls
    login: Login | None
    connect_s: float
    connections: int

    @property
    def options(self) -> dict[str, Any]:
        """For redis-py, with the pool's own."""
        return {
            "tls": self.tls,
            "credential_provider": self.login,
            "socket_connect_timeout": self.connect_s,
            "socket_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,  # what we run is nobody's business, and CLIENT SETINFO not ours to say it with
            "max_connections": self.connections,
        }


class _OverTls(Connection):
    def __init__(self, *, tls: Tls, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls.context()}


class _ToMaster(SentinelManagedConnection, _OverTls):
    pass


def server(address: Address, way: Way) -> Redis:
    """A client of one server; connections open with the first call."""
    pool = ConnectionPool(connection_class=_OverTls, host=address.host, port=address.port, **way.options)
    return Redis.from_pool(pool)


def sentinel(addresses: Sequence[Address], way: Way) -> Sentinel:
    """A client of several Sentinels, asked one after the other."""
    found = Sentinel([])  # type: ignore[no-untyped-call]  # redis has no types here
    found.sentinels = [server(address, way) for address in addresses]
    return found


def master(name: str, sentinels: Sentinel, way: Way) -> Redis:
    """A client of the master of that name, wherever it is when a connection opens."""
    pool: Any = SentinelConnectionPool
    return Redis.from_pool(pool(name, sentinels, connection_class=_ToMaster, **way.options))


def cluster(addresses: Sequence[Address], way: Way) -> RedisCluster:
    """A client of a Cluster, which finds its nodes by itself from these."""
    options = way.options
    tls = options.pop("tls")
    client = RedisCluster(startup_nodes=[ClusterNode(*each) for each in addresses], **options)
    # It has no way to be told a class of connections; this mapping is what it gives to each node that it finds.
    client.connection_kwargs |= {"connection_class": _OverTls, "tls": tls}
    nodes = [ClusterNode(*each, **client.connection_kwargs) for each in addresses]
    client.nodes_manager.startup_nodes = {node.name: node for node in nodes}
    return client
