"""What every process of a gateway is made of, whoever calls it: workers, tenants, jobs, and pages about them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloister import __version__
from cloister.errors import InvalidRequest, NotReady
from cloister.gateway.admission import Admission, Observe
from cloister.gateway.call import Call
from cloister.gateway.fleet import Fleet
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.metrics import RequestMetrics, watch_fleet
from cloister.gateway.operator_listener import operator_listener
from cloister.gateway.portion import portion
from cloister.gateway.routing_file import routing_file
from cloister.gateway.servicer import GATEWAY, INFERENCE, JOBS, GatewayServicer
from cloister.gateway.settings import Settings
from cloister.gateway.tenancy import Tenancy
from cloister.gateway.tenants_watch import tenants_watch
from cloister.gateway.usage import Usage
from cloister.gateway.worker_metrics import WorkerMetrics
from cloister.kit.config import settings_error
from cloister.kit.exporter import exporter
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.server import Health
from cloister.kit.shared_port import Place
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name

if TYPE_CHECKING:
    from cloister.gateway.spans import RequestSpans


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Core:
    """One process of a gateway, but for those who call it.

    Attributes:
        settings: Its part of what the gateway may hold.
        identity: The gateway's.
        verifier: Tells who is attested; `fleet` follows it once that runs.
        fleet: The workers.
        metrics: Of this process.
        tenancy: Who may ask what.
        admission: Lets requests in.
        stores: Where jobs are kept, and whether they can be.
        gateway: Says how all of it is.
        spans: Traced requests; None where nobody collects them.
    """

    settings: Settings
    identity: TlsIdentity
    verifier: Peer
    fleet: Fleet
    metrics: Metrics
    tenancy: Tenancy
    admission: Admission
    stores: StoreWatch
    gateway: GatewayServicer
    spans: RequestSpans | None


@asynccontextmanager
async def founded(settings: Settings, lifecycle: Lifecycle, place: Place | None) -> AsyncIterator[Core]:
    """A process, or the only one, of a gateway."""
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
        await _follow_routing(settings, lifecycle, fleet)
        metrics = Metrics()
        watch_fleet(metrics, fleet)
        await stack.enter_async_context(exporter(settings.metrics_listen, metrics.registry, lifecycle.ready))
        tenancy = await _tenancy(settings, lifecycle, place)
        WorkerMetrics(metrics, fleet)
        requests = RequestMetrics(metrics, fleet.serves)
        spans = await stack.enter_async_context(_spans(settings))
        observe = _both(requests.request_ended, spans)
        admission = Admission(fleet.dispatcher, tenancy.tenants, observe, tenancy.directory)
        usage = Usage(fleet.dispatcher, tenancy.tenants, admission)
        metrics.registry.register(usage)
        stores = await stack.enter_async_context(_stores(settings, metrics, place))
        gateway = GatewayServicer(fleet, admission, usage, requests, stores, place)
        yield Core(settings, identity, verifier, fleet, metrics, tenancy, admission, stores, gateway, spans)


async def _follow_routing(settings: Settings, lifecycle: Lifecycle, fleet: Fleet) -> None:
    if settings.routing is None:
        return
    routing = routing_file(settings.routing, fleet.dispatcher.route)
    try:
        await routing.read()
    except (InvalidRequest, NotReady) as error:
        raise settings_error("routing", f"{settings.routing.name}: {error}") from error
    lifecycle.spawn(routing.watching(), "routing")


@asynccontextmanager
async def _stores(settings: Settings, metrics: Metrics, place: Place | None) -> AsyncIterator[StoreWatch]:
    """Where jobs are kept; nothing of Redis is loaded where there are none."""
    if settings.redis is None or not settings.keeps_jobs:
        yield StoreWatch.off()
        return
    try:
        from cloister.gateway.jobs.opening import consumer_name, opened_stores
    except ModuleNotFoundError:
        raise settings_error("redis", "needs the extra 'serve': pip install 'cloister[serve]'") from None
    consumer = consumer_name(settings.name, settings.listen, place.number if place is not None else 0)
    async with opened_stores(settings.redis, settings.cluster, consumer, metrics.state_refused) as stores:
        yield stores


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
        from cloister.kit.otlp import CollectorTls, recording
    except ModuleNotFoundError:
        raise settings_error("otlp_endpoint", "needs the extra 'otel': pip install 'cloister[otel]'") from None
    resource = {
        "service.name": "cloister-gateway",
        "service.version": __version__,
        "service.namespace": settings.cluster,
        "service.instance.id": settings.name,
    }
    tls = CollectorTls(settings.otlp_ca, settings.otlp_certificate, settings.otlp_private_key)
    async with recording(settings.otlp_endpoint, tls, resource) as recorder:
        yield RequestSpans(recorder, ratio=settings.otlp_ratio, tenants=settings.otlp_tenants)


def _both(count: Observe, spans: RequestSpans | None) -> Observe:
    if spans is None:
        return count
    record = spans.request_ended

    def observe(outcome: str, call: Call | None) -> None:
        count(outcome, call)
        record(outcome, call)

    return observe


async def announced(
    core: Core, lifecycle: Lifecycle, stack: AsyncExitStack, healths: Sequence[Health]
) -> Sequence[Health]:
    """Follow the verifier and look after the store, for as long as the stack is open, and say so to whoever asks."""
    operators = await stack.enter_async_context(
        operator_listener(core.settings, lifecycle, core.identity, core.metrics, core.gateway)
    )
    healths = [*healths, *([operators.health] if operators is not None else ())]
    for health in healths:
        await health.set("", False)

    async def serving(ready: bool) -> None:
        for health in healths:
            await health.set(JOBS, ready)

    stack.callback(lifecycle.spawn(core.fleet.run(core.verifier), "fleet").cancel)
    stack.callback(lifecycle.spawn(core.stores.watching(serving), "store of jobs").cancel)
    lifecycle.spawn(_announce(core.fleet, healths), "health")
    return healths


async def _announce(fleet: Fleet, healths: Iterable[Health]) -> None:
    """Say that we serve, once the fleet is known: before, every answer would be that nobody can be reached."""
    await fleet.current.wait()
    for health in healths:
        for service in ("", INFERENCE, GATEWAY):
            await health.set(service, True)
