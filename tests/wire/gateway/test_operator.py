"""What an operator sees and does: metrics, health, an orderly end."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cloister.errors import NotFound, Unavailable
from fakes.gateway_parts import A
from fakes.pki import MeshPki
from fakes.running_gateway import Rig, ask, free_port, running_gateway

SERVING = health_pb2.HealthCheckResponse.SERVING


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        content: bytes = answer.read()
        return content.decode()


async def test_metrics_are_on_an_address_of_their_own(tmp_path: Path, pki: MeshPki) -> None:
    port = free_port()
    async with running_gateway(tmp_path, pki, metrics_listen=f"127.0.0.1:{port}") as rig:
        await rig.worker(A, slots=5)
        stub = await rig.raw()
        await ask(stub)
        with pytest.raises(NotFound):
            await ask(stub, name="made-up-by-a-client")
        shown = await asyncio.to_thread(page, port)
    for line in (
        'cloister_requests_total{outcome="answered"} 1.0',
        'cloister_requests_total{outcome="NotFound"} 1.0',
        'cloister_request_seconds_count{model="tiny",version="1"} 1.0',
        'cloister_request_seconds_count{model="other",version=""} 1.0',
        'cloister_workers{simulated="false"} 1.0',
        "cloister_slots 5.0",
        "cloister_slots_used 0.0",
        "cloister_queued 0.0",
    ):
        assert line in shown
    assert "made-up-by-a-client" not in shown


async def test_health_follows_what_is_known_of_the_fleet(rig: Rig) -> None:
    stub = (await rig.peer("auditor", "al")).stub(health_pb2_grpc.HealthStub)
    async with asyncio.timeout(5):
        while (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status != SERVING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    service = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
    assert (await stub.Check(service, timeout=5)).status == SERVING


async def test_on_the_way_out_what_was_asked_is_answered(rig: Rig) -> None:
    worker = await rig.worker(A)
    worker.open_gate.clear()
    stub = await rig.raw()
    health = (await rig.peer("auditor", "al")).stub(health_pb2_grpc.HealthStub)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(stub, identifier="last"))
        await worker.given(1)
        rig.lifecycle.stop()
        while (await health.Check(health_pb2.HealthCheckRequest(), timeout=5)).status == SERVING:  # noqa: ASYNC110
            await asyncio.sleep(0)
        worker.open_gate.set()
    assert asked.result().id == "last"


async def test_a_gateway_without_its_verifier_says_that_it_knows_nobody(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, verifier=f"127.0.0.1:{free_port()}") as rig:
        with pytest.raises(Unavailable) as caught:
            await ask(await rig.raw())
        assert caught.value.reason == "fleet.unsettled"
        health = (await rig.peer("auditor", "al")).stub(health_pb2_grpc.HealthStub)
        assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=5)).status != SERVING
