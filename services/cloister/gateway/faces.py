"""What clients reach: gRPC's own server on a port, or a server inside Envoy, which has the port. Both answer alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import grpc

from cloister.gateway.servicer import ROLES
from cloister.gateway.settings import Settings
from cloister.kit.calls import Guard
from cloister.kit.hosted import HostedServer
from cloister.kit.incoming import PREFIX_BYTES
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.server import RECEIVE_S, Health, Server, role_table
from cloister.kit.shares import Shares
from cloister.rpc.channel import MAX_MESSAGE_BYTES
from cloister.rpc.identity import TlsIdentity


class Face(Protocol):
    """`Server`, or `HostedServer`."""

    health: Health

    def add(self, add_to_server: Callable[[Any, Any], None], servicer: Any) -> None:
        """Serve a servicer."""

    def add_generic(self, handler: grpc.GenericRpcHandler) -> None:
        """Serve a generic handler."""

    async def run(self) -> None:
        """Answer until the lifecycle is stopping, then drain."""


F = TypeVar("F", bound=Face)
Facing = Callable[[Settings, Lifecycle, TlsIdentity, Metrics], AbstractAsyncContextManager[F]]
"""Makes the face, which answers once it runs."""


def listening(
    settings: Settings,
    lifecycle: Lifecycle,
    identity: TlsIdentity,
    metrics: Metrics,
    *,
    shared_port: bool = False,
) -> AbstractAsyncContextManager[Server]:
    """GRPC's own server, bound to the gateway's address, which other processes of this gateway may share."""
    return Server.mtls(
        settings.listen,
        identity,
        lifecycle=lifecycle,
        roles=ROLES,
        max_message_bytes=settings.max_message_bytes,
        max_answer_bytes=MAX_MESSAGE_BYTES,  # what a worker has computed is not thrown away
        max_concurrent=settings.max_concurrent,
        shares=_shares(settings),
        max_connections=settings.max_connections,
        grace_s=settings.grace_s,
        max_call_s=settings.max_call_s,
        on_call=metrics.call_answered,
        log_answers=settings.log_requests,
        shared_port=shared_port,
    )


@asynccontextmanager
async def hosted(
    settings: Settings, lifecycle: Lifecycle, identity: TlsIdentity, metrics: Metrics
) -> AsyncIterator[HostedServer]:
    """The server inside Envoy."""
    guard = Guard(
        identity.spiffe_id.cluster,
        role_table(ROLES),
        max_call_s=settings.max_call_s,
        receive_s=RECEIVE_S,
        shares=_shares(settings),
        on_call=metrics.call_answered,
        log_answers=settings.log_requests,
    )
    yield HostedServer(
        guard,
        lifecycle,
        max_message_bytes=settings.max_message_bytes,
        max_arriving_bytes=max(settings.memory_bytes, 2 * (settings.max_message_bytes + PREFIX_BYTES)),
        max_concurrent=settings.max_concurrent,
        grace_s=settings.grace_s,
    )


def _shares(settings: Settings) -> Shares:
    return Shares(settings.max_concurrent_per_peer, settings.memory_bytes // 2)
