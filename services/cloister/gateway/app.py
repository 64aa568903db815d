"""The gateway, wired."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from cloister import __version__
from cloister.api.v1.gateway_pb2_grpc import add_GatewayServicer_to_server
from cloister.errors import InvalidRequest, NotReady
from cloister.gateway.admission import Admission, Observe
from cloister.gateway.call import Call
from cloister.gateway.faces import F, Face, Facing, listening
from cloister.gateway.fleet import Fleet
from cloister.gateway.limits import Limits, TenantLimits
from cloister.gateway.metrics import RequestMetrics, watch_fleet
from cloister.gateway.operator_listener import operator_listener
from cloister.gateway.portion import REST, portion
from cloister.gateway.routing_file import routing_file
from cloister.gateway.servicer import GATEWAY, INFERENCE, GatewayServicer, InferenceServicer
from cloister.gateway.settings import GRPC, Settings
from cloister.gateway.tenancy import Tenancy
from cloister.gateway.tenants import Tenants
from cloister.gateway.tenants_watch import tenants_watch
from cloister.gateway.usage import Usage
from cloister.gateway.worker_metrics import WorkerMetrics
from cloister.kit import lag, log
from cloister.kit.config import settings_error
from cloister.kit.exporter import exporter
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.processes import Processes, same_program, until_parent_ends
from cloister.kit.server import DRAIN_PAUSE_S, Health
from cloister.kit.shared_port import Place, places, reserved
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name

if TYPE_CHECKING:
    from cloister.gateway.spans import RequestSpans


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Run the gateway until told to stop, then drain; by processes of our own where there are to be several."""
    place = Place.inherited(os.environ, settings.listen, {REST: settings.rest_listen})
    if place is None and (settings.processes > 1 or settings.rest_listen):
        await _by_processes(settings, lifecycle)
        return
    if place is not None:
        log.configure(service_name(place), json=settings.log_json)
        lifecycle.spawn(until_parent_ends(lifecycle), "parent")
    if settings.front != GRPC and await _behind_envoy(settings, lifecycle, place):
        return
    async with opened(settings, lifecycle, _facing(place), place) as server:
        lag.spare_collections()
        await server.run()


# Envoy and HTTPS are loaded where they are wanted: an enclave has neither, nor what they are made of.


async def _behind_envoy(settings: Settings, lifecycle: Lifecycle, place: Place | None) -> bool:
    """Be the gateway behind Envoy until told to stop; returns at once, False, where there is none to be had."""
    from cloister.gateway.front import behind_envoy, envoy_module

    module = envoy_module(settings.front)
    if module is not None:
        await behind_envoy(settings, lifecycle, module, place)
    return module is not None


def _facing(place: Place | None) -> Facing[Face]:
    """The face of this process, where there is no Envoy."""
    if place is None or place.face != REST:
        return partial(listening, shared_port=place is not None)
    from cloister.gateway.http_faces import listening_https

    return partial(listening_https, shared_port=True)


async def _by_processes(settings: Settings, lifecycle: Lifecycle) -> None:
    """Have processes of our own answer, some of them HTTPS where that is wanted."""
    with ExitStack() as held:
        port, listen = held.enter_context(reserved(settings.listen))
        each = [*places(settings.processes, port.fileno())]
        environment = {"CLOISTER_GATEWAY_LISTEN": listen}
        if settings.rest_listen:
            port, listen = held.enter_context(reserved(settings.rest_listen))
            each += places(settings.rest_processes, port.fileno(), REST)
            environment["CLOISTER_GATEWAY_REST_LISTEN"] = listen
        await Processes(same_program(), each, environment, settings.grace_s + DRAIN_PAUSE_S).run(lifecycle.stopping)


def service_name(place: Place | None) -> str:
    """Which process of the gateway this is, in logs."""
    if place is None:
        return "gateway"
    return f"gateway-{place.face}-{place.number}" if place.face else f"gateway-{place.number}"


