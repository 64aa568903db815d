"""Which calls are refused, or wait in vain: full queues, deadlines that would pass, rates."""

from __future__ import annotations

import pytest

from cloister.errors import Overloaded
from fakes.gateway_parts import A, B, WorkerEnd, infer_request, make_call, model_state
from fakes.linked_workers import Mesh, mesh


async def test_a_full_queue_says_so() -> None:
    async with mesh(queue_limit=2) as made:
        await made.add(A, 1)
        for _ in range(3):
            made.dispatcher.submit(make_call())
        with pytest.raises(Overloaded):
            made.dispatcher.submit(make_call())


async def test_a_full_queue_of_one_model_does_not_hinder_another() -> None:
    async with mesh(queue_limit=1) as made:
        await made.add(A, 1, model_state("tiny"))
        await made.add(B, 1, model_state("other"))
        for _ in range(2):
            made.dispatcher.submit(make_call())
        made.dispatcher.submit(other := make_call(infer_request("other")))
        assert other.instance == B


async def test_waiting_calls_expire() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        made.dispatcher.submit(make_call())
        made.dispatcher.submit(late := make_call(timeout_s=1))
        made.dispatcher.submit(patient := make_call(timeout_s=5))
        made.dispatcher.expire(late.deadline_s)
        with pytest.raises(TimeoutError):
            await late.answer
        assert made.dispatcher.queued == 1
        await worker.frame()
        worker.answer(1)
        await worker.frame()
        assert patient.instance == A


async def test_an_expired_call_never_takes_a_slot() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        made.dispatcher.submit(make_call())
        made.dispatcher.submit(late := make_call(timeout_s=-1))
        made.dispatcher.submit(patient := make_call())
        await worker.frame()
        worker.answer(1)
        await worker.frame()
        assert (late.instance, patient.instance) == ("", A)


async def answered_once(made: Mesh, worker: WorkerEnd, *, held_s: float) -> None:
    """Let one call be answered, as if it had held its slot for so long."""
    made.dispatcher.submit(call := make_call())
    call.handed_s -= held_s
    (sent,) = (await worker.frame()).calls
    worker.answer(sent.call_id)
    await call.answer


async def test_a_call_that_would_wait_past_its_deadline_is_refused_at_once() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        await answered_once(made, worker, held_s=2.0)
        made.dispatcher.submit(make_call())
        made.dispatcher.submit(waiting := make_call(timeout_s=8))
        with pytest.raises(Overloaded) as caught:
            made.dispatcher.submit(make_call(timeout_s=8))
        assert caught.value.reason == "deadline.unreachable"
        assert 0.5 < caught.value.retry_after_s < 2
        made.dispatcher.submit(patient := make_call(timeout_s=20))
        assert (waiting.instance, patient.instance, made.dispatcher.queued) == ("", "", 2)


async def test_whoever_waits_behind_few_of_its_own_is_not_refused_for_what_others_have_waiting() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        await answered_once(made, worker, held_s=1.0)
        for _ in range(6):
            made.dispatcher.submit(make_call(timeout_s=60, tenant="greedy"))
        with pytest.raises(Overloaded):
            made.dispatcher.submit(make_call(timeout_s=5, tenant="greedy"))
        made.dispatcher.submit(make_call(timeout_s=5, tenant="modest"))


async def test_a_free_slot_is_never_refused_whatever_was_measured() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        await answered_once(made, worker, held_s=100.0)
        made.dispatcher.submit(call := make_call(timeout_s=1))
        assert call.instance == A


async def test_nothing_is_refused_before_anything_was_measured() -> None:
    async with mesh() as made:
        await made.add(A, 1)
        for _ in range(4):
            made.dispatcher.submit(make_call(timeout_s=0.001))
        assert made.dispatcher.queued == 3


@pytest.mark.attack("I11")
async def test_who_fills_a_queue_makes_room_for_who_has_less_in_it() -> None:
    async with mesh(queue_limit=3) as made:
        await made.add(A, 1)
        calls = [make_call(tenant="greedy") for _ in range(4)]
        for call in calls:
            made.dispatcher.submit(call)
        with pytest.raises(Overloaded) as caught:
            made.dispatcher.submit(make_call(tenant="greedy"))
        assert caught.value.retry_after_s > 0
        made.dispatcher.submit(make_call(tenant="modest"))
        with pytest.raises(Overloaded) as caught:
            await calls[-1].answer
        assert (caught.value.reason, made.dispatcher.queued) == ("queue.full", 3)
        made.dispatcher.submit(make_call(tenant="third"))
        with pytest.raises(Overloaded):
            made.dispatcher.submit(make_call(tenant="modest"))


async def test_a_model_is_asked_no_more_often_than_it_may_be() -> None:
    async with mesh(rate=0.001, burst=1) as made:
        await made.add(A, 9, model_state("tiny"), model_state("other"))
        made.dispatcher.submit(make_call())
        with pytest.raises(Overloaded) as caught:
            made.dispatcher.submit(make_call())
        assert (caught.value.reason, caught.value.retry_after_s > 900) == ("model.too_fast", True)
        made.dispatcher.submit(make_call(infer_request("other")))


async def test_a_tenants_first_call_in_a_short_queue_waits_without_the_margin() -> None:
    """Or slots would go to whoever asks most often."""
    async with mesh() as made:
        worker = await made.add(A, 1)
        await answered_once(made, worker, held_s=1.0)
        made.dispatcher.submit(make_call(tenant="greedy"))
        made.dispatcher.lanes["tiny"].off_s = 5.0
        made.dispatcher.submit(first := make_call(tenant="modest", timeout_s=4))
        with pytest.raises(Overloaded):
            made.dispatcher.submit(make_call(tenant="modest", timeout_s=4))
        with pytest.raises(Overloaded):
            made.dispatcher.submit(make_call(tenant="third", timeout_s=4))
        assert (first.instance, made.dispatcher.queued) == ("", 1)
