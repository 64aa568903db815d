"""Which worker gets which call: free slots, seals, and models that share workers."""

from __future__ import annotations

import pytest

from cloister.errors import NotFound
from cloister.gateway.dispatch import LOOKS
from fakes.gateway_parts import A, B, C, infer_request, make_call, model_state
from fakes.linked_workers import mesh


async def test_the_worker_with_the_most_free_slots_is_chosen() -> None:
    async with mesh() as made:
        await made.add(A, 2)
        await made.add(B, 3)
        calls = [make_call() for _ in range(5)]
        for call in calls:
            made.dispatcher.submit(call)
        assert [call.instance for call in calls] == [B, A, B, A, B]
        assert made.dispatcher.queued == 0


async def test_calls_wait_for_slots_in_their_order() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        calls = [make_call() for _ in range(3)]
        for call in calls:
            made.dispatcher.submit(call)
        assert made.dispatcher.queued == 2
        for expected in calls:
            (sent,) = (await worker.frame()).calls
            worker.answer(sent.call_id, str(sent.call_id).encode())
            assert await expected.answer == str(sent.call_id).encode()


async def test_nobody_serves_it() -> None:
    async with mesh() as made:
        await made.add(A)
        for request in (infer_request("none"), infer_request(version="9"), infer_request(workers=[C])):
            with pytest.raises(NotFound):
                made.dispatcher.submit(make_call(request))


async def test_a_sealed_call_goes_only_to_workers_that_can_open_it() -> None:
    async with mesh() as made:
        await made.add(A, 1)
        worker = await made.add(B, 9)
        first, second = make_call(infer_request(workers=[A, C])), make_call(infer_request(workers=[A]))
        made.dispatcher.submit(first)
        made.dispatcher.submit(second)
        assert (first.instance, second.instance) == (A, "")
        made.dispatcher.submit(plain := make_call())
        await worker.frame()
        worker.answer(1)
        await plain.answer
        assert second.instance == ""


async def test_a_waiting_call_for_one_worker_does_not_block_those_behind_it() -> None:
    async with mesh() as made:
        await made.add(A, 1)
        worker = await made.add(B, 1)
        made.dispatcher.submit(make_call(infer_request(workers=[A])))
        made.dispatcher.submit(make_call(infer_request(workers=[B])))
        made.dispatcher.submit(for_a := make_call(infer_request(workers=[A])))
        made.dispatcher.submit(for_anyone := make_call())
        (sent,) = (await worker.frame()).calls
        worker.answer(sent.call_id)
        await worker.frame()
        assert (for_a.instance, for_anyone.instance) == ("", B)


async def test_equal_workers_take_turns_and_of_very_many_some_are_looked_at() -> None:
    async with mesh() as made:
        names = [f"{number:032x}" for number in range(2 * LOOKS)]
        for name in names:
            await made.add(name, 2)
        calls = [make_call() for _ in names]
        looks = list[str]()
        for call in calls:
            made.dispatcher.submit(call)
            looks.append(call.instance)
        assert sorted(looks) == names  # all are idle, and none is asked twice before each has been asked
        sealed = make_call(infer_request(workers=(names[-1],)))
        made.dispatcher.submit(sealed)
        assert sealed.instance == names[-1]


async def test_a_free_slot_is_found_however_many_workers_are_full() -> None:
    async with mesh() as made:
        for number in range(2 * LOOKS):
            await made.add(f"{number:032x}", 1)
        calls = [make_call() for _ in range(2 * LOOKS)]
        for call in calls:
            made.dispatcher.submit(call)
        assert all(call.instance for call in calls)


async def test_a_slow_model_that_fills_its_slots_leaves_a_quick_one_all_of_its() -> None:
    async with mesh() as made:
        worker = await made.add(A, 2, model_state("slow"), model_state("quick"))
        slow = [make_call(infer_request("slow")) for _ in range(5)]
        for call in slow:
            made.dispatcher.submit(call)
        await worker.frame()
        for _ in range(4):
            quick = [make_call(infer_request("quick")) for _ in range(2)]
            for call in quick:
                made.dispatcher.submit(call)
            assert [call.instance for call in quick] == [A, A]
            for sent in (await worker.frame()).calls:
                worker.answer(sent.call_id)
            for call in quick:
                await call.answer
        assert [call.instance for call in slow] == [A, A, "", "", ""]
        worker.answer(slow[0].call_id)
        await slow[0].answer
        assert slow[2].instance == A


async def test_of_workers_with_as_many_free_slots_the_one_with_less_to_do_is_chosen() -> None:
    async with mesh() as made:
        await made.add(A, 4, model_state("tiny"), model_state("other"))
        await made.add(B, 4, model_state("tiny"))
        made.dispatcher.submit(busy := make_call(infer_request("other")))
        made.dispatcher.submit(first := make_call())
        assert (busy.instance, first.instance) == (A, B)


async def test_a_slow_worker_does_not_hold_up_the_other() -> None:
    async with mesh() as made:
        await made.add(A, 1)
        quick = await made.add(B, 1)
        made.dispatcher.submit(make_call())
        for _ in range(5):
            made.dispatcher.submit(call := make_call())
            (sent,) = (await quick.frame()).calls
            quick.answer(sent.call_id)
            await call.answer
        assert made.links[A].used == 1


async def test_a_model_holds_no_more_slots_than_it_may() -> None:
    async with mesh(slots=2) as made:
        first, second = await made.add(A, 4), await made.add(B, 4)
        calls = [make_call() for _ in range(4)]
        for call in calls:
            made.dispatcher.submit(call)
        assert sorted(call.instance for call in calls) == ["", "", A, B]
        await first.frame()
        first.answer(1)
        await first.heard()
        assert (made.links[A].used + made.links[B].used, made.dispatcher.queued) == (2, 1)
        await second.frame()
        second.answer(1)
        await second.heard()
        assert (made.links[A].used + made.links[B].used, made.dispatcher.queued) == (2, 0)


async def test_a_slot_that_comes_free_at_one_worker_lets_a_call_for_another_go() -> None:
    async with mesh(slots=1) as made:
        worker = await made.add(A, 1)
        await made.add(B, 1)
        made.dispatcher.submit(make_call(infer_request(workers=[A])))
        made.dispatcher.submit(for_b := make_call(infer_request(workers=[B])))
        assert for_b.instance == ""
        await worker.frame()
        worker.answer(1)
        await worker.heard()
        assert for_b.instance == B


async def test_slots_of_a_model_are_those_of_its_workers_within_its_own_limit() -> None:
    async with mesh(slots=3) as made:
        assert made.dispatcher.slots_of("tiny") == 0
        await made.add(A, 2)
        assert made.dispatcher.slots_of("tiny") == 2
        await made.add(B, 2)
        assert made.dispatcher.slots_of("tiny") == 3
        assert list(made.dispatcher.served()) == ["tiny"]
