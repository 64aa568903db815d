"""Whose turn it is: one at a time here, so the order is plain to see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cloister.errors import Overloaded
from cloister.verifier.turns import Turns

ENROL = "spiffe://demo.test/enrol/main"


class Crowd:
    """Callers who come while somebody is inside, and the order in which they are let in once that one leaves."""

    def __init__(self, turns: Turns, group: asyncio.TaskGroup) -> None:
        self.turns = turns
        self.served: list[str] = []
        self.refused: list[str] = []
        self._group = group

    async def comes(self, name: str, *, peer: str | None = None, ends_at: float | None = None) -> asyncio.Task[None]:
        task = self._group.create_task(self._served(name, peer or name, ends_at))
        await asyncio.sleep(0)
        return task

    async def _served(self, name: str, peer: str, ends_at: float | None) -> None:
        try:
            async with self.turns.turn(peer, ends_at=ends_at):
                self.served.append(name)
        except Overloaded:
            self.refused.append(name)


@asynccontextmanager
async def crowd(*, limit: int = 100) -> AsyncIterator[Crowd]:
    turns = Turns(1, limit=limit)
    async with asyncio.TaskGroup() as group, turns.turn("inside", ends_at=None):
        made = Crowd(turns, group)
        yield made
    assert len(turns) == 0


@pytest.mark.attack("J13")
async def test_the_membership_that_ends_soonest_is_renewed_first() -> None:
    async with crowd() as here:
        for name, ends_at in (("c", 300.0), ("a", 100.0), ("d", 1200.0), ("b", 200.0)):
            await here.comes(name, ends_at=ends_at)
    assert here.served == ["a", "b", "c", "d"]


@pytest.mark.attack("D11")
async def test_who_sends_many_stands_behind_all_who_send_one() -> None:
    async with crowd() as here:
        for number in range(50):
            await here.comes(f"flood {number}", peer="spiffe://demo.test/worker/flood", ends_at=1.0)
        await here.comes("good", ends_at=3000.0)
        await here.comes("new", peer=ENROL)
    assert here.served[:3] == ["flood 0", "good", "new"]
    assert here.served[3:] == [f"flood {number}" for number in range(1, 50)]


async def test_members_go_before_those_who_enrol_and_these_in_order() -> None:
    async with crowd() as here:
        for number in range(5):
            await here.comes(f"new {number}", peer=ENROL)
        await here.comes("member", ends_at=3000.0)
    assert here.served == ["member", *(f"new {number}" for number in range(5))]


@pytest.mark.attack("J13")
async def test_a_full_queue_keeps_the_most_urgent_and_refuses_the_rest_at_once() -> None:
    async with crowd(limit=3) as here:
        for number in range(5):
            await here.comes(f"late {number}", ends_at=1000.0 + number)
        assert len(here.turns) == 3
        assert here.refused == ["late 3", "late 4"]
        await here.comes("urgent", ends_at=1.0)
        await asyncio.sleep(0)
        assert here.refused == ["late 3", "late 4", "late 2"]
    assert here.served == ["urgent", "late 0", "late 1"]


async def test_who_gives_up_waiting_takes_no_turn() -> None:
    async with crowd() as here:
        leaves = await here.comes("leaves", ends_at=1.0)
        await here.comes("stays", ends_at=2.0)
        leaves.cancel()
        await asyncio.sleep(0)
        assert len(here.turns) == 1
    assert here.served == ["stays"]


async def test_a_turn_that_comes_as_its_caller_gives_up_passes_on() -> None:
    turns = Turns(1)
    served = []

    async def wanted(name: str) -> None:
        async with turns.turn(name, ends_at=None):
            served.append(name)

    async with asyncio.TaskGroup() as group:
        async with turns.turn("inside", ends_at=None):
            leaves = group.create_task(wanted("leaves"))
            group.create_task(wanted("stays"))
            await asyncio.sleep(0)
        leaves.cancel()  # its turn was given in the same step of the loop, before it could run
    assert served == ["stays"]


async def test_several_slots_serve_several_at_once() -> None:
    turns, inside, most = Turns(3), 0, 0

    async def one(name: str) -> None:
        nonlocal inside, most
        async with turns.turn(name, ends_at=None):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(one(str(number)))
    assert most == 3
