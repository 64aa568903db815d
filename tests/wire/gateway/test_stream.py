"""ModelStreamInfer through a real gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from grpc.aio import EOF

from cloister.errors import NotAllowed, Overloaded, Unavailable
from cloister.gateway.stream import WINDOW
from fakes.gateway_parts import A, B, infer_request
from fakes.pki import MeshPki
from fakes.running_gateway import RawStub, Rig, ask, next_item, running_gateway, who


async def test_answers_in_order_though_workers_are_not(rig: Rig) -> None:
    slow, quick = await rig.worker(A, slots=8), await rig.worker(B, slots=8)
    slow.slow_s = 0.02
    call = (await rig.raw()).stream(timeout=20)
    for number in range(40):
        await call.write(infer_request(identifier=str(number)))
    await call.done_writing()
    items = [await next_item(call) for _ in range(40)]
    assert [item.infer_response.id for item in items] == [str(number) for number in range(40)]
    assert await call.read() is EOF
    assert slow.seen
    assert quick.seen


async def test_under_load_calls_share_frames(rig: Rig) -> None:
    worker = await rig.worker(A, slots=64)
    call = (await rig.raw()).stream(timeout=20)

    async def write() -> None:
        for _ in range(1000):
            await call.write(infer_request())
        await call.done_writing()

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        for _ in range(1000):
            await next_item(call)
    assert len(worker.seen) == 1000
    assert worker.most_together > 1  # they share frames


async def test_errors_are_items(rig: Rig) -> None:
    await rig.worker(A)
    call = (await rig.raw()).stream(timeout=20)
    for request in (infer_request("none", identifier="a"), b"\x1a\x01b\xff", infer_request(identifier="c")):
        await call.write(request)
    items = [await next_item(call) for _ in range(3)]
    assert [item.infer_response.id for item in items] == ["a", "b", "c"]
    assert [bool(item.error_message) for item in items] == [True, True, False]
    await call.done_writing()
    assert await call.read() is EOF


async def test_a_worker_that_dies_does_not_show(rig: Rig) -> None:
    dying = await rig.worker(A, slots=9)
    await rig.worker(B, slots=2)
    dying.open_gate.clear()
    call = (await rig.raw()).stream(timeout=20)
    for number in range(12):
        await call.write(infer_request(identifier=str(number)))
    await dying.given(8)
    await dying.die()
    items = [await next_item(call) for _ in range(12)]
    assert [(item.infer_response.id, who(item.infer_response)) for item in items] == [
        (str(number), B) for number in range(12)
    ]
    call.cancel()


async def test_when_nobody_is_left_each_request_says_so(rig: Rig) -> None:
    worker = await rig.worker(A, slots=1)
    worker.open_gate.clear()
    call = (await rig.raw()).stream(timeout=20)
    for number in range(3):
        await call.write(infer_request(identifier=str(number)))
    await rig.until(lambda status: status.queued == 2)
    await worker.die()
    items = [await next_item(call) for _ in range(3)]
    assert {item.infer_response.parameters["cloister-error"].string_param for item in items} == {"Unavailable"}
    call.cancel()


async def test_cancelling_a_stream_frees_slots_and_queue(rig: Rig) -> None:
    worker = await rig.worker(A, slots=2)
    worker.open_gate.clear()
    stub = await rig.raw()
    call = stub.stream(timeout=20)
    for _ in range(5):
        await call.write(infer_request())
    await rig.until(lambda status: status.queued == 3)
    call.cancel()
    await rig.until(lambda status: status.queued == 0 and len(worker.cancelled) == 2)
    worker.open_gate.set()
    await rig.until(lambda status: status.workers[0].slots_used == 0)
    await ask(stub)
    assert len(worker.seen) == 3


async def test_a_client_that_reads_nothing_is_held_back(rig: Rig) -> None:
    """Its window fills, then HTTP/2's own; others are served meanwhile."""
    worker = await rig.worker(A, slots=200)
    call = (await rig.raw("lazy")).stream(timeout=30)
    tensor = bytes(100_000)

    async def write() -> None:
        while True:
            await call.write(infer_request(tensor=tensor))

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        await worker.given(WINDOW)
        before = -1
        while len(worker.seen) != before:
            before = len(worker.seen)
            await asyncio.sleep(0.2)
        others = await rig.raw("other")
        for _ in range(5):
            await ask(others)
        assert len(worker.seen) == before + 5
        assert before < 4 * WINDOW
        writing.cancel()
    call.cancel()
    await rig.until(lambda status: status.workers[0].slots_used == 0)


async def test_one_stream_does_not_hold_up_another(rig: Rig) -> None:
    stuck, free = await rig.worker(A), await rig.worker(B)
    stuck.open_gate.clear()
    first, second = (await rig.raw("one")).stream(timeout=20), (await rig.raw("two")).stream(timeout=20)
    await first.write(infer_request(workers=[A]))
    await stuck.given(1)
    for number in range(10):
        await second.write(infer_request(workers=[B], identifier=str(number)))
        assert (await next_item(second)).infer_response.id == str(number)
    assert len(free.seen) == 10
    first.cancel()
    second.cancel()
    stuck.open_gate.set()


async def test_going_answers_what_was_asked_and_ends_the_stream(rig: Rig) -> None:
    worker = await rig.worker(A)
    worker.open_gate.clear()
    call = (await rig.raw()).stream(timeout=20)
    await call.write(infer_request(identifier="a"))
    await worker.given(1)
    rig.lifecycle.stop()
    worker.open_gate.set()
    assert (await next_item(call)).infer_response.id == "a"
    with pytest.raises(Unavailable) as caught:
        await call.read()
    assert caught.value.reason == "peer.draining"


async def test_open_streams_of_one_tenant_are_bounded(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, stream_limit=2) as rig:
        await rig.worker(A)
        greedy, modest = await rig.raw("greedy"), await rig.raw("modest")
        calls = [greedy.stream(timeout=20) for _ in range(2)]
        for call in (*calls, modest.stream(timeout=20)):
            await call.write(infer_request())
            assert not (await next_item(call)).error_message
        with pytest.raises(Overloaded):
            await greedy.stream(timeout=20).read()
        await calls[0].done_writing()
        assert await calls[0].read() is EOF
        again = greedy.stream(timeout=20)
        await again.write(infer_request())
        assert not (await next_item(again)).error_message


async def test_roles_that_may_not_stream(rig: Rig) -> None:
    await rig.worker(A)
    call = (await rig.peer("auditor", "al")).stub(RawStub).stream(timeout=5)
    with pytest.raises(NotAllowed):
        await call.read()
