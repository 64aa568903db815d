"""What a worker tells of its speed: true, shared by what was evaluated together, and no finer than it must be."""

import itertools
import json

import pytest

from cloister.worker.batches import Item
from cloister.worker.counts import SIZES, EvaluationCounts, memory_bytes
from cloister.worker.timings import rounded_us
from fakes.attested_worker import Client, Inside, tensors
from fakes.engines import FakeEngine
from fakes.gateway_end import linked


def plain(value=1.0):
    return tensors(value).SerializeToString()


def result_frame(gateway):
    (frame,) = [frame for frame in gateway.frames if frame.results]
    return frame


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0, 0), (-1.0, 0), (14.4e-6, 14), (31e-6, 31), (33e-6, 34), (63.4e-6, 64), (1.234e-3, 1216), (1e9, 31 << 27)],
)
def test_a_duration_has_five_significant_bits(seconds, told):
    assert rounded_us(seconds) == told


@pytest.mark.attack("I10")
def test_a_duration_is_one_of_few_numbers():
    told = {rounded_us(number * 1e-6) for number in range(1 << 14)}
    assert len(told) == 32 + 9 * 16 + 1
    assert all(abs(rounded_us(number * 1e-6) - number) <= number / 31 for number in range(1, 1 << 14))


@pytest.mark.attack("I10")
async def test_what_is_evaluated_together_is_told_one_set_of_numbers():
    inside = Inside()
    client = Client(inside)
    async with linked(inside, slots=8) as (gateway, _):
        sealed = [client.seal(tensors(float(value)))[0] for value in range(3)]
        await gateway.answered(*gateway.send(*sealed, plain(4.0)))
        frame = result_frame(gateway)
        (told,) = frame.report.evaluations
        assert [result.evaluation for result in frame.results] == [1, 1, 1, 1]
        assert (told.model_version, told.requests, told.rows) == ("2", 4, 4)
        assert told.open_us > 0
        assert frame.report.seal_us > 0


async def test_each_evaluation_of_a_frame_has_its_own_numbers():
    inside = Inside()
    inside.also_serve(version="3", engine=FakeEngine())
    async with linked(inside, slots=8) as (gateway, _):
        requests = [tensors(1.0, model="iris", version=version).SerializeToString() for version in ("2", "3", "2")]
        await gateway.answered(*gateway.send(*requests))
        frame = result_frame(gateway)
        assert [result.evaluation for result in frame.results] == [1, 1, 2]
        assert [told.model_version for told in frame.report.evaluations] == ["2", "3"]
        assert [told.requests for told in frame.report.evaluations] == [2, 1]


async def test_what_was_not_evaluated_has_no_numbers():
    async with linked(Inside()) as (gateway, _):
        (refused,) = gateway.send(b"\xff")
        assert (await gateway.answered(refused))[refused].evaluation == 0
        assert not result_frame(gateway).report.evaluations


async def test_calls_that_waited_in_the_worker_say_for_how_long():
    inside = Inside(engine=FakeEngine(inline=False))
    inside.engine.gate.clear()
    async with linked(inside) as (gateway, _):
        (call_id,) = gateway.send(plain())
        await inside.engine.entered.wait()
        inside.engine.gate.set()
        await gateway.answered(call_id)
        (told,) = result_frame(gateway).report.evaluations
        assert told.wait_us > 0


async def test_counters_come_while_the_link_lasts():
    inside = Inside()
    async with linked(inside, slots=8, report_s=0.01) as (gateway, _):
        await gateway.answered(*gateway.send(plain(), plain()), *gateway.send(plain()))
        await gateway.until(lambda: any(frame.report.counters.models for frame in gateway.frames[-1:]))
        counters = gateway.frames[-1].report.counters
        assert counters.memory_bytes > 1 << 20
        (model,) = counters.models
        assert (model.name, model.version, model.requests, model.rows) == ("iris", "2", 3, 3)
        assert list(model.batches) == [1, 1, *[0] * (SIZES - 2)]


async def test_the_log_line_of_a_broken_call_names_its_trace(logged):
    inside = Inside()
    inside.engine.broken = ZeroDivisionError()
    async with linked(inside) as (gateway, _):
        await gateway.answered(*gateway.send(plain(), trace_id=bytes(range(16))))
    (line,) = [json.loads(line) for line in logged.getvalue().splitlines() if "call.broken" in line]
    assert line["trace_id"] == bytes(range(16)).hex()


def test_evaluations_are_counted_by_how_many_shared_them():
    counts = EvaluationCounts()
    for size in (1, 2, 3, 4, 5, 256, 257, 4096):
        counts.begin([Item({}, ())] * size)
    told = counts.message("m", "1", 7)
    assert list(told.batches) == [1, 1, 2, 1, 0, 0, 0, 0, 1, 2]
    assert (told.evaluations, told.requests, told.waiting) == (8, sum((1, 2, 3, 4, 5, 256, 257, 4096)), 7)


def test_memory_is_known_here():
    assert memory_bytes() > 1 << 20


def test_numbers_of_a_frame_fit_the_message():
    assert rounded_us(1e9) < 1 << 32
    assert all(first <= second for first, second in itertools.pairwise(map(rounded_us, (1e-6, 1e-3, 1, 1e3, 1e6))))
