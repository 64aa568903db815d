"""A worker's slots among its links: fair, never more than there are, and given to whoever uses them."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.worker import shares as shares_module
from cloister.worker.shares import Shares, divided
from cloister.worker.slots import Slots
from fakes.attested_worker import FakeEngine, Inside
from fakes.gateway_end import linked


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(shares_module, "STEP_S", 0.001)


def test_quick_calls_use_a_slot_together():
    share = Shares(8)
    with share.joined(lambda: None) as of_link:
        slots = Slots(8, of_link)
        for call_id in range(5):
            slots.take(call_id, "quick", 4)
        assert of_link.under_way == 2
        slots.take(5, "slow")
        assert of_link.under_way == 2
        slots.free(0)
        assert of_link.under_way == 1
        for call_id in range(1, 6):
            slots.free(call_id)
        assert of_link.under_way == 0


@pytest.mark.parametrize(
    ("slots", "demands", "parts"),
    [
        (16, [16], [16]),
        (16, [0], [16]),
        (16, [16, 16], [8, 8]),
        (16, [16] * 8, [2] * 8),
        (16, [16, 0, 0, 0, 0, 0, 0, 0], [9, 1, 1, 1, 1, 1, 1, 1]),
        (16, [16, 3, 16], [6, 3, 7]),
        (12, [2, 2, 2], [4, 4, 4]),
        (2, [2, 2, 2], [1, 1, 1]),
    ],
)
def test_small_demands_are_met_and_the_rest_is_divided_equally(slots, demands, parts):
    assert divided(slots, demands) == parts


@given(st.integers(1, 200), st.lists(st.integers(0, 200), min_size=1, max_size=40))
def test_all_slots_are_divided_and_nobody_gets_more_than_a_larger_demand(slots, demands):
    demands = [min(demand, slots) for demand in demands]
    parts = divided(slots, demands)
    assert min(parts) >= 1
    assert sum(parts) == max(slots, len(demands))
    for demand, part in zip(demands, parts, strict=True):
        if part < demand:  # whoever is refused what it asks for has as much as anybody, but for the remainder
            assert part + 1 >= max(parts)


async def test_a_lone_link_has_all_slots_again_when_the_other_is_gone():
    shares = Shares(16)
    told = []
    with shares.joined(lambda: told.append("first")) as first:
        assert first.granted == 16
        with shares.joined(lambda: None) as second:
            assert (first.granted, second.granted) == (8, 8)
        assert first.granted == 16
    assert len(told) == 3


async def test_what_is_under_way_is_waited_for_before_its_slots_are_given_to_another():
    shares = Shares(4)
    with shares.joined(lambda: None) as first:
        first.use(4)
        with shares.joined(lambda: None) as second:
            assert (first.granted, second.granted) == (3, 1)
            second.use(1)
            async with dividing(shares):
                await until(lambda: first.granted == 2)
                assert second.granted == 1
                first.use(2)
                await until(lambda: second.granted == 2)


async def test_slots_go_where_they_are_used_and_idle_links_keep_one():
    shares = Shares(8)
    with shares.joined(lambda: None) as busy, shares.joined(lambda: None) as idle, shares.joined(lambda: None):
        busy.use(busy.granted)
        async with dividing(shares):
            await until(lambda: busy.granted == 6)
            assert idle.granted == 1
            busy.use(6)
            idle.use(1)
            await until(lambda: busy.granted < 6)
            assert idle.granted == 1  # what the other has under way, it may finish
            busy.use(3)
            await until(lambda: idle.granted > 1)


async def test_links_divide_the_slots_of_their_worker_and_are_told():
    inside = Inside(engine=FakeEngine(inline=False))
    shares = Shares(8)
    async with linked(inside, shares) as (first, _):
        assert first.frames[0].slots == 8
        async with linked(inside, shares) as (second, _):
            assert second.frames[0].slots == 4
            await first.until(lambda: first.frames[-1].slots == 4)
        await first.until(lambda: first.frames[-1].slots == 8)


@asynccontextmanager
async def dividing(shares):
    """The worker's loop, for as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(shares.dividing())
        yield
        task.cancel()


async def until(reached):
    async with asyncio.timeout(5):
        while not reached():  # noqa: ASYNC110 - numbers tell nobody when they change
            await asyncio.sleep(0)
