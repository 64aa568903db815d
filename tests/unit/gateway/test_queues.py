"""Tenants take turns; what is of one tenant keeps its order; work is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.gateway.call import Call
from cloister.gateway.queues import COST_BYTES, MAX_COST, FairQueue, cost
from fakes.gateway_parts import infer_request, make_call

LARGE = infer_request(tensor=bytes(3 * COST_BYTES))


def expired(call: Call, _now_s: float) -> None:
    call.expire()


def queue_of(tenants: str) -> tuple[FairQueue, list[Call]]:
    """A queue of calls in this order; each letter is a tenant."""
    queue, calls = FairQueue(expired), [make_call(tenant=tenant) for tenant in tenants]
    for call in calls:
        queue.append(call)
    return queue, calls


def order(queue: FairQueue) -> str:
    return "".join(call.tenant for call in queue.take_all())


async def test_tenants_take_turns() -> None:
    queue, _ = queue_of("aaaaabbc")
    assert order(queue) == "abcabaaa"
    assert len(queue) == 0


@pytest.mark.attack("I11")
async def test_one_request_waits_for_one_turn_of_each_however_many_wait_before_it() -> None:
    queue, calls = queue_of("a" * 128 + "b")
    first = [queue.take(lambda _: True, 0.0) for _ in range(2)]
    assert first == [calls[0], calls[-1]]


async def test_calls_of_one_tenant_keep_their_order() -> None:
    queue, calls = queue_of("aababba")
    taken = queue.take_all()
    for tenant in "ab":
        assert [call for call in taken if call.tenant == tenant] == [call for call in calls if call.tenant == tenant]


async def test_a_tenant_with_a_larger_share_has_more_turns() -> None:
    queue = FairQueue(expired)
    for tenant in "aaaaaabbbb":
        call = make_call(tenant=tenant)
        call.share = 3 if tenant == "a" else 1
        queue.append(call)
    assert order(queue) == "aaabaaabbb"


async def test_who_sends_large_requests_has_fewer_turns() -> None:
    queue = FairQueue(expired)
    for tenant in "aabbbbbb":
        queue.append(make_call(LARGE if tenant == "a" else None, tenant=tenant))
    assert cost(make_call(LARGE)) == 4
    assert order(queue) == "bbbabbba"
    assert cost(make_call(bytes(0) + infer_request(tensor=bytes(99 * COST_BYTES)))) == MAX_COST


async def test_what_a_worker_may_not_have_is_passed_over_and_keeps_its_place() -> None:
    queue, calls = queue_of("aab")
    assert queue.take(lambda call: call is not calls[0], 0.0) is calls[1]
    assert queue.take(lambda call: call is calls[0], 0.0) is calls[0]
    assert queue.take(lambda _: False, 0.0) is None
    assert queue.take_all() == [calls[2]]


async def test_the_late_are_answered_and_not_taken() -> None:
    queue = FairQueue(expired)
    late, patient = make_call(timeout_s=-1, tenant="a"), make_call(tenant="a")
    other = make_call(timeout_s=-1, tenant="b")
    for call in (late, patient, other):
        queue.append(call)
    assert queue.take(lambda _: True, patient.deadline_s - 5) is patient
    assert queue.take(lambda _: True, patient.deadline_s - 5) is None
    assert len(queue) == 0
    for call in (late, other):
        with pytest.raises(TimeoutError):
            await call.answer


async def test_what_is_put_back_comes_first_in_its_order() -> None:
    queue, waiting = queue_of("ab")
    again = [make_call(tenant=tenant) for tenant in "bba"]
    queue.put_back(again)
    assert queue.take_all() == [again[0], again[2], again[1], *waiting]


async def test_removing_a_call() -> None:
    queue, calls = queue_of("ab")
    assert queue.remove(calls[0])
    assert not queue.remove(calls[0])
    assert not queue.remove(make_call(tenant="b"))
    assert (len(queue), dict(queue.by_tenant())) == (1, {"b": 1})


async def test_who_has_the_most_waiting_loses_its_last_to_who_has_less() -> None:
    queue, calls = queue_of("aaabb")
    assert queue.pushed_out_by("a") is None
    assert queue.pushed_out_by("c") is calls[2]
    assert queue.pushed_out_by("b") is None
    assert FairQueue(expired).pushed_out_by("a") is None


@given(st.text("abcd", min_size=1, max_size=40), st.sampled_from("abcde"))
async def test_no_more_come_before_than_are_said_to_be_ahead_and_hardly_fewer(tenants: str, newcomer: str) -> None:
    queue, _ = queue_of(tenants)
    ahead = queue.ahead_of(newcomer)
    queue.append(call := make_call(tenant=newcomer))
    assert ahead - len(set(tenants)) <= queue.take_all().index(call) <= ahead


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=30))
async def test_everything_that_waits_is_taken_once(waiting: list[tuple[str, int]]) -> None:
    queue, calls = FairQueue(expired), []
    for tenant, units in waiting:
        calls.append(make_call(infer_request(tensor=bytes(units * COST_BYTES // 8)), tenant=tenant))
        queue.append(calls[-1])
    assert sorted(map(id, queue.take_all())) == sorted(map(id, calls))
    assert len(queue) == 0
