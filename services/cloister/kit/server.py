"""The gRPC server that every service uses: mutual TLS 1.3, roles by method, limits, health, orderly end.

Limits follow the traps that others fell into: no compression (bombs), small metadata, pings counted, handshakes with a
deadline, idle connections closed, streams per connection bounded, and no second server silently sharing the port.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cloister.errors import NotReady
from cloister.kit import log
from cloister.kit.calls import Call, Guard, RoleTable, current_call, current_peer
from cloister.kit.environment import TLS_ENVIRONMENT
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.shares import Shares
from cloister.rpc.channel import MAX_MESSAGE_BYTES
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import ROLES

__all__ = ["ANY_ROLE", "Call", "Health", "Server", "current_call", "current_peer"]

ANY_ROLE: Final = ROLES
RECEIVE_S: Final = 60.0
MAX_CONNECTIONS: Final = 8192
"""Each costs a descriptor and some 50 KiB; the process must have descriptors left for its own calls."""
DRAIN_PAUSE_S: Final = 0.5
_LOOK_S: Final = 0.25
"""How often to ask gRPC whether its server has broken; while calls are under way it says so only when asked."""
_HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.absolute_max_metadata_size", 32 << 10),
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.max_connection_idle_ms", 600_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
)

_log = log.get_logger()
H = TypeVar("H")


class Health:
    """What `grpc.health.v1` says of this server: by service name, and "" for all of it.

    Args:
        lifecycle: Of the process, which is ready where each of its servers is.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.servicer = grpc_health.aio.HealthServicer()
        self._chosen = self._serving = False
        self._of_process = lifecycle.serving
        self._of_process.append(self._answers)

    async def set(self, service: str, serving: bool) -> None:
        """Say whether `service` is ready."""
        if not service:
            self._chosen, self._serving = True, serving
        states = health_pb2.HealthCheckResponse
        await self.servicer.set(service, states.SERVING if serving else states.NOT_SERVING)

    async def started(self) -> None:
        """The server answers now; says so for "" unless the service has spoken for itself."""
        if not self._chosen:
            await self.set("", True)

    async def drain(self) -> None:
        """NOT_SERVING everywhere, for good."""
        self._serving = False
        await self.servicer.enter_graceful_shutdown()

    def forget(self) -> None:
        """The server is gone: whether the process is ready is for its other servers to say."""
        self._of_process.remove(self._answers)

    def _answers(self) -> bool:
        return self._serving


