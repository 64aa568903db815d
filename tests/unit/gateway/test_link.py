"""The link to one worker: frames, slots counted exactly, and a worker that breaks the contract cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count, islice

import pytest

from cloister.api.oip.inference_pb2 import ModelMetadataResponse
from cloister.api.v1.worker_pb2 import (
    Failure,
    GatewayFrame,
    InferResult,
    ModelCounters,
    ModelState,
    WorkerCounters,
    WorkerReport,
)
from cloister.errors import CloisterError, InvalidRequest, NotFound, Overloaded, Unavailable
from cloister.gateway.catalogue import MAX_CALLS_PER_SLOT, MAX_MODELS
from cloister.gateway.link import FRAME_BYTES, MAX_SLOTS, OVERDUE_S, Link
from cloister.gateway.pace import FEW
from cloister.gateway.silence import FIRST_FRAME_S, LOOK_S, SILENCE_S, SLOWEST_BYTES_PER_S
from cloister.kit.traces import TraceContext
from cloister.rpc.channel import MAX_MESSAGE_BYTES
from fakes.gateway_parts import (
    TENANT,
    A,
    Owner,
    WorkerEnd,
    evaluation,
    infer_request,
    make_call,
    model_state,
    report,
)


@asynccontextmanager
async def linked(slots: int = 2, *models: ModelState) -> AsyncIterator[tuple[Link, WorkerEnd, Owner]]:
    """A link that has had its first frame; it ends with the block."""
    end, owner = WorkerEnd(), Owner()
    link = Link(A, owner)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(link.run(end))
        end.hello(slots, *models)
        await owner.changes.wait()
        yield link, end, owner
        task.cancel()


async def outcome(play: Callable[[WorkerEnd, Link], None], *, calls: int = 0) -> CloisterError:
    """Run a link whose worker does something, until it ends; return why."""
    end, owner = WorkerEnd(), Owner()
    link = Link(A, owner)

    async def worker() -> None:
        if calls:
            end.hello(calls)
            await owner.changes.wait()
            for _ in range(calls):
                link.send(make_call())
            await end.frame()
        play(end, link)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(worker())
        with pytest.raises(ExceptionGroup) as caught:
            await link.run(end)
    error = caught.value.exceptions[0]
    assert isinstance(error, CloisterError)
    return error


async def test_a_call_goes_out_and_its_answer_comes_back() -> None:
    async with linked() as (link, end, _):
        call = make_call(request := infer_request(identifier="r-1"))
        link.send(call)
        (sent,) = (await end.frame()).calls
        assert (sent.request, sent.tenant) == (request, TENANT)
        assert 9_000 < sent.timeout_ms <= 10_000
        end.answer(sent.call_id, b"result")
        assert await call.answer == b"result"
        assert link.used == 0


async def test_calls_of_one_turn_share_a_frame() -> None:
    async with linked(8) as (link, end, _):
        for _ in range(5):
            link.send(make_call())
        assert [call.call_id for call in (await end.frame()).calls] == [1, 2, 3, 4, 5]


async def test_frames_gather_while_the_worker_evaluates_quick_calls() -> None:
    inline = ModelMetadataResponse(properties={"inline": "true"}).SerializeToString()
    async with linked(8, ModelState(name="tiny", version="1", metadata=inline)) as (link, end, _):
        for _ in range(2):
            link.send(make_call())
        first = await end.frame()
        for _ in range(FEW):
            link.send(make_call())
        for _ in range(5):  # turns of the loop, in which a frame that does not wait is written
            await asyncio.sleep(0)
        assert end.to_worker.empty()
        end.answer(first.calls[0].call_id)
        assert len((await end.frame()).calls) == FEW


async def test_frames_follow_each_other_while_calls_take_long() -> None:
    async with linked(8) as (link, end, _):
        for count in (2, FEW):
            for _ in range(count):
                link.send(make_call())
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(GatewayFrame.FromString(end.to_worker.get_nowait()).calls) == count


async def test_calls_gather_while_a_frame_is_written() -> None:
    async with linked(8) as (link, end, _):
        end.held.clear()
        link.send(make_call())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        link.send(make_call())
        link.send(make_call())
        end.held.set()
        assert len((await end.frame()).calls) == 1
        assert len((await end.frame()).calls) == 2


async def test_large_calls_are_spread_over_frames() -> None:
    async with linked(8) as (link, end, _):
        for size in (10, FRAME_BYTES, FRAME_BYTES // 2, FRAME_BYTES // 3, 10, FRAME_BYTES * 3, 10):
            link.send(make_call(infer_request(tensor=bytes(size))))
        assert [len((await end.frame()).calls) for _ in range(5)] == [1, 1, 3, 1, 1]


async def test_slots_are_taken_by_calls_and_freed_by_results() -> None:
    async with linked(2) as (link, end, owner):
        assert link.free("tiny") == 2
        first, second = make_call(), make_call()
        link.send(first)
        link.send(second)
        assert link.free("tiny") == 0
        await end.frame()
        end.answer(2)
        await owner.freed_slots.wait()
        assert (link.free("tiny"), link.used) == (1, 1)
        assert second.answer.done()
        assert not first.answer.done()


async def test_a_cancelled_call_keeps_its_slot_until_the_worker_is_done_with_it() -> None:
    async with linked(2) as (link, end, owner):
        call = make_call()
        link.send(call)
        await end.frame()
        call.answer.cancel()
        link.cancel(call)
        assert list((await end.frame()).cancelled) == [1]
        assert link.used == 1
        end.answer(1)
        await owner.freed_slots.wait()
        assert link.used == 0


async def test_a_call_cancelled_before_it_left_is_never_sent() -> None:
    async with linked(2) as (link, end, owner):
        gone, kept = make_call(), make_call()
        link.send(gone)
        link.send(kept)
        gone.answer.cancel()
        link.cancel(gone)
        assert owner.freed_slots.is_set()
        assert link.used == 1
        frame = await end.frame()
        assert [call.call_id for call in frame.calls] == [kept.call_id]
        assert not frame.cancelled


async def test_cancelling_what_was_answered_or_belongs_elsewhere_changes_nothing() -> None:
    async with linked(2) as (link, end, owner):
        mine, other = make_call(), make_call()
        link.send(mine)
        other.call_id = mine.call_id
        link.cancel(other)
        assert link.used == 1
        await end.frame()
        end.answer(1)
        await owner.freed_slots.wait()
        link.cancel(mine)
        link.send(make_call())
        assert not (await end.frame()).cancelled


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (Failure(error="Overloaded", reason="queue.full", message="full"), Overloaded, "full"),
        (Failure(error="NotFound", reason="name.unknown", message="no model tiny@3 here"), NotFound, "no such model"),
        (Failure(error="TimeoutError"), TimeoutError, "deadline"),
    ],
)
async def test_a_failure_is_an_answer(failure: Failure, kind: type[Exception], message: str) -> None:
    async with linked() as (link, end, _):
        call = make_call()
        link.send(call)
        await end.frame()
        end.say(results=[InferResult(call_id=1, failure=failure)])
        with pytest.raises(kind, match=message):
            await call.answer


async def test_models_change() -> None:
    async with linked(2, model_state("tiny", "1")) as (link, end, owner):
        owner.changes.clear()
        end.say(models_changed=True, models=[model_state("tiny", "1"), model_state("tiny", "2"), model_state("big")])
        await owner.changes.wait()
        assert {name: set(versions) for name, versions in link.models.items()} == {"tiny": {"1", "2"}, "big": {"1"}}
        owner.changes.clear()
        end.say(models_changed=True)
        await owner.changes.wait()
        assert link.models == {}
        assert link.free("tiny") == 2


async def test_draining_finishes_what_is_under_way_and_ends() -> None:
    end, owner = WorkerEnd(), Owner()
    link = Link(A, owner)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(link.run(end))
        end.hello(4)
        await owner.changes.wait()
        sent = make_call()
        link.send(sent)
        await end.frame()
        owner.changes.clear()
        end.say(draining=True)
        await owner.changes.wait()
        assert link.free("tiny") == 0
        assert not task.done()
        end.answer(1)
        await task
    assert sent.answer.result() == b"answer"


async def test_what_has_not_left_is_given_back() -> None:
    async with linked(4) as (link, _, _):
        first, second = make_call(), make_call()
        link.send(first)
        link.send(second)
        assert link.take_unsent() == [first, second]
        assert link.free("tiny") == 4


async def test_calls_past_their_deadline_are_answered_and_the_worker_is_told() -> None:
    async with linked(4) as (link, end, _):
        late, soon = make_call(timeout_s=1), make_call(timeout_s=2)
        link.send(late)
        link.send(soon)
        await end.frame()
        link.expire(late.deadline_s)
        with pytest.raises(TimeoutError):
            await late.answer
        assert list((await end.frame()).cancelled) == [1]
        assert not soon.answer.done()
        assert link.used == 2


async def test_a_worker_that_hangs_is_given_up() -> None:
    async with linked(4) as (link, end, _):
        call = make_call()
        link.send(call)
        await end.frame()
        link.expire(call.deadline_s + OVERDUE_S - 1)
        with pytest.raises(Unavailable, match="hangs"):
            link.expire(call.deadline_s + OVERDUE_S)


async def test_a_worker_that_says_nothing_is_given_up() -> None:
    now_s = asyncio.get_running_loop().time()
    link = Link(A, Owner())
    link.expire(now_s + FIRST_FRAME_S - 1)
    with pytest.raises(Unavailable, match="silent"):
        link.expire(now_s + FIRST_FRAME_S + 1)


def listening(link: Link) -> Callable[[float], None]:
    """Has a link look, twice in each `LOOK_S`, for so many seconds."""
    looks = count(asyncio.get_running_loop().time(), LOOK_S / 2)

    def listen(seconds: float) -> None:
        for now_s in islice(looks, int(2 * seconds / LOOK_S)):
            link.expire(now_s)

    return listen


async def test_a_worker_that_falls_silent_is_given_up_although_nothing_is_late() -> None:
    async with linked(4) as (link, end, _):
        listen = listening(link)
        link.send(make_call(timeout_s=600))
        await end.frame()
        listen(SILENCE_S - LOOK_S)
        end.say(report=WorkerReport(counters=WorkerCounters(memory_bytes=1)))
        await end.heard()
        listen(SILENCE_S - LOOK_S)
        with pytest.raises(Unavailable, match="silent"):
            listen(2 * LOOK_S)


async def test_a_large_frame_that_was_announced_may_take_its_time_and_the_next_may_not() -> None:
    async with linked(4) as (link, end, _):
        listen, size = listening(link), 16 << 20
        link.send(make_call(timeout_s=600))
        (sent,) = (await end.frame()).calls
        end.say(report=WorkerReport(next_frame_bytes=size))
        await end.heard()
        listen(size / SLOWEST_BYTES_PER_S + SILENCE_S - LOOK_S)
        end.answer(sent.call_id)
        await end.heard()
        with pytest.raises(Unavailable, match="silent"):
            listen(SILENCE_S + LOOK_S)


async def test_no_frame_takes_longer_than_the_largest_message() -> None:
    async with linked(4) as (link, end, _):
        end.say(report=WorkerReport(next_frame_bytes=(1 << 32) - 1))
        await end.heard()
        with pytest.raises(Unavailable, match="silent"):
            listening(link)(MAX_MESSAGE_BYTES / SLOWEST_BYTES_PER_S + SILENCE_S + 2 * LOOK_S)


async def test_a_gateway_that_was_stopped_itself_does_not_call_a_worker_silent() -> None:
    async with linked(4) as (link, _, _):
        now_s = asyncio.get_running_loop().time()
        link.expire(now_s + 3600)
        assert link.slots


@pytest.mark.parametrize("call_id", [0, 2, 99])
async def test_an_answer_to_nothing_ends_the_link(call_id: int) -> None:
    error = await outcome(lambda end, _: end.answer(call_id), calls=1)
    assert (type(error), error.reason) == (InvalidRequest, "link.broken")


async def test_a_second_answer_ends_the_link() -> None:
    def twice(end: WorkerEnd, _: Link) -> None:
        end.say(results=[InferResult(call_id=1, response=b"a"), InferResult(call_id=1, response=b"b")])

    assert (await outcome(twice, calls=1)).reason == "link.broken"


async def test_an_answer_to_a_call_that_has_not_left_ends_the_link() -> None:
    def guess(end: WorkerEnd, link: Link) -> None:
        end.held.clear()
        link.send(make_call())
        link.take_unsent()
        end.answer(2)

    assert (await outcome(guess, calls=1)).reason == "link.broken"


async def test_a_result_without_an_outcome_ends_the_link() -> None:
    assert (await outcome(lambda end, _: end.say(results=[InferResult(call_id=1)]), calls=1)).reason == "link.broken"


async def test_a_worker_takes_slots_back_and_gives_more_while_calls_are_under_way() -> None:
    async with linked(3) as (link, end, owner):
        for _ in range(3):
            link.send(make_call())
        await end.frame()
        end.say(slots=1)
        await end.heard()
        assert link.free("tiny") == -2
        end.answer(1)
        end.answer(2)
        await end.heard()
        assert link.free("tiny") == 0
        owner.freed_slots.clear()
        end.say(slots=4)
        await owner.freed_slots.wait()
        assert (link.free("tiny"), link.used) == (3, 1)


async def test_a_slot_of_a_quick_model_holds_several_calls() -> None:
    quick = ModelState(name="quick", version="1", calls_per_slot=4)
    async with linked(2, quick, model_state("tiny")) as (link, end, _):
        assert (link.room("quick"), link.room("tiny"), link.granted) == (8, 2, 10)
        for _ in range(8):
            link.send(make_call(infer_request("quick")))
        assert (link.free("quick"), link.free("tiny")) == (0, 2)
        end.say(slots=1)
        await end.heard()
        assert (link.free("quick"), link.free("tiny")) == (-4, 1)


async def test_more_calls_in_a_slot_than_there_can_be_end_the_link() -> None:
    many = ModelState(name="tiny", version="1", calls_per_slot=MAX_CALLS_PER_SLOT + 1)
    assert (await outcome(lambda end, _: end.hello(1, many))).reason == "link.broken"


async def test_a_first_frame_without_slots_or_with_too_many_ends_the_link() -> None:
    assert (await outcome(lambda end, _: end.say(models_changed=True))).reason == "link.broken"
    assert (await outcome(lambda end, _: end.hello(MAX_SLOTS + 1))).reason == "link.broken"
    assert (await outcome(lambda end, _: end.say(slots=MAX_SLOTS + 1), calls=2)).reason == "link.broken"


async def test_a_frame_that_does_not_parse_ends_the_link() -> None:
    assert (await outcome(lambda end, _: end.to_gateway.put_nowait(b"\xff"))).reason == "link.broken"


@pytest.mark.parametrize("state", [("", "1"), ("Tiny", "1"), ("a..b", "1"), ("tiny", "0"), ("tiny", "x"), ("tiny", "")])
async def test_a_model_that_is_none_ends_the_link(state: tuple[str, str]) -> None:
    error = await outcome(lambda end, _: end.hello(1, model_state(*state)))
    assert isinstance(error, InvalidRequest)


async def test_the_end_of_the_stream_leaves_unanswered_calls_to_others() -> None:
    kept: list[Link] = []

    def leave(end: WorkerEnd, link: Link) -> None:
        kept.append(link)
        end.answer(2)
        end.end()

    error = await outcome(leave, calls=3)
    assert (type(error), error.reason) == (Unavailable, "link.closed")
    assert [call.call_id for call in kept[0].take_unanswered()] == [1, 3]


async def test_a_result_comes_with_the_times_of_its_evaluation() -> None:
    async with linked(4) as (link, end, _):
        calls = [make_call() for _ in range(3)]
        for call in calls:
            link.send(call)
        await end.frame()
        told = report(evaluation("1", compute_us=10), evaluation("2", compute_us=5000))
        results = [InferResult(call_id=at + 1, response=b"r", evaluation=at) for at in range(3)]
        end.say(results=results, report=told)
        for call in calls:
            await call.answer
        assert calls[0].worker_time is None
        times = [call.worker_time for call in calls[1:]]
        assert [(time.model_version, round(time.compute_s * 1e6)) for time in times if time] == [("1", 10), ("2", 5000)]
        assert [time.serialise_s for time in times if time] == [pytest.approx(4e-3)] * 2
        assert all(call.began_s < call.left_s < call.back_s for call in calls)


async def test_an_evaluation_that_is_not_in_the_report_is_none() -> None:
    async with linked(4) as (link, end, _):
        link.send(call := make_call())
        await end.frame()
        end.say(results=[InferResult(call_id=1, response=b"r", evaluation=7)], report=report())
        await call.answer
        assert call.worker_time is None


async def test_counters_are_kept_as_they_were_told_last() -> None:
    async with linked() as (link, end, _):
        assert link.counters is None
        for memory in (1, 2):
            end.say(report=WorkerReport(counters=WorkerCounters(memory_bytes=memory)))
        await end.heard()
        assert link.counters is not None
        assert link.counters.memory_bytes == 2


async def test_a_report_of_more_than_can_have_been_done_ends_the_link() -> None:
    too_many = WorkerReport(counters=WorkerCounters(models=[ModelCounters(name="tiny")] * (MAX_MODELS + 1)))
    assert (await outcome(lambda end, _: end.say(report=too_many), calls=1)).reason == "link.broken"
    assert (await outcome(lambda end, _: end.say(report=report()), calls=1)).reason == "link.broken"


async def test_the_trace_of_a_call_goes_with_it() -> None:
    async with linked() as (link, end, _):
        call = make_call()
        call.trace = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=False)
        link.send(call)
        link.send(make_call())
        sent = (await end.frame()).calls
        assert [each.trace_id.hex() for each in sent] == [call.trace.trace_id, ""]
