"""The worker's end of a link: one result for each call, whatever happens to it."""

import asyncio
import time
import tracemalloc

import pytest

from cloister.api.oip.inference_pb2 import ModelInferResponse, ModelMetadataResponse
from cloister.api.v1.worker_pb2 import GatewayFrame, InferCall, ModelOrder
from cloister.errors import InvalidRequest
from cloister.oip.tensors import decode_response
from cloister.worker.link import WorkerLink
from cloister.worker.requests import read
from cloister.worker.shares import Shares
from fakes.attested_worker import Client, Inside, opened, tensors
from fakes.engines import FakeEngine
from fakes.gateway_end import GatewayEnd, linked, obeyed


def plain(value=1.0):
    return tensors(value).SerializeToString()


MODELS = [("iris", "2"), ("iris", "3"), ("other", ""), ("iris", "2"), ("iris", "3"), ("other", "")]


def wrong_shape():
    request = tensors(1.0)
    request.inputs[0].shape[:] = [3, 1]
    return request.SerializeToString()


def total(result):
    return decode_response(ModelInferResponse.FromString(result.response))["sum"].tolist()


@pytest.fixture
def slow():
    return Inside(engine=FakeEngine(inline=False))


async def test_the_first_frame_says_what_is_served():
    inside = Inside()
    async with linked(inside, slots=9) as (gateway, _):
        first = gateway.frames[0]
        assert (first.slots, first.models_changed) == (9, True)
        (state,) = first.models
        assert (state.name, state.version, state.digest, state.allow_plain) == ("iris", "2", inside.model.digest, True)
        metadata = ModelMetadataResponse.FromString(state.metadata)
        assert [(tensor.name, tensor.datatype) for tensor in metadata.inputs] == [("x", "FP32")]


@pytest.mark.parametrize("inline", [True, False])
async def test_calls_of_a_frame_each_get_their_own_answer(inline):
    async with linked(Inside(engine=FakeEngine(inline=inline))) as (gateway, _):
        ids = gateway.send(*(plain(value) for value in range(4)))
        results = await gateway.answered(*ids)
        assert [total(results[call_id]) for call_id in ids] == [[0], [3], [6], [9]]


async def test_quick_calls_of_a_frame_leave_in_one_frame():
    inside = Inside()
    client = Client(inside)
    async with linked(inside) as (gateway, _):
        sealed = [client.seal(tensors(float(value))) for value in range(4)]
        ids = gateway.send(*(raw for raw, _ in sealed))
        results = await gateway.answered(*ids)
        assert [len(frame.results) for frame in gateway.frames] == [0, 4]
        messages = [
            opened(pending, results[call_id].response) for call_id, (_, pending) in zip(ids, sealed, strict=True)
        ]
        assert len({message.receipt.signature for message in messages}) == 1


@pytest.mark.attack("I07")
async def test_calls_of_a_frame_are_evaluated_together_and_fail_alone():
    inside = Inside()
    client = Client(inside)
    async with linked(inside, slots=8) as (gateway, _):
        secret, pending = client.seal(tensors(5.0))
        no_such_model = tensors(1.0, model="other").SerializeToString()
        ids = gateway.send(plain(1), plain(13), b"\xff", no_such_model, secret, wrong_shape(), plain(2))
        results = await gateway.answered(*ids)
        assert inside.engine.batches == [4]
        assert [total(results[call_id]) for call_id in (ids[0], ids[6])] == [[3], [6]]
        answer = ModelInferResponse.FromString(opened(pending, results[ids[4]].response).response)
        assert decode_response(answer)["sum"].tolist() == [15]
        reasons = [results[call_id].failure.reason for call_id in (ids[1], ids[3])]
        assert reasons == ["inference.failed", "name.unknown"]
        assert all(results[call_id].HasField("failure") for call_id in (ids[2], ids[5]))


