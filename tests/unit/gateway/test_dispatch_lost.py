"""What becomes of calls whose worker is lost or drains, or for which nobody waits any more."""

from __future__ import annotations

import pytest

from cloister.errors import Unavailable
from fakes.gateway_parts import A, B, infer_request, make_call, model_state
from fakes.linked_workers import mesh


async def test_when_a_link_dies_its_calls_go_to_another_worker_in_order() -> None:
    async with mesh() as made:
        dead = await made.add(A, 3)
        calls = [make_call() for _ in range(3)]
        for call in calls:
            made.dispatcher.submit(call)
        await dead.frame()
        dead.answer(2, b"first of all")
        assert await calls[1].answer == b"first of all"
        other = await made.add(B, 1)
        await made.kill(A)
        assert [call.instance for call in calls] == [B, A, ""]
        for expected in (calls[0], calls[2]):
            (sent,) = (await other.frame()).calls
            other.answer(sent.call_id)
            await expected.answer


async def test_what_died_with_a_link_goes_before_what_waits() -> None:
    async with mesh() as made:
        await made.add(A, 1)
        other = await made.add(B, 1)
        first, second, waiting = make_call(), make_call(), make_call()
        for call in (first, second, waiting):
            made.dispatcher.submit(call)
        assert (first.instance, waiting.instance) == (A, "")
        await made.kill(A)
        (sent,) = (await other.frame()).calls
        other.answer(sent.call_id)
        await second.answer
        await other.frame()
        assert (first.instance, waiting.instance) == (B, "")


async def test_each_worker_gets_a_call_once_at_most() -> None:
    async with mesh() as made:
        await made.add(A, 1)
        await made.add(B, 1)
        made.dispatcher.submit(call := make_call())
        await made.kill(A)
        assert call.instance == B
        await made.add(A, 1)
        await made.kill(B)
        with pytest.raises(Unavailable):
            await call.answer


async def test_when_no_worker_is_left_all_calls_fail() -> None:
    async with mesh() as made:
        await made.add(A, 1)
        calls = [make_call(), make_call()]
        for call in calls:
            made.dispatcher.submit(call)
        await made.kill(A)
        for call in calls:
            with pytest.raises(Unavailable):
                await call.answer
        assert made.dispatcher.queued == 0


async def test_a_draining_worker_gets_nothing_new_and_what_has_not_left_goes_elsewhere() -> None:
    async with mesh() as made:
        draining = await made.add(A, 2)
        made.dispatcher.submit(sent := make_call())
        await draining.frame()
        await made.add(B, 2)
        made.dispatcher.submit(make_call())
        made.dispatcher.submit(unsent := make_call(infer_request(workers=[A, B])))
        assert unsent.instance == A
        made.links[A].drain()
        assert (sent.instance, unsent.instance, unsent.tried) == (A, B, ())
        made.dispatcher.submit(waiting := make_call())
        assert waiting.instance == ""
        draining.answer(1)
        assert await sent.answer == b"answer"


async def test_withdrawing_a_waiting_call_makes_room() -> None:
    async with mesh(queue_limit=1) as made:
        await made.add(A, 1)
        made.dispatcher.submit(make_call())
        made.dispatcher.submit(waiting := make_call())
        waiting.answer.cancel()
        made.dispatcher.withdraw(waiting)
        made.dispatcher.withdraw(waiting)
        assert made.dispatcher.queued == 0
        made.dispatcher.submit(make_call())


async def test_withdrawing_an_unsent_call_lets_the_next_one_go() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        made.dispatcher.submit(gone := make_call())
        made.dispatcher.submit(waiting := make_call())
        gone.answer.cancel()
        made.dispatcher.withdraw(gone)
        assert waiting.instance == A
        assert [call.call_id for call in (await worker.frame()).calls] == [waiting.call_id]


async def test_a_withdrawn_call_is_not_sent_again_when_its_link_dies() -> None:
    async with mesh() as made:
        await made.add(A, 1)
        made.dispatcher.submit(call := make_call())
        call.answer.cancel()
        made.dispatcher.withdraw(call)
        await made.add(B, 1)
        await made.kill(A)
        assert made.links[B].used == 0


async def test_a_model_that_is_served_no_more_fails_what_waits_for_it() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        made.dispatcher.submit(make_call())
        made.dispatcher.submit(waiting := make_call())
        worker.say(models_changed=True, models=[model_state("other")])
        with pytest.raises(Unavailable):
            await waiting.answer


async def test_slots_are_counted_exactly_whatever_becomes_of_calls() -> None:
    async with mesh() as made:
        worker = await made.add(A, 4)
        calls = [make_call() for _ in range(4)]
        for call in calls[:3]:
            made.dispatcher.submit(call)
        await worker.frame()
        made.dispatcher.submit(calls[3])
        lane = made.dispatcher.lanes["tiny"]
        assert lane.at_workers == 4
        for call in (calls[0], calls[3]):
            call.answer.cancel()
            made.dispatcher.withdraw(call)
        assert lane.at_workers == 3  # one had left: its worker is busy with it
        worker.answer(1)
        worker.answer(2)
        await calls[1].answer
        assert lane.at_workers == 1
        await made.kill(A)
        assert lane.at_workers == 0
        assert made.dispatcher.lanes == {}


async def test_a_models_slots_are_known_again_when_its_last_worker_comes_back() -> None:
    async with mesh() as made:
        await made.add(A, 1)
        made.dispatcher.submit(call := make_call())
        await made.kill(A)
        with pytest.raises(Unavailable):
            await call.answer
        await made.add(A, 1)
        made.dispatcher.submit(again := make_call())
        assert (again.instance, made.dispatcher.lanes["tiny"].at_workers) == (A, 1)


@pytest.mark.attack("H08")
async def test_a_job_is_not_given_to_a_second_worker_where_the_first_was_lost_with_it() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        call = make_call()
        call.once = True
        made.dispatcher.submit(call)
        await worker.frame()
        await made.add(B, 1)
        await made.kill(A)
        with pytest.raises(Unavailable, match="lost") as caught:
            await call.answer
        assert caught.value.reason == "worker.lost"


async def test_a_job_that_had_not_left_for_the_worker_that_was_lost_goes_to_another() -> None:
    async with mesh() as made:
        await made.add(A, 2)
        other = await made.add(B, 1)
        call = make_call()
        call.once = True
        made.dispatcher.submit(call)
        assert call.instance == A
        await made.kill(A)
        (sent,) = (await other.frame()).calls
        other.answer(sent.call_id)
        assert await call.answer == b"answer"
