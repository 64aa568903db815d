"""Which worker gets which call: free slots, seals, versions, full queues, links that die."""

from __future__ import annotations

import pytest

from cloister.errors import NotFound, Overloaded, Unavailable
from cloister.gateway.dispatch import LOOKS
from cloister.gateway.routing import Routing
from fakes.gateway_parts import A, B, C, WorkerEnd, infer_request, make_call, model_state
from fakes.linked_workers import Mesh, mesh


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


async def test_no_version_means_the_highest() -> None:
    async with mesh() as made:
        await made.add(A, 9, model_state(version="9"))
        await made.add(B, 1, model_state(version="10"))
        made.dispatcher.submit(default := make_call())
        made.dispatcher.submit(named := make_call(infer_request(version="9")))
        assert (default.instance, named.instance) == (B, A)


async def test_a_sealed_call_without_a_version_goes_where_it_can_be_opened() -> None:
    async with mesh() as made:
        await made.add(A, 1, model_state(version="1"))
        await made.add(B, 1, model_state(version="2"))
        made.dispatcher.submit(call := make_call(infer_request(workers=[A])))
        assert call.instance == A


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


async def test_a_model_that_is_served_no_more_fails_what_waits_for_it() -> None:
    async with mesh() as made:
        worker = await made.add(A, 1)
        made.dispatcher.submit(make_call())
        made.dispatcher.submit(waiting := make_call())
        worker.say(models_changed=True, models=[model_state("other")])
        with pytest.raises(Unavailable):
            await waiting.answer


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


def routed(text: str) -> Routing:
    return Routing.parse(text.encode())


async def test_the_operator_says_which_version_is_the_default_and_what_labels_stand_for() -> None:
    async with mesh() as made:
        worker = await made.add(A, 9, model_state(version="1"), model_state(version="2"))
        made.dispatcher.route(routed("[models.tiny]\ndefault = 1\nlabels = { canary = 2 }"))
        for asked in ("", "canary", "2"):
            made.dispatcher.submit(make_call(infer_request(version=asked)))
        made.dispatcher.route(Routing())
        made.dispatcher.submit(make_call())
        assert [call.model_version for call in (await worker.frame()).calls] == ["1", "2", "", "2"]
        with pytest.raises(NotFound):
            made.dispatcher.submit(make_call(infer_request(version="canary")))


async def test_a_default_that_nobody_serves_is_answered_by_no_other_version() -> None:
    async with mesh() as made:
        await made.add(A, 1, model_state(version="1"))
        made.dispatcher.submit(make_call())
        made.dispatcher.submit(waiting := make_call())
        made.dispatcher.route(routed("[models.tiny]\ndefault = 2"))
        with pytest.raises(Unavailable):
            await waiting.answer
        with pytest.raises(NotFound):  # `unknown` of this test
            made.dispatcher.submit(make_call())
        made.dispatcher.submit(make_call(infer_request(version="1")))


async def test_a_waiting_call_goes_where_the_default_is_now() -> None:
    async with mesh() as made:
        old = await made.add(A, 1, model_state(version="1"))
        new = await made.add(B, 1, model_state(version="1"), model_state(version="2"))
        made.dispatcher.route(routed("[models.tiny]\ndefault = 1"))
        for _ in range(2):
            made.dispatcher.submit(make_call())
        made.dispatcher.submit(waiting := make_call())
        for end in (old, new):
            await end.frame()
        made.dispatcher.route(routed("[models.tiny]\ndefault = 2"))
        assert waiting.instance == ""
        old.answer(1)
        await old.heard()
        assert waiting.instance == ""
        new.answer(1)
        assert [call.model_version for call in (await new.frame()).calls] == ["2"]


@pytest.mark.attack("G15")
async def test_no_label_or_default_moves_a_sealed_call() -> None:
    async with mesh() as made:
        worker = await made.add(A, 9, model_state(version="1"), model_state(version="2"))
        made.dispatcher.route(routed("[models.tiny]\ndefault = 2\nlabels = { stable = 2 }"))
        for asked in ("1", ""):
            made.dispatcher.submit(make_call(infer_request(version=asked, workers=[A])))
        assert [call.model_version for call in (await worker.frame()).calls] == ["", ""]
        with pytest.raises(NotFound):
            made.dispatcher.submit(make_call(infer_request(version="stable", workers=[A])))


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


async def test_slots_of_a_model_are_those_of_its_workers_within_its_own_limit() -> None:
    async with mesh(slots=3) as made:
        assert made.dispatcher.slots_of("tiny") == 0
        await made.add(A, 2)
        assert made.dispatcher.slots_of("tiny") == 2
        await made.add(B, 2)
        assert made.dispatcher.slots_of("tiny") == 3
        assert list(made.dispatcher.served()) == ["tiny"]