@pytest.mark.attack("I07")
async def test_models_and_versions_never_share_an_evaluation():
    inside = Inside()
    others = [FakeEngine(), FakeEngine()]
    inside.also_serve(version="3", engine=others[0])
    inside.also_serve(name="other", engine=others[1])
    async with linked(inside, slots=8) as (gateway, _):
        requests = [tensors(float(at), model=name, version=version) for at, (name, version) in enumerate(MODELS)]
        ids = gateway.send(*(request.SerializeToString() for request in requests))
        results = await gateway.answered(*ids)
        assert [total(results[call_id]) for call_id in ids] == [[3.0 * at] for at in range(6)]
        assert [engine.batches for engine in (inside.engine, *others)] == [[2], [2], [2]]


@pytest.mark.attack("I07")
async def test_tenants_and_sealed_sessions_are_parties_where_they_are_kept_apart():
    inside = Inside()
    ann, bob = Client(inside), Client(inside)
    async with linked(inside, slots=8, tenants_apart=True) as (gateway, _):
        sealed = [client.seal(tensors(2.0))[0] for client in (ann, bob, ann)]
        ids = gateway.send(plain(1), *sealed, plain(1))
        await gateway.answered(*ids)
        parties = inside.engine.parties
        assert len(set(parties)) == 3
        assert (parties[0], parties[1]) == (parties[4], parties[3])
    async with linked(inside, slots=8) as (gateway, _):
        inside.engine.parties.clear()
        await gateway.answered(*gateway.send(plain(1), bob.seal(tensors(2.0))[0]))
        assert len(set(inside.engine.parties)) == 1


async def test_a_call_without_any_time_left_is_not_evaluated():
    inside = Inside()
    async with linked(inside) as (gateway, _):
        (late,) = gateway.send(plain(), timeout_ms=0)
        assert (await gateway.answered(late))[late].failure.error == "TimeoutError"
        assert inside.engine.batches == []


def hostile(**changes):
    """A request for `x` [1, 3] FP32 with one thing wrong."""
    request = tensors(1.0)
    for name, value in changes.items():
        if name == "shape":
            request.inputs[0].shape[:] = value
        elif name == "raw":
            request.raw_input_contents[:] = value
        else:
            setattr(request.inputs[0], name, value)
    return request


def crowd(count):
    request = tensors(1.0)
    for _ in range(count):
        request.inputs.add(name="x", datatype="FP32", shape=[1 << 30, 3])
    return request


HOSTILE = {
    "negative dimension": lambda: hostile(shape=[-1, 3]),
    "huge dimension": lambda: hostile(shape=[1 << 40, 3]),
    "product that overflows": lambda: hostile(shape=[1 << 62, 3]),
    "more rows than bytes": lambda: hostile(shape=[1 << 28, 3]),
    "no rows of absurd width": lambda: hostile(shape=[0, 1 << 62]),
    "fewer bytes than the shape": lambda: hostile(raw=[bytes(11)]),
    "more bytes than the shape": lambda: hostile(raw=[bytes(13)]),
    "other datatype": lambda: hostile(datatype="FP64"),
    "unknown datatype": lambda: hostile(datatype="FP1024"),
    "too many dimensions": lambda: hostile(shape=[1] * 1000),
    "a hundred thousand inputs": lambda: crowd(100_000),
}


@pytest.mark.attack("I09")
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_tensors_are_refused_before_anything_is_allocated_and_their_peers_answered(name):
    inside = Inside()
    raw = HOSTILE[name]().SerializeToString()
    async with linked(inside) as (gateway, _):
        tracemalloc.start()
        try:
            ids = gateway.send(plain(1), raw, plain(2))
            results = await gateway.answered(*ids)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [total(results[call_id]) for call_id in (ids[0], ids[2])] == [[3], [6]]
        assert results[ids[1]].failure.error == "InvalidRequest"
        assert inside.engine.batches == [2]
        assert peak_bytes < (1 << 20) + 8 * len(raw)


@pytest.mark.attack("I09")
@pytest.mark.attack("G1")
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_refused_costs_little(name):
    inside, raw = Inside(), HOSTILE[name]().SerializeToString()
    took_s = []
    for _ in range(3):
        began_s = time.process_time()
        with pytest.raises(InvalidRequest):
            read(inside.answers.open(raw))
        took_s.append(time.process_time() - began_s)
    assert min(took_s) < 0.05


