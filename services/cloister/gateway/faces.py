"""What clients reach, for gRPC and for HTTPS: a server of ours on a port, or one inside Envoy, which has the port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import grpc

from cloister.errors import CloisterError
from cloister.gateway.credentials import Credentials
from cloister.gateway.rest.calls import RestCalls
from cloister.gateway.rest.certificates import shown_to_envoy, shown_to_us
from cloister.gateway.rest.exchange import PASSING, RestExchange
from cloister.gateway.rest.openapi import openapi_document
from cloister.gateway.rest.routes import rest_routes
from cloister.gateway.servicer import ROLES
from cloister.gateway.settings import Settings
from cloister.kit.calls import Guard
from cloister.kit.hosted import HostedServer, Scope, identified
from cloister.kit.https import HttpsLimits, https_listener
from cloister.kit.incoming import PREFIX_BYTES, Arrivals
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.server import RECEIVE_S, Health, Server, role_table
from cloister.kit.shares import Shares
from cloister.rpc.channel import MAX_MESSAGE_BYTES
from cloister.rpc.identity import PeerIdentity, TlsIdentity, peer_identity


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
        shares=_shares(settings, credentials),
        max_connections=settings.max_connections,
        grace_s=settings.grace_s,
        max_call_s=settings.max_call_s,
        on_call=metrics.call_answered,
        log_answers=settings.log_requests,
        shared_port=shared_port,
    )


@asynccontextmanager
async def hosted(
    settings: Settings, lifecycle: Lifecycle, identity: TlsIdentity, metrics: Metrics, credentials: Credentials
) -> AsyncIterator[HostedServer]:
    """The server inside Envoy."""
    yield _hosted(settings, lifecycle, _guard(settings, identity, metrics, credentials))


@asynccontextmanager
async def hosted_https(
    settings: Settings, lifecycle: Lifecycle, identity: TlsIdentity, metrics: Metrics, credentials: Credentials
) -> AsyncIterator[HostedServer]:
    """The server inside an Envoy that HTTPS clients reach: REST, gRPC-Web and gRPC."""
    guard = _guard(settings, identity, metrics, credentials, identify=identified)
    yield _https(settings, lifecycle, guard, credentials, shown_to_envoy)


@asynccontextmanager
async def listening_https(
    settings: Settings,
    lifecycle: Lifecycle,
    identity: TlsIdentity,
    metrics: Metrics,
    credentials: Credentials,
    *,
    shared_port: bool = False,
) -> AsyncIterator[HostedServer]:
    """REST over HTTP/1.1 by a server of our own, where there is no Envoy."""
    guard = _guard(settings, identity, metrics, credentials, identify=identified)
    server = _https(settings, lifecycle, guard, credentials, shown_to_us)
    server.speaks_grpc = False
    limits = HttpsLimits(
        max_connections=settings.max_connections,
        request_s=max(RECEIVE_S, settings.max_call_s),
        grace_s=settings.grace_s,
    )
    async with https_listener(
        settings.listen,
        identity,
        settings.tls,
        server,
        lifecycle=lifecycle,
        limits=limits,
        clients=True,
        shared_port=shared_port,
    ) as listener:
        server.port = listener.port
        yield server


def _guard(
    settings: Settings,
    identity: TlsIdentity,
    metrics: Metrics,
    credentials: Credentials,
    *,
    identify: Callable[[Any], PeerIdentity] = peer_identity,
) -> Guard:
    return Guard(
        identity.spiffe_id.cluster,
        role_table(ROLES),
        max_call_s=settings.max_call_s,
        receive_s=RECEIVE_S,
        shares=_shares(settings, credentials),
        on_call=metrics.call_answered,
        log_answers=settings.log_requests,
        identify=identify,
    )


def _hosted(settings: Settings, lifecycle: Lifecycle, guard: Guard, **more: Any) -> HostedServer:
    return HostedServer(
        guard,
        lifecycle,
        max_message_bytes=settings.max_message_bytes,
        max_arriving_bytes=_arriving_bytes(settings),
        max_concurrent=settings.max_concurrent,
        grace_s=settings.grace_s,
        **more,
    )


def _https(
    settings: Settings,
    lifecycle: Lifecycle,
    guard: Guard,
    credentials: Credentials,
    shown: Callable[[Scope], bytes | None],
) -> HostedServer:
    """A server for HTTPS; `shown` says which certificate a client has shown."""

    async def identify(scope: Scope) -> PeerIdentity | CloisterError:
        try:
            return await credentials.identify(scope["headers"], shown(scope))
        except CloisterError as error:
            return error

    calls = RestCalls(
        guard, identify, credentials.party, Arrivals(_arriving_bytes(settings)), settings.max_message_bytes
    )
    app = rest_routes(calls, openapi_document())
    exchange = partial(RestExchange, app, asyncio.Semaphore(PASSING))
    return _hosted(settings, lifecycle, guard, identify=identify, party=credentials.party, other=exchange)


def _arriving_bytes(settings: Settings) -> int:
    return max(settings.memory_bytes, 2 * (settings.max_message_bytes + PREFIX_BYTES))


def _shares(settings: Settings, credentials: Credentials) -> Shares:
    return Shares(settings.max_concurrent_per_peer, settings.memory_bytes // 2, credentials.party)
