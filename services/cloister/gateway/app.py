"""The gateway, wired."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial

from cloister.api.v1.gateway_pb2_grpc import add_GatewayServicer_to_server
from cloister.api.v1.jobs_pb2_grpc import add_JobsServicer_to_server
from cloister.gateway.core import Core, announced, founded, wall_ms
from cloister.gateway.faces import F, Face, Facing, listening
from cloister.gateway.jobs.feeds import Feeds
from cloister.gateway.jobs.known import KnownModels
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.servicer import JobsServicer
from cloister.gateway.limits import Limits, TenantLimits
from cloister.gateway.portion import REST, RUNNER
from cloister.gateway.servicer import InferenceServicer
from cloister.gateway.settings import GRPC, Settings
from cloister.gateway.tenants import Tenants
from cloister.kit import lag, log
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.processes import Processes, same_program, until_parent_ends
from cloister.kit.server import DRAIN_PAUSE_S
from cloister.kit.shared_port import Place, places, reserved


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Run the gateway until told to stop, then drain; by processes of our own where there are to be several."""
    place = Place.inherited(os.environ, settings.listen, {REST: settings.rest_listen, RUNNER: None})
    if place is None and (settings.processes > 1 or settings.rest_listen or settings.runs_jobs):
        await _by_processes(settings, lifecycle)
        return
    if place is not None:
        log.configure(service_name(place), json=settings.log_json)
        lifecycle.spawn(until_parent_ends(lifecycle), "parent")
    if place is not None and place.face == RUNNER:
        from cloister.gateway.jobs_process import run_jobs

        lag.spare_collections()
        await run_jobs(settings, lifecycle, place)
        return
    if settings.front != GRPC and await _behind_envoy(settings, lifecycle, place):
        return
    async with opened(settings, lifecycle, _facing(place), place) as server:
        lag.spare_collections()
        await server.run()


# Envoy and HTTPS are loaded where they are wanted, as Redis is: an enclave has none, nor what they are made of.


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
    """Have processes of our own answer, some of them HTTPS where that is wanted, and some give jobs to workers."""
    with ExitStack() as held:
        port, listen = held.enter_context(reserved(settings.listen))
        each = [*places(settings.processes, port.fileno())]
        environment = {"CLOISTER_GATEWAY_LISTEN": listen}
        if settings.rest_listen:
            port, listen = held.enter_context(reserved(settings.rest_listen))
            each += places(settings.rest_processes, port.fileno(), REST)
            environment["CLOISTER_GATEWAY_REST_LISTEN"] = listen
        if settings.runs_jobs:
            each += places(settings.jobs.processes, None, RUNNER)
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
    async with founded(settings, lifecycle, place) as core, AsyncExitStack() as stack:
        settings = core.settings
        server = await stack.enter_async_context(
            facing(settings, lifecycle, core.identity, core.metrics, core.tenancy.credentials)
        )
        streams = Tenants(Limits(TenantLimits(calls=settings.stream_limit)), settings.memory_bytes)
        inference = InferenceServicer(
            core.fleet,
            core.admission,
            streams,
            max_call_s=settings.max_call_s,
            stopping=lifecycle.stopping,
            new_trace=core.spans.new_trace if core.spans is not None else lambda: None,
        )
        server.add_generic(inference.handler())
        server.add(add_GatewayServicer_to_server, core.gateway)
        server.add(add_JobsServicer_to_server, _jobs(core, streams, lifecycle))
        await announced(core, lifecycle, stack, [server.health])
        yield server


def _jobs(core: Core, streams: Tenants, lifecycle: Lifecycle) -> JobsServicer:
    """What clients call for jobs."""
    settings, directory = core.settings, core.tenancy.directory
    return JobsServicer(
        core.stores,
        Feeds(core.stores, lifecycle.spawn),
        KnownModels(core.fleet, core.stores, directory, settings.models),
        directory,
        core.tenancy.tenants,
        streams,
        JobMetrics(core.metrics, core.stores),
        settings.jobs,
        max_call_s=settings.max_call_s,
        stopping=lifecycle.stopping,
        wall_ms=wall_ms,
    )