@pytest.mark.attack("I09")
async def test_numbers_that_are_none_stay_with_their_own_request():
    async with linked(Inside()) as (gateway, _):
        ids = gateway.send(plain(1), plain(float("nan")), plain(float("inf")), plain(2))
        results = await gateway.answered(*ids)
        sums = [total(results[call_id])[0] for call_id in ids]
        assert sums[::3] == [3, 6]
        assert str(sums[1:3]) == "[nan, inf]"


async def test_what_finishes_while_a_frame_is_written_leaves_in_the_next(slow):
    async with linked(slow, slots=8) as (gateway, _):
        slow.engine.gate.clear()
        ids = gateway.send(*(plain(value) for value in range(8)))
        await slow.engine.entered.wait()
        gateway.held.clear()
        slow.engine.gate.set()
        await asyncio.sleep(0)
        gateway.held.set()
        await gateway.answered(*ids)
        assert sum(len(frame.results) for frame in gateway.frames) == 8
        assert len(gateway.frames) < 8


@pytest.mark.parametrize("inline", [True, False])
async def test_a_failing_call_fails_alone(inline):
    async with linked(Inside(engine=FakeEngine(inline=inline))) as (gateway, _):
        ids = gateway.send(plain(1), plain(13), b"\xff", plain(2))
        results = await gateway.answered(*ids)
        assert [results[call_id].WhichOneof("outcome") for call_id in ids] == [
            "response",
            "failure",
            "failure",
            "response",
        ]
        assert results[ids[1]].failure.reason == "inference.failed"
        assert (total(results[ids[0]]), total(results[ids[3]])) == ([3], [6])


@pytest.mark.parametrize("inline", [True, False])
async def test_a_bug_in_one_call_is_internal_and_keeps_the_link(inline, logged):
    inside = Inside(engine=FakeEngine(inline=inline))
    async with linked(inside) as (gateway, _):
        inside.engine.broken = RuntimeError("contents of a request")
        (bad,) = gateway.send(plain())
        failure = (await gateway.answered(bad))[bad].failure
        assert failure.error == "InternalError"
        assert "contents" not in failure.message + logged.getvalue()
        assert "call.broken" in logged.getvalue()
        inside.engine.broken = None
        (good,) = gateway.send(plain())
        assert total((await gateway.answered(good))[good]) == [3]


async def test_a_call_without_a_slot_is_overloaded_and_the_rest_go_on(slow):
    async with linked(slow, slots=2) as (gateway, _):
        slow.engine.gate.clear()
        ids = gateway.send(*(plain(value) for value in range(4)))
        results = await gateway.answered(*ids[2:])
        assert [results[call_id].failure.error for call_id in ids[2:]] == ["Overloaded", "Overloaded"]
        slow.engine.gate.set()
        results = await gateway.answered(*ids)
        assert [total(results[call_id]) for call_id in ids[:2]] == [[0], [3]]
        (again,) = gateway.send(plain(5))
        assert total((await gateway.answered(again))[again]) == [15]


async def test_a_cancelled_call_has_a_result_too_and_frees_its_slot(slow):
    async with linked(slow, slots=1) as (gateway, _):
        slow.engine.gate.clear()
        (abandoned,) = gateway.send(plain())
        await slow.engine.entered.wait()
        gateway.send(cancelled=(abandoned, 12345))
        failure = (await gateway.answered(abandoned))[abandoned].failure
        assert failure.reason == "call.cancelled"
        slow.engine.gate.set()
        (good,) = gateway.send(plain(4))
        assert total((await gateway.answered(good))[good]) == [12]


async def test_a_cancellation_that_comes_too_late_changes_nothing():
    async with linked(Inside()) as (gateway, _):
        (call_id,) = gateway.send(plain())
        await gateway.answered(call_id)
        gateway.send(cancelled=(call_id,))
        (good,) = gateway.send(plain())
        await gateway.answered(good)


