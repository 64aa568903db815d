"""Who waits for a vault holds threads of the vault's alone, and not everybody's (attack F11)."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from cloister.errors import Overloaded
from cloister.kit.shares import Shares
from cloister.provisioner.app import CALLS_OF_A_PEER, UNREAD_BYTES_OF_A_PEER
from cloister.provisioner.vaults.threads import MOST_WAITING, VaultThreads

_call: contextvars.ContextVar[str] = contextvars.ContextVar("call")


@pytest.mark.attack("F11")
async def test_a_vault_that_does_not_answer_holds_up_nobody_else_and_a_crowd_is_told_at_once() -> None:
    answers = threading.Event()
    with VaultThreads.running(threads=2, most_waiting=3) as threads:
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(threads.run(answers.wait)) for _ in range(5)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded) as refused:
                await threads.run(answers.wait)
            assert refused.value.reason == "vault.busy"
            assert await asyncio.to_thread(str, "others are served") == "others are served"
            answers.set()
        assert all(task.result() for task in waiting)
        assert await threads.run(str, "again") == "again"


@pytest.mark.attack("F11")
async def test_peers_that_have_all_their_calls_open_leave_room_before_the_vault_for_others() -> None:
    answers, shares = threading.Event(), Shares(CALLS_OF_A_PEER, UNREAD_BYTES_OF_A_PEER)
    with VaultThreads.running(threads=1) as vault:

        async def call(peer: str) -> str:
            try:
                shares.enter(peer)
                await vault.run(answers.wait)
            except Overloaded as error:
                return error.reason
            return "answered"

        async with asyncio.TaskGroup() as group:
            greedy = [group.create_task(call(peer)) for peer in ("ann", "bob", "eve") for _ in range(MOST_WAITING)]
            modest = group.create_task(call("a worker"))
            await asyncio.sleep(0)
            answers.set()
        assert modest.result() == "answered"
        assert {task.result() for task in greedy} == {"answered", "calls.open"}


async def test_what_runs_there_is_of_the_same_call_and_what_it_raises_is_raised() -> None:
    _call.set("the third")
    with VaultThreads.running(threads=1, most_waiting=0) as threads:
        assert await threads.run(_call.get) == "the third"
        for _ in range(3):  # its place is free again each time
            with pytest.raises(ValueError, match="none"):
                await threads.run(_fail, why="none")


def _fail(why: str) -> None:
    raise ValueError(why)