class Server:
    """One listening server. Made by `mtls`."""

    def __init__(
        self, bound: Callable[[str], tuple[grpc.aio.Server, int]], listen: str, guard: Guard, lifecycle: Lifecycle
    ) -> None:
        self.health = Health(lifecycle)
        self._bound = bound
        self._server, self.port = bound(listen)
        self._listen = f"{listen.rpartition(':')[0]}:{self.port}"
        self._guard = guard
        self._lifecycle = lifecycle
        self._started = self._stopped = False
        self._grace_s = 0.0
        self._pause_s = 0.0

    @classmethod
    @asynccontextmanager
    async def mtls(
        cls,
        listen: str,
        identity: TlsIdentity,
        *,
        lifecycle: Lifecycle,
        roles: Mapping[str, frozenset[str] | set[str]],
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_answer_bytes: int = 0,
        max_concurrent: int = 1024,
        shares: Shares | None = None,
        max_connections: int = MAX_CONNECTIONS,
        handshake_s: float = 10.0,
        grace_s: float = 10.0,
        drain_pause_s: float = DRAIN_PAUSE_S,
        max_call_s: float = 300.0,
        receive_s: float = RECEIVE_S,
        on_call: Callable[[Call], None] | None = None,
        log_answers: bool = True,
        shared_port: bool = False,
        now_s: Callable[[], float] = time.time,
        ready: Callable[[str], None] | None = None,
    ) -> AsyncIterator[Server]:
        """A server bound to `listen`, which answers once `run` or `start` is called and is gone with the block.

        Args:
            listen: host:port; port 0 takes a free one.
            identity: Ours; its cluster is the one that peers must be of.
            lifecycle: `run` serves until this is stopping.
            roles: `/package.Service/Method` or `package.Service` to the roles that may call it. What is not here is
                refused to all.
            max_message_bytes: Limit of one message, both ways.
            max_answer_bytes: Limit of those that we send, where it is another one; 0 for the same.
            max_concurrent: Calls under way; more are told RESOURCE_EXHAUSTED. A stream counts as long as it is open.
            shares: What each peer may have open of them; None where a crowd shares one identity.
            max_connections: Open at once, of all peers; more are closed as they come.
            handshake_s: Longest that a TLS handshake may take.
            grace_s: How long calls in flight may take to finish at the end.
            drain_pause_s: How long others have to notice NOT_SERVING before calls are turned away.
            max_call_s: Longest call with a single answer, whatever the client asks for.
            receive_s: Longest that a single request message may take to arrive.
            on_call: Called with each call that has ended; for metrics.
            log_answers: One line for every call; False leaves lines for those that failed, where calls come by the
                thousand and metrics count them.
            shared_port: Whether other processes of ours listen there too: only for one that has a `Place`.
            now_s: Unix time, which a caller's certificate must not have reached the end of; for who has a clock that
                knows better than the host's.
            ready: Asked with the method of each call whose peer may make it; raises where it cannot be answered yet.

        Raises:
            NotReady: The address cannot be had, or gRPC would accept TLS 1.2.
        """
        _require_tls13()
        guard = Guard(
            identity.spiffe_id.cluster,
            role_table(roles),
            max_call_s=max_call_s,
            receive_s=receive_s,
            shares=shares,
            on_call=on_call,
            log_answers=log_answers,
            now_s=now_s,
            ready=ready,
        )
        options = (
            *_OPTIONS,
            ("grpc.server_handshake_timeout_ms", int(handshake_s * 1000)),
            ("grpc.max_allowed_incoming_connections", max_connections),
            ("grpc.so_reuseport", int(shared_port)),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_answer_bytes or max_message_bytes),
        )

        def bound(address: str) -> tuple[grpc.aio.Server, int]:
            bare = grpc.aio.server(
                handlers=(guard,),
                options=options,
                maximum_concurrent_rpcs=max_concurrent,
                compression=grpc.Compression.NoCompression,
            )
            return bare, _bound(bare, address, identity)

        server = cls(bound, listen, guard, lifecycle)
        server._grace_s, server._pause_s = grace_s, drain_pause_s
        server.add(health_pb2_grpc.add_HealthServicer_to_server, server.health.servicer)
        try:
            yield server
        finally:
            await server._stop(None)
            server.health.forget()

    def add(self, add_to_server: Callable[[H, Any], None], servicer: H) -> None:
        """Serve a servicer: `server.add(add_XServicer_to_server, servicer)`."""
        add_to_server(servicer, self._guard)

    def add_generic(self, handler: grpc.GenericRpcHandler) -> None:
        """Serve a generic handler, with or without serializers of its own."""
        self._guard.add_generic_rpc_handlers((handler,))

    async def start(self) -> None:
        """Begin to answer; `run` does it too."""
        if not self._started:
            self._started = True
            await self._server.start()
            self._lifecycle.spawn(self._revive(), "server revived")
            await self.health.started()
            _log.info("server.listening", port=self.port)

    async def run(self, *, until: asyncio.Event | None = None) -> None:
        """Serve until the lifecycle is stopping, or until something has happened, then drain within the grace."""
        await self.start()
        await self._lifecycle.unless_stopped((until or self._lifecycle.stopping).wait())
        await self.health.drain()
        _log.info("server.draining", grace_s=self._grace_s)
        await asyncio.sleep(self._pause_s)
        await self._stop(self._grace_s)

    async def _stop(self, grace_s: float | None) -> None:
        self._stopped = True
        await self._server.stop(grace_s)

    async def _revive(self) -> None:
        """Listen again where gRPC has given up: its loop ends at the first call whose path is not UTF-8.

        Every call under way is lost then, and connections with them; the next ones are served.
        """
        while not self._stopped:
            try:
                await self._server.wait_for_termination(timeout=_LOOK_S)
            except Exception as error:
                _log.error("server.broken", error=error)
                await self._server.stop(None)
                if not self._stopped:
                    self._server, _ = self._bound(self._listen)
                    await self._server.start()


def role_table(roles: Mapping[str, frozenset[str] | set[str]]) -> RoleTable:
    """These roles, and health for all."""
    return RoleTable({_HEALTH_CHECK: ANY_ROLE, **roles})


def _bound(server: grpc.aio.Server, listen: str, identity: TlsIdentity) -> int:
    try:
        port = server.add_secure_port(listen, identity.server_credentials())
    except RuntimeError as error:
        raise NotReady(f"cannot listen on {listen}", reason="address.taken") from error
    if port == 0:
        raise NotReady(f"cannot listen on {listen}", reason="address.taken")
    return port


def _require_tls13() -> None:
    key = "GRPC_SSL_CIPHER_SUITES"
    if os.environ.get(key) != TLS_ENVIRONMENT[key]:
        raise NotReady(f"{key} must be set before gRPC is imported, or TLS 1.2 would be accepted", reason="tls.too_old")