async def test_a_call_past_its_deadline(slow):
    async with linked(slow) as (gateway, _):
        slow.engine.gate.clear()
        (late,) = gateway.send(plain(), timeout_ms=1)
        assert (await gateway.answered(late))[late].failure.error == "TimeoutError"


async def test_models_that_come_and_go_are_announced():
    inside = Inside()
    async with linked(inside) as (gateway, _):
        newer = inside.also_serve(version="3")
        await gateway.until(lambda: len(gateway.frames) == 2)
        assert [state.version for state in gateway.frames[1].models] == ["2", "3"]
        inside.also_serve(version="3", ends_at_s=newer.ends_at_s + 1)  # a renewed lease is no news
        inside.served.drop(newer)
        inside.served.drop(inside.model)
        await gateway.until(lambda: len(gateway.frames) == 3)
        assert gateway.frames[2].models_changed
        assert not gateway.frames[2].models


async def test_draining_is_said_once_and_what_is_under_way_finishes(slow):
    async with linked(slow) as (gateway, link):
        slow.engine.gate.clear()
        ids = gateway.send(plain(1), plain(2))
        await slow.engine.entered.wait()
        link.drain()
        await gateway.until(lambda: gateway.frames[-1].draining)
        slow.engine.gate.set()
        results = await gateway.answered(*ids)
        assert [total(results[call_id]) for call_id in ids] == [[3], [6]]
        assert sum(frame.draining for frame in gateway.frames) == 1


async def test_large_answers_do_not_share_a_frame(monkeypatch):
    monkeypatch.setattr("cloister.worker.link.FRAME_BYTES", 100)
    async with linked(Inside()) as (gateway, _):
        ids = gateway.send(*(plain(value) for value in range(3)))
        results = await gateway.answered(*ids)
        assert [len(frame.results) for frame in gateway.frames[1:]] == [1, 1, 1]
        assert [total(results[call_id]) for call_id in ids] == [[0], [3], [6]]


async def test_a_frame_above_the_bound_is_announced_with_its_size(monkeypatch):
    monkeypatch.setattr("cloister.worker.link.FRAME_BYTES", 10)
    async with linked(Inside()) as (gateway, _):
        ids = gateway.send(*(plain(value) for value in range(2)))
        results = await gateway.answered(*ids)
        frames = gateway.frames[1:]
        assert [len(frame.results) for frame in frames] == [0, 1, 0, 1]
        sizes = [len(results[call_id].response) for call_id in ids]
        assert [frame.report.next_frame_bytes for frame in frames] == [sizes[0], 0, sizes[1], 0]


async def test_a_call_id_used_twice_ends_the_link(slow):
    gateway = GatewayEnd()
    link = WorkerLink(slow.answers, slow.served, Shares(4), order=obeyed)
    slow.engine.gate.clear()
    call = InferCall(call_id=1, request=plain(), timeout_ms=1000)
    gateway.send_frame(GatewayFrame(calls=[call, call]))
    with pytest.RaisesGroup(pytest.RaisesGroup(pytest.RaisesExc(InvalidRequest, match="twice"))):
        await link.run(gateway.sent(), gateway.write)


async def test_a_gateway_that_floods_and_reads_nothing_is_held_back():
    inside = Inside()
    async with linked(inside, slots=2) as (gateway, link):
        gateway.held.clear()
        for _ in range(200):
            gateway.send(plain())
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(link._finished) <= 6
        gateway.held.set()
        await gateway.answered(*range(1, 201))


async def test_the_end_of_the_stream_waits_for_what_is_under_way(slow):
    async with linked(slow) as (gateway, _):
        slow.engine.gate.clear()
        (call_id,) = gateway.send(plain())
        await slow.engine.entered.wait()
        gateway.end()
        await asyncio.sleep(0)
        slow.engine.gate.set()
        assert total((await gateway.answered(call_id))[call_id]) == [3]


