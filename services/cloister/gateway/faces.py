"""What clients reach: a server of ours on a port here, for gRPC; `http_faces` has the others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

import grpc

from cloister.gateway.credentials import Credentials
from cloister.gateway.servicer import ROLES
from cloister.gateway.settings import Settings
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.server import Health, Server
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
Facing = Callable[[Settings, Lifecycle, TlsIdentity, Metrics, Credentials], AbstractAsyncContextManager[F]]
"""Makes the face, which answers once it runs. For gRPC, TLS says who asks, and credentials only whose share it is."""


def listening(
    settings: Settings,
    lifecycle: Lifecycle,
    identity: TlsIdentity,
    metrics: Metrics,
    credentials: Credentials,
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
        shares=shares_of(settings, credentials),
        max_connections=settings.max_connections,
        grace_s=settings.grace_s,
        max_call_s=settings.max_call_s,
        on_call=metrics.call_answered,
        log_answers=settings.log_requests,
        shared_port=shared_port,
    )


def shares_of(settings: Settings, credentials: Credentials) -> Shares:
    """How many calls, and how much memory, each client may have at once."""
    return Shares(settings.max_concurrent_per_peer, settings.memory_bytes // 2, credentials.party)