@asynccontextmanager
async def opened(
    settings: Settings, lifecycle: Lifecycle, facing: Facing[F], place: Place | None = None
) -> AsyncIterator[F]:
    """A gateway, or one process of it, that follows the verifier; it answers when its face runs."""
    settings = portion(settings, place)
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(TlsIdentity.watching(settings.tls))
        verifier_name = server_name(settings.cluster, "verifier")
        verifier = await stack.enter_async_context(Peer(settings.verifier, identity, verifier_name))

        def connect(endpoint: str, name: str) -> Peer:
            return Peer(endpoint, identity, name)

        fleet = Fleet(
            settings.cluster,
            connect,
            limits=settings.model_limits(),
            wall_ms=wall_ms,
            simulated_workers=settings.simulated_workers,
        )
        if settings.routing is not None:
            routing = routing_file(settings.routing, fleet.dispatcher.route)
            try:
                await routing.read()
            except (InvalidRequest, NotReady) as error:
                raise settings_error("routing", f"{settings.routing.name}: {error}") from error
            lifecycle.spawn(routing.watching(), "routing")
        metrics = Metrics()
        watch_fleet(metrics, fleet)
        await stack.enter_async_context(exporter(settings.metrics_listen, metrics.registry))
        tenancy = await _tenancy(settings, lifecycle, place)
        tenants = tenancy.tenants
        WorkerMetrics(metrics, fleet)
        requests = RequestMetrics(metrics, fleet.serves)
        spans = await stack.enter_async_context(_spans(settings))
        admission = Admission(fleet.dispatcher, tenants, _both(requests.request_ended, spans), tenancy.directory)
        usage = Usage(fleet.dispatcher, tenants, admission)
        metrics.registry.register(usage)
        server = await stack.enter_async_context(facing(settings, lifecycle, identity, metrics, tenancy.credentials))
        streams = Tenants(Limits(TenantLimits(calls=settings.stream_limit)), settings.memory_bytes)
        inference = InferenceServicer(
            fleet,
            admission,
            streams,
            max_call_s=settings.max_call_s,
            stopping=lifecycle.stopping,
            new_trace=spans.new_trace if spans is not None else lambda: None,
        )
        server.add_generic(inference.handler())
        gateway = GatewayServicer(fleet, admission, usage, requests, place)
        server.add(add_GatewayServicer_to_server, gateway)
        await server.health.set("", False)
        operators = await stack.enter_async_context(operator_listener(settings, lifecycle, identity, metrics, gateway))
        healths = [each.health for each in (server, operators) if each is not None]
        stack.callback(lifecycle.spawn(fleet.run(verifier), "fleet").cancel)
        lifecycle.spawn(_announce(fleet, healths), "health")
        yield server


async def _tenancy(settings: Settings, lifecycle: Lifecycle, place: Place | None) -> Tenancy:
    """Who may ask what: what the tenants file says from time to time, or the same for every certificate of the mesh."""
    tenancy = Tenancy(
        settings.cluster,
        settings.tenant_limits(),
        settings.memory_bytes,
        processes=place.count if place is not None else 1,
        spawn=lifecycle.spawn,
    )
    if settings.tenants_file is not None:
        watch = tenants_watch(settings.tenants_file, settings.cluster, tenancy.use)
        try:
            await watch.read()
        except (InvalidRequest, NotReady) as error:
            raise settings_error("tenants_file", str(error)) from error
        lifecycle.spawn(watch.watching(), "tenants")
        lifecycle.spawn(tenancy.tokens.refreshing(), "issuers")
    return tenancy


@asynccontextmanager
async def _spans(settings: Settings) -> AsyncIterator[RequestSpans | None]:
    """Traced requests on their way to a collector; None, and nothing loaded, where the settings name none."""
    if not settings.otlp_endpoint:
        yield None
        return
    try:
        from cloister.gateway.spans import RequestSpans
        from cloister.kit.otlp import recording
    except ModuleNotFoundError:
        raise settings_error("otlp_endpoint", "needs the extra 'otel': pip install 'cloister[otel]'") from None
    resource = {
        "service.name": "cloister-gateway",
        "service.version": __version__,
        "service.namespace": settings.cluster,
        "service.instance.id": settings.name,
    }
    async with recording(settings.otlp_endpoint, settings.otlp_ca, resource) as recorder:
        yield RequestSpans(recorder, ratio=settings.otlp_ratio, tenants=settings.otlp_tenants)


def _both(count: Observe, spans: RequestSpans | None) -> Observe:
    if spans is None:
        return count
    record = spans.request_ended

    def observe(outcome: str, call: Call | None) -> None:
        count(outcome, call)
        record(outcome, call)

    return observe


async def _announce(fleet: Fleet, healths: Iterable[Health]) -> None:
    """Say that we serve, once the fleet is known: before, every answer would be that nobody can be reached."""
    await fleet.current.wait()
    for health in healths:
        for service in ("", INFERENCE, GATEWAY):
            await health.set(service, True)
