"""Clients that ask too much, go away, do not read, never end, or lie about who they are: what they held comes back."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.errors import CloisterError, InvalidRequest, Overloaded
from cloister.gateway import stream as stream_module
from cloister.gateway.call import Call
from cloister.gateway.stream import WINDOW
from cloister.rpc.spiffe import server_name
from cloister.rpc.status import from_rpc_error
from fakes.gateway_parts import A, infer_request
from fakes.pki import MeshPki
from fakes.running_gateway import RawStub, Rig, ask, next_item, running_gateway
from fakes.tenants import write_tenants

A_CENTURY_S = 100 * 365 * 86_400.0


async def nothing_is_held(rig: Rig) -> None:
    """Every slot, place and byte is free, and no call is left in memory."""
    await rig.until(
        lambda status: (
            status.queued == 0
            and not any(worker.slots_used for worker in status.workers)
            and not any(tenant.under_way for tenant in status.tenants)
        )
    )
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Call)]


async def ended(call: Any) -> Exception | None:
    """How a call that was made ended."""
    try:
        await call
    except (CloisterError, TimeoutError, grpc.aio.AioRpcError, asyncio.CancelledError) as error:
        return error
    return None


@asynccontextmanager
async def own_connection(rig: Rig, name: str) -> AsyncIterator[RawStub]:
    """A connection that the test can cut; nothing of the house is in it."""
    pems = rig.pki.identity("client", name)
    credentials = grpc.ssl_channel_credentials(pems.trust_roots, pems.private_key, pems.certificate)
    options = (
        ("grpc.ssl_target_name_override", server_name(rig.pki.cluster, "gateway")),
        ("grpc.use_local_subchannel_pool", 1),
    )
    async with grpc.aio.secure_channel(f"127.0.0.1:{rig.port}", credentials, options=options) as channel:
        yield RawStub(channel)


@pytest.mark.attack("G24")
async def test_deadlines_of_nothing_of_less_and_of_a_century(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, max_call_s=20.0) as rig:
        worker = await rig.worker(A)
        async with own_connection(rig, "ann") as stub:
            for timeout_s in (0.0, -1.0, -A_CENTURY_S):
                error = await ended(stub.infer(infer_request(), timeout=timeout_s))
                assert isinstance(error, grpc.aio.AioRpcError)
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert all(call.timeout_ms <= 1 for call in worker.seen)  # of nothing, a moment may be left on the way
            for timeout_s in (A_CENTURY_S, None):
                assert await ended(stub.infer(infer_request(), timeout=timeout_s)) is None
        assert all(0 < call.timeout_ms <= 20_000 for call in worker.seen)
        await nothing_is_held(rig)


@pytest.mark.attack("G24")
async def test_a_storm_of_thousands_of_cancelled_calls(tmp_path: Path, pki: MeshPki) -> None:
    limits = {"tenant_limit": 600, "queue_limit": 1200, "max_concurrent": 2000, "max_concurrent_per_peer": 600}
    async with running_gateway(tmp_path, pki, **limits) as rig:
        worker = await rig.worker(A, slots=8)
        worker.open_gate.clear()
        async with own_connection(rig, "ann") as ann, own_connection(rig, "bob") as bob:
            for _ in range(3):
                calls = [stub.infer(infer_request(), timeout=30) for stub in (ann, bob) for _ in range(400)]
                await rig.until(lambda status: status.queued > 100)
                for call in calls:
                    call.cancel()
                for call in calls:
                    assert isinstance(await ended(call), asyncio.CancelledError)
                await rig.until(lambda status: status.queued == 0)
            del calls, call
            status = await rig.status()
            assert status.workers[0].slots_used == 8  # the worker is busy with these, whoever waits
            worker.open_gate.set()
            await nothing_is_held(rig)
            assert worker.most_under_way <= 8
            assert await ended(ann.infer(infer_request(), timeout=10)) is None
        assert status.requests_total >= 300


@pytest.mark.attack("G24")
async def test_disconnecting_after_every_first_answer(rig: Rig) -> None:
    worker = await rig.worker(A, slots=8)
    for _ in range(12):
        async with own_connection(rig, "ann") as stub:
            call = stub.stream(timeout=30)
            await call.write(infer_request())
            await next_item(call)
            worker.open_gate.clear()
            before = len(worker.seen)
            for _ in range(10):
                await call.write(infer_request())
            await worker.given(before + 8)
        worker.open_gate.set()
        await nothing_is_held(rig)
    await ask(await rig.raw("ann"))


@pytest.mark.attack("G25")
async def test_a_stream_that_never_reads_is_cut_off_and_keeps_nothing_but_its_place_among_streams(
    tmp_path: Path, pki: MeshPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "WRITE_S", 0.4)
    async with running_gateway(tmp_path, pki, stream_limit=1) as rig:
        worker = await rig.worker(A, slots=200)
        stub = await rig.raw("lazy")
        call = stub.stream(timeout=60)

        async def write_on() -> None:
            while True:
                await call.write(infer_request(tensor=bytes(200_000)))

        async with asyncio.TaskGroup() as group:
            group.create_task(ended(write_on()))
            await worker.given(WINDOW)
            await nothing_is_held(rig)
            assert len(worker.seen) <= 4 * WINDOW
            # gRPC holds the answer that is not read, and would hold one for every stream that might be opened anew.
            with pytest.raises(Overloaded):
                await stub.stream(timeout=20).read()
            call.cancel()
        async with asyncio.timeout(10):
            while not await opens_a_stream(stub):
                pass


async def opens_a_stream(stub: RawStub) -> bool:
    call = stub.stream(timeout=20)
    try:
        await call.write(infer_request())
        return not (await next_item(call)).error_message
    except Overloaded:
        return False


@pytest.mark.attack("G25")
async def test_a_stream_that_never_ends_holds_no_slot_and_hinders_nobody(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, stream_limit=3, tenant_limit=2) as rig:
        await rig.worker(A, slots=1)
        stub = await rig.raw("lazy")
        open_calls = [stub.stream(timeout=60) for _ in range(3)]
        for call in open_calls:
            await call.write(infer_request())
            await next_item(call)
        await nothing_is_held(rig)
        with pytest.raises(Overloaded):
            await stub.stream(timeout=60).read()
        await ask(stub)
        other = (await rig.raw("other")).stream(timeout=60)
        await other.write(infer_request())
        assert not (await next_item(other)).error_message
        for call in open_calls:
            call.cancel()


@pytest.mark.attack("G26")
async def test_a_forged_tenant_id_spends_the_forgers_own_quota(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, tenant_limit=2) as rig:
        worker = await rig.worker(A, slots=1)
        worker.open_gate.clear()
        ann, bob = (f"spiffe://{pki.cluster}/client/{name}" for name in ("ann", "bob"))
        request = ModelInferRequest.FromString(infer_request())
        for parameter in ("tenant", "cloister-tenant", "x-tenant"):
            request.parameters[parameter].string_param = bob
        forged = request.SerializeToString()
        metadata = [(key, bob) for key in ("tenant", "x-tenant", "cloister-tenant", "x-forwarded-client-cert")]
        async with own_connection(rig, "ann") as stub, asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(ended(stub.infer(forged, timeout=20, metadata=metadata)))
            await rig.until(lambda status: status.queued == 1)
            refused = await ended(stub.infer(forged, timeout=20, metadata=metadata))
            assert isinstance(refused, grpc.aio.AioRpcError)
            assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            group.create_task(ask(await rig.raw("bob")))
            status = await rig.until(lambda status: status.queued == 2)
            assert {tenant.spiffe_id: tenant.under_way for tenant in status.tenants} == {ann: 2, bob: 1}
            assert dict(status.tenants[0].refused) == {"tenant.busy": 1}
            worker.open_gate.set()
        assert sorted(call.tenant for call in worker.seen) == [ann, ann, bob]


@pytest.mark.attack("G26")
@pytest.mark.parametrize("step_s", [-86_400.0, 600.0])
async def test_a_step_of_the_clock_gives_nobody_more_and_nobody_less(
    tmp_path: Path, pki: MeshPki, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    tenants = "".join(
        f'[tenants.{name}]\nall_models = true\ncertificates = ["spiffe://{pki.cluster}/client/{name}"]\n'
        "rate = 0.001\nburst = 1\n"
        for name in ("ann", "bob")
    )
    path = write_tenants(tmp_path / "tenants.toml", f"unlisted_certificates = true\n{tenants}")
    async with running_gateway(tmp_path, pki, tenants_file=path) as rig:
        await rig.worker(A)
        ann, bob = await rig.raw("ann"), await rig.raw("bob")
        await ask(ann)
        async with own_connection(rig, "ann") as late, own_connection(rig, "carol") as carol:
            true_time = time.time
            monkeypatch.setattr(time, "time", lambda: true_time() + step_s)
            # Without deadlines, because the client's would step too.
            refused = await ended(late.infer(infer_request()))
            assert isinstance(refused, grpc.aio.AioRpcError)
            told = from_rpc_error(refused)
            assert isinstance(told, Overloaded)
            assert (told.reason, 0 < told.retry_after_s <= 60) == ("tenant.too_fast", True)
            assert await ended(carol.infer(infer_request())) is None
            monkeypatch.undo()
        await ask(bob)


@pytest.mark.attack("I11")
async def test_one_tenants_hundred_requests_delay_anothers_by_one_turn(rig: Rig) -> None:
    worker = await rig.worker(A, slots=1)
    worker.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        greedy, modest = await rig.raw("greedy"), await rig.raw("modest")
        for _ in range(100):
            group.create_task(ask(greedy, timeout_s=60))
        await rig.until(lambda status: status.queued == 99)
        group.create_task(ask(modest, identifier="mine", timeout_s=60))
        status = await rig.until(lambda status: status.queued == 100)
        assert [(tenant.queued, tenant.under_way) for tenant in status.tenants] == [(99, 100), (1, 1)]
        worker.open_gate.set()
    tenants = [call.tenant.rpartition("/")[2] for call in worker.seen]
    assert tenants.index("modest") <= 2
    assert len(tenants) == 101


@pytest.mark.attack("I11")
async def test_what_would_take_too_much_memory_is_refused_and_others_are_served(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, memory_bytes=2_000_000) as rig:
        worker = await rig.worker(A, slots=1)
        worker.open_gate.clear()
        async with asyncio.TaskGroup() as group:
            greedy, modest = await rig.raw("greedy"), await rig.raw("modest")
            for _ in range(4):
                group.create_task(ask(greedy, tensor=bytes(240_000)))
            await rig.until(lambda status: status.queued == 3)
            for _ in range(5):
                with pytest.raises(Overloaded) as caught:
                    await ask(greedy, tensor=bytes(240_000))
                assert (caught.value.reason, caught.value.retry_after_s > 0) == ("tenant.busy", True)
            group.create_task(ask(modest, tensor=bytes(240_000)))
            await rig.until(lambda status: status.queued == 4)
            worker.open_gate.set()
        await nothing_is_held(rig)


async def test_refusals_say_when_to_come_again_on_calls_and_on_streams(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, queue_limit=1) as rig:
        worker = await rig.worker(A, slots=1)
        worker.open_gate.clear()
        async with asyncio.TaskGroup() as group:
            stub = await rig.raw("ann")
            for _ in range(2):
                group.create_task(ask(stub))
            await rig.until(lambda status: status.queued == 1)
            with pytest.raises(Overloaded) as caught:
                await ask(stub)
            assert (caught.value.reason, 0 < caught.value.retry_after_s <= 15) == ("queue.full", True)
            call = stub.stream(timeout=20)
            await call.write(infer_request(identifier="r-1"))
            item = await next_item(call)
            assert item.infer_response.parameters["cloister-reason"].string_param == "queue.full"
            assert item.infer_response.parameters["cloister-retry-ms"].int64_param > 0
            status = await rig.status()
            assert dict(status.models[0].refused) == {"queue.full": 2}
            worker.open_gate.set()
            call.cancel()


async def test_a_request_that_cannot_make_its_deadline_is_refused_at_once(rig: Rig) -> None:
    worker = await rig.worker(A, slots=1)
    worker.slow_s = 0.3
    stub = await rig.raw()
    await ask(stub)
    worker.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(ask(stub, timeout_s=60))
        await rig.until(lambda status: status.queued == 19)
        with pytest.raises(Overloaded) as caught:
            await ask(stub, timeout_s=2)
        assert caught.value.reason == "deadline.unreachable"
        await rig.until(lambda status: status.queued == 19)
        worker.slow_s = 0.0
        worker.open_gate.set()
    assert len(worker.seen) == 21


async def test_a_malformed_request_is_no_refusal_for_want_of_room(rig: Rig) -> None:
    await rig.worker(A)
    with pytest.raises(InvalidRequest):
        await ask(await rig.raw(), b"\xff")
    assert (await rig.status()).models[0].refused == {}
