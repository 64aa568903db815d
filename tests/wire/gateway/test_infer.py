"""ModelInfer through a real gateway: where requests go, and what happens when workers fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.errors import InvalidRequest, NotAllowed, NotFound, Overloaded, Unavailable
from cloister.gateway import silence
from fakes import worker_link
from fakes.gateway_parts import A, B, C, infer_request, model_state
from fakes.pki import MeshPki
from fakes.running_gateway import RawStub, Rig, ask, running_gateway, who


async def failing(stub: RawStub, kind: type[Exception], **fields: Any) -> None:
    with pytest.raises(kind):
        await ask(stub, **fields)


async def test_an_answer_comes_back_as_it_was_given(rig: Rig) -> None:
    worker = await rig.worker(A)
    answer = await ask(await rig.raw(), identifier="r-1", tensor=b"content")
    assert (answer.id, answer.raw_output_contents[0], who(answer)) == ("r-1", b"content", A)
    assert worker.seen[0].tenant == f"spiffe://{rig.pki.cluster}/client/ann"
    assert 9_000 < worker.seen[0].timeout_ms <= 10_000


async def test_the_clients_own_bytes_reach_the_worker(rig: Rig) -> None:
    worker = await rig.worker(A)
    unknown_field = b"\xa2\x06\x05field"
    request = infer_request() + unknown_field
    await ask(await rig.raw(), request)
    assert worker.seen[0].request == request


async def test_large_messages_pass(rig: Rig) -> None:
    await rig.worker(A)
    tensor = bytes(8 << 20)
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        asked = [group.create_task(ask(stub, tensor=tensor)) for _ in range(3)]
    assert all(task.result().raw_output_contents[0] == tensor for task in asked)


async def test_a_message_limit_of_clients_is_not_one_of_frames(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, max_message_bytes=100_000) as rig:
        worker = await rig.worker(A, slots=1)
        worker.open_gate.clear()
        async with asyncio.TaskGroup() as group:
            stub = await rig.raw()
            asked = [group.create_task(ask(stub, tensor=bytes(90_000))) for _ in range(20)]
            await rig.until(lambda status: status.queued == 19)
            await rig.worker(B, slots=19)
            worker.open_gate.set()
    assert all(task.result() for task in asked)


async def test_an_answer_may_be_larger_than_a_request(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, max_message_bytes=100_000) as rig:
        await rig.worker(A)
        tensor = bytes(100_000 - len(infer_request(tensor=bytes(90_000))) + 90_000)
        answer = await ask(await rig.raw(), tensor=tensor)  # with the worker's name, and so longer than what was asked
        assert answer.ByteSize() > 100_000


async def test_a_message_over_the_limit_is_refused(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, max_message_bytes=100_000) as rig:
        await rig.worker(A)
        with pytest.raises(InvalidRequest, match="larger"):
            await ask(await rig.raw(), tensor=bytes(100_001))
        await ask(await rig.raw(), tensor=bytes(90_000))


async def test_a_worker_that_dies_before_answering_is_replaced_by_another(rig: Rig) -> None:
    dying, other = await rig.worker(A, slots=9), await rig.worker(B, slots=3)
    dying.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        asked = [group.create_task(ask(stub, identifier=str(number))) for number in range(6)]
        await dying.given(4)
        await dying.die()
    assert [task.result().id for task in asked] == [str(number) for number in range(6)]
    assert {who(task.result()) for task in asked} == {B}
    assert len(other.seen) == 6


async def test_a_worker_whose_answers_the_network_swallows_is_replaced_by_another(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_link, "REPORT_S", 0.1)
    monkeypatch.setattr(silence, "SILENCE_S", 1.0)
    monkeypatch.setattr(silence, "LOOK_S", 0.2)
    silent, other = await rig.worker(A, slots=9), await rig.worker(B, slots=1)
    silent.heard.clear()
    answer = await ask(await rig.raw())
    assert who(answer) == B
    assert (len(silent.seen), len(other.seen)) == (1, 1)
    silent.heard.set()
    await rig.until_linked(A)


async def test_a_call_is_tried_once_on_each_worker_and_then_fails(rig: Rig) -> None:
    first, second = await rig.worker(A, slots=2), await rig.worker(B, slots=1)
    first.open_gate.clear()
    second.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(failing(await rig.raw(), Unavailable))
        await first.given(1)
        first.cut()
        await second.given(1)
        await rig.until_linked(A)
        second.cut()
        await asked
    assert (len(first.seen), len(second.seen)) == (1, 1)


async def test_without_workers_the_answer_says_whether_the_model_was_ever_there(rig: Rig) -> None:
    worker = await rig.worker(A)
    stub = await rig.raw()
    await ask(stub)
    await worker.die()
    await rig.until(lambda status: not any(worker.linked for worker in status.workers))
    with pytest.raises(Unavailable):
        await ask(stub)
    with pytest.raises(NotFound, match="no such model"):
        await ask(stub, name="other")


async def test_a_worker_that_comes_back_is_used_again(rig: Rig) -> None:
    worker = await rig.worker(A)
    stub = await rig.raw()
    await worker.die()
    await rig.until(lambda status: not any(worker.linked for worker in status.workers))
    await worker.revive()
    await rig.until_linked(A)
    assert who(await ask(stub)) == A


async def test_a_full_queue_is_told_at_once(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, queue_limit=2) as rig:
        worker = await rig.worker(A, slots=1)
        worker.open_gate.clear()
        async with asyncio.TaskGroup() as group:
            stub = await rig.raw()
            asked = [group.create_task(ask(stub)) for _ in range(3)]
            await rig.until(lambda status: status.queued == 2)
            with pytest.raises(Overloaded) as caught:
                await ask(stub)
            assert caught.value.reason == "queue.full"
            worker.open_gate.set()
        assert all(task.result() for task in asked)


async def test_one_tenant_does_not_shut_out_another(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, tenant_limit=2) as rig:
        worker = await rig.worker(A, slots=1)
        worker.open_gate.clear()
        async with asyncio.TaskGroup() as group:
            greedy, modest = await rig.raw("greedy"), await rig.raw("modest")
            asked = [group.create_task(ask(greedy)) for _ in range(2)]
            await rig.until(lambda status: status.queued == 1)
            with pytest.raises(Overloaded) as caught:
                await ask(greedy)
            assert caught.value.reason == "tenant.busy"
            asked.append(group.create_task(ask(modest)))
            await rig.until(lambda status: status.queued == 2)
            worker.open_gate.set()


async def test_slots_are_never_exceeded_and_always_come_back(rig: Rig) -> None:
    worker = await rig.worker(A, slots=3)
    worker.slow_s = 0.001
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        for _ in range(60):
            group.create_task(ask(stub))
    assert worker.most_under_way == 3
    assert (await rig.status()).workers[0].slots_used == 0


async def test_a_slow_worker_gets_only_what_it_finishes(rig: Rig) -> None:
    slow, quick = await rig.worker(A, slots=2), await rig.worker(B, slots=2)
    slow.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        asked = [group.create_task(ask(stub)) for _ in range(40)]
        await quick.given(38)
        assert len(slow.seen) == 2
        slow.open_gate.set()
    assert sorted(who(task.result()) for task in asked) == [A] * 2 + [B] * 38


async def test_a_sealed_request_goes_only_to_those_it_is_sealed_to(rig: Rig) -> None:
    first, second = await rig.worker(A), await rig.worker(B, slots=100)
    stub = await rig.raw()
    for _ in range(5):
        assert who(await ask(stub, workers=[A, C])) == A
    assert (len(first.seen), len(second.seen)) == (5, 0)
    with pytest.raises(Unavailable) as caught:
        await ask(stub, workers=[C])
    assert caught.value.reason == "workers.gone"


async def test_a_sealed_request_is_not_given_to_a_stranger_when_its_worker_dies(rig: Rig) -> None:
    dying, other = await rig.worker(A), await rig.worker(B)
    dying.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        group.create_task(failing(stub, Unavailable, workers=[A]))
        await dying.given(1)
        await dying.die()
    assert other.seen == []


async def test_a_deadline_frees_what_it_held(rig: Rig) -> None:
    worker = await rig.worker(A, slots=1)
    worker.open_gate.clear()
    stub = await rig.raw()
    with pytest.raises(TimeoutError):
        await ask(stub, timeout_s=0.3)
    assert worker.seen[0].timeout_ms <= 300
    await rig.until(lambda _: worker.cancelled == [worker.seen[0].call_id])
    assert (await rig.status()).workers[0].slots_used == 1
    worker.open_gate.set()
    await rig.until(lambda status: status.workers[0].slots_used == 0)
    await ask(stub)


async def test_a_call_that_waits_past_its_deadline_is_never_sent(rig: Rig) -> None:
    worker = await rig.worker(A, slots=1)
    worker.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        group.create_task(ask(stub))
        await worker.given(1)
        with pytest.raises(TimeoutError):
            await ask(stub, timeout_s=0.3)
        await rig.until(lambda status: status.queued == 0)
        worker.open_gate.set()
    assert len(worker.seen) == 1


async def test_no_call_outlasts_the_gateways_own_limit(tmp_path: Path, pki: MeshPki) -> None:
    async with running_gateway(tmp_path, pki, max_call_s=0.3) as rig:
        worker = await rig.worker(A)
        worker.open_gate.clear()
        with pytest.raises(TimeoutError):
            await ask(await rig.raw(), timeout_s=60)
        assert worker.seen[0].timeout_ms <= 300
        worker.open_gate.set()


async def test_a_client_that_goes_frees_what_it_held(rig: Rig) -> None:
    worker = await rig.worker(A, slots=1)
    worker.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        asked = [group.create_task(ask(stub)) for _ in range(3)]
        await worker.given(1)
        await rig.until(lambda status: status.queued == 2)
        for task in asked:
            task.cancel()
    await rig.until(lambda status: status.queued == 0 and len(worker.cancelled) == 1)
    worker.open_gate.set()
    await rig.until(lambda status: status.workers[0].slots_used == 0)
    assert len(worker.seen) == 1


async def test_a_draining_worker_finishes_what_it_has_and_gets_nothing_new(rig: Rig) -> None:
    draining, other = await rig.worker(A, slots=9), await rig.worker(B, slots=1)
    draining.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        asked = group.create_task(ask(stub))
        await draining.given(1)
        draining.drain()
        await rig.until(lambda status: any(worker.draining for worker in status.workers))
        for _ in range(3):
            assert who(await ask(stub)) == B
        draining.open_gate.set()
    assert who(asked.result()) == A
    assert (len(draining.seen), len(other.seen)) == (1, 3)


@pytest.mark.parametrize("tamper", ["unknown", "twice", "slots", "empty"])
async def test_a_worker_that_cheats_loses_its_link(rig: Rig, tamper: str) -> None:
    cheat, honest = await rig.worker(A, slots=9), await rig.worker(B, slots=1)
    cheat.tamper = tamper
    stub = await rig.raw()
    answer = await ask(stub)
    assert who(answer) == (A if tamper == "twice" else B)
    assert len(cheat.seen) == 1
    cheat.tamper = ""
    await rig.until(lambda status: all(worker.slots_used == 0 for worker in status.workers))
    assert who(await ask(stub, workers=[B])) == B
    assert honest.seen


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\xff",
        b"\x0a\x05ab",
        b"\x02\x00",
        b"\x08\x01",
        infer_request() + infer_request(),
        b"\x0a\x02\xc3\x28",
        b"\x3a\x00" * 5000,
    ],
)
async def test_malformed_requests_are_refused(rig: Rig, request_bytes: bytes) -> None:
    worker = await rig.worker(A)
    with pytest.raises(InvalidRequest):
        await ask(await rig.raw(), request_bytes)
    assert worker.seen == []


async def test_models_come_and_go(rig: Rig) -> None:
    worker = await rig.worker(A)
    stub = await rig.raw()
    worker.serve_models(model_state("tiny", "1"), model_state("tiny", "2"), model_state("other"))
    await rig.until(lambda status: len(status.workers[0].models) == 3)
    await ask(stub, name="other")
    worker.serve_models(model_state("tiny", "2"))
    await rig.until(lambda status: list(status.workers[0].models) == ["tiny@2"])
    with pytest.raises(NotFound):
        await ask(stub, name="other")
    with pytest.raises(NotFound):
        await ask(stub, version="1")
    await ask(stub)


@pytest.mark.parametrize("role", ["worker", "enrol", "gateway", "auditor", "verifier"])
async def test_roles_that_may_not_ask(rig: Rig, role: str) -> None:
    await rig.worker(A)
    stub = await rig.oip(role, B if role == "worker" else "somebody")
    with pytest.raises(NotAllowed):
        await stub.ModelInfer(ModelInferRequest(model_name="tiny"), timeout=5)