async def test_a_lost_stream_cancels_what_is_under_way(slow):
    gateway = GatewayEnd()
    link = WorkerLink(slow.answers, slow.served, Shares(4), order=obeyed)
    slow.engine.gate.clear()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(link.run(gateway.sent(), gateway.write))
        gateway.send(plain())
        await slow.engine.entered.wait()
        running.cancel()
    assert running.cancelled()


async def test_each_model_has_slots_of_its_own(slow):
    quick = FakeEngine()
    slow.also_serve(name="quick", engine=quick)
    slow.engine.gate.clear()
    asked = tensors(1.0, model="quick").SerializeToString()
    async with linked(slow, slots=2) as (gateway, _):
        held = gateway.send(plain(), plain(), plain())
        answers = await gateway.answered(held[2], *gateway.send(asked, asked))
        assert answers[held[2]].failure.reason == "slots.full"
        assert [total(answers[call_id]) for call_id in (4, 5)] == [[3], [3]]
        slow.engine.gate.set()
        await gateway.answered(*held)
        (again,) = gateway.send(plain())
        assert total((await gateway.answered(again))[again]) == [3]


async def test_a_slot_of_a_quick_model_holds_several_calls(slow):
    slow.engine.calls_per_slot = 2
    slow.engine.gate.clear()
    async with linked(slow, slots=2) as (gateway, _):
        held = gateway.send(*[plain() for _ in range(5)])
        answers = await gateway.answered(held[4])
        assert answers[held[4]].failure.reason == "slots.full"
        slow.engine.gate.set()
        answers = await gateway.answered(*held[:4])
        assert [total(answers[call_id]) for call_id in held[:4]] == [[3]] * 4


async def test_a_plain_call_is_answered_by_the_version_that_the_gateway_says_its_label_stands_for():
    inside = Inside()
    other = FakeEngine()
    inside.also_serve(version="3", engine=other)
    async with linked(inside) as (gateway, _):
        calls = [
            InferCall(call_id=at, request=tensors(1.0, version=asked).SerializeToString(), timeout_ms=9000, tenant="t")
            for at, asked in enumerate(("", "stable", ""), start=1)
        ]
        calls[0].model_version = calls[1].model_version = "2"
        gateway.send_frame(GatewayFrame(calls=calls))
        answers = await gateway.answered(1, 2, 3)
        versions = [ModelInferResponse.FromString(answers[at].response).model_version for at in (1, 2, 3)]
        assert versions == ["2", "2", "3"]


@pytest.mark.attack("G15")
async def test_a_gateway_cannot_move_a_sealed_call_to_another_version():
    inside = Inside()
    inside.also_serve(version="3", digest=bytes(32), engine=FakeEngine())
    sealed, pending = Client(inside).seal(tensors(1.0, version="2"), version="2")
    async with linked(inside) as (gateway, _):
        call = InferCall(call_id=1, request=sealed, timeout_ms=9000, tenant="t", model_version="3")
        gateway.send_frame(GatewayFrame(calls=[call]))
        answer = opened(pending, (await gateway.answered(1))[1].response)
        assert ModelInferResponse.FromString(answer.response).model_version == "2"


async def test_what_came_of_an_order_goes_back_with_its_number():
    async with linked(Inside()) as (gateway, _):
        gateway.send_frame(GatewayFrame(orders=[ModelOrder(order_id=7, kind=ModelOrder.KIND_LOAD, model_name="iris")]))
        await gateway.until(lambda: any(frame.order_results for frame in gateway.frames))
        (result,) = gateway.frames[-1].order_results
        assert (result.order_id, result.HasField("failure")) == (7, False)


async def test_slots_that_change_while_the_first_frame_leaves_are_told():
    inside, shares = Inside(), Shares(8)
    gateway, link = GatewayEnd(), WorkerLink(inside.answers, inside.served, shares, order=obeyed)
    gateway.held.clear()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(link.run(gateway.sent(), gateway.write))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it writes
        with shares.joined(lambda: None):
            gateway.held.set()
            await gateway.until(lambda: len(gateway.frames) == 2)
            assert [frame.slots for frame in gateway.frames] == [8, 4]
        gateway.end()
