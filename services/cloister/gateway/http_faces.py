"""What clients reach over HTTP: a server of ours for HTTPS, or one inside Envoy, for gRPC or for HTTPS.

Apart from `faces`, so that a gateway that answers gRPC alone, as in an enclave, loads and carries none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from cloister.errors import CloisterError
from cloister.gateway.credentials import Credentials
from cloister.gateway.faces import shares_of
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
from cloister.kit.server import RECEIVE_S, role_table
from cloister.rpc.identity import PeerIdentity, TlsIdentity, peer_identity


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
        shares=shares_of(settings, credentials),
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
