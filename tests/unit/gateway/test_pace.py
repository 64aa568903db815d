"""When a frame leaves: at once while calls are few, with company while they come fast, and never much later."""

from __future__ import annotations

import asyncio

import pytest

from cloister.gateway import pace
from cloister.gateway.pace import BRISK, FEW, FULL, STEPS, Pace


def brisk() -> Pace:
    """The pace of a link to which calls come fast."""
    found = Pace()
    found.measure(BRISK)
    return found


def busy(earlier_id: int = 7) -> Pace:
    """The pace of a link whose last frame, of quick calls, is unanswered."""
    found = Pace()
    found.sent(earlier_id, quick=True)
    return found


def leaves_at_once(pace: Pace, under_way: int) -> bool:
    """Whether nothing is waited for, not even one turn of the loop."""
    gathering = pace.gather([1], under_way)
    try:
        gathering.send(None)
    except StopIteration:
        return True
    gathering.close()
    return False


async def test_while_calls_are_few_a_frame_leaves_at_once() -> None:
    slow = Pace()
    slow.measure(BRISK - 1)
    assert leaves_at_once(slow, 100)
    assert leaves_at_once(brisk(), 1)
    assert leaves_at_once(busy(), FEW - 1)
    assert not leaves_at_once(brisk(), 2)
    assert not leaves_at_once(busy(), FEW)


async def test_calls_are_fast_only_as_long_as_they_come_fast() -> None:
    pace = brisk()
    pace.measure(BRISK + 1)
    assert leaves_at_once(pace, 100)


async def test_a_frame_waits_while_the_worker_evaluates_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "STEPS", 10_000)
    waiting_for = busy(earlier_id=7)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        frame = group.create_task(waiting_for.gather([1], FEW))
        waiting_for.answered(7)  # of a frame before: the worker has yet to come to the last one
        await asyncio.sleep(3 * pace.STEP_S)
        assert not frame.done()
        waiting_for.answered(8)
        await frame


async def test_a_frame_does_not_wait_for_calls_that_take_long() -> None:
    pace = Pace()
    pace.sent(7, quick=False)
    assert leaves_at_once(pace, 100)


async def test_a_frame_waits_on_while_company_comes() -> None:
    waiting = [0]
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        frame = group.create_task(brisk().gather(waiting, 2))
        while not frame.done():
            waiting.append(len(waiting))
            await asyncio.sleep(0)
    assert len(waiting) >= FULL


async def test_company_enough_leaves_at_once() -> None:
    gathering = busy().gather([0] * FULL, FULL)
    with pytest.raises(StopIteration):
        gathering.send(None)


async def test_no_wait_is_longer_than_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = []

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await busy().gather([1], FEW)
    assert slept == [pace.STEP_S] * STEPS
