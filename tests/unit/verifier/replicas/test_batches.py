from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from cloister.errors import NotReady, Overloaded, Unavailable
from cloister.verifier.replicas import batches
from cloister.verifier.replicas.batches import Batches


@asynccontextmanager
async def running(line: Batches[int]) -> AsyncIterator[Batches[int]]:
    async with asyncio.TaskGroup() as group:
        group.create_task(line.running())
        yield line
        line.close()


async def test_each_gets_its_own_answer_in_order_and_in_few_batches() -> None:
    sent: list[int] = []

    async def send(batch: Sequence[int]) -> list[int]:
        sent.append(len(batch))
        await asyncio.sleep(0)
        return [-number for number in batch]

    async with running(Batches(send)) as line, asyncio.TaskGroup() as group:
        tasks = [group.create_task(line.ask(number)) for number in range(300)]
    assert [task.result() for task in tasks] == [-number for number in range(300)]
    assert len(sent) <= 4


async def test_an_error_is_that_of_one_call_or_of_the_whole_batch() -> None:
    async def send(batch: Sequence[int]) -> list[int | Exception]:
        if 0 in batch:
            raise Unavailable("all")
        return [NotReady("one") if number % 2 else number for number in batch]

    async with running(Batches(send)) as line:
        for number, error in ((0, Unavailable), (1, NotReady)):
            with pytest.raises(error):
                await line.ask(number)
        assert await line.ask(2) == 2


async def test_a_line_is_bounded_and_tells_those_who_wait_when_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LIMIT", 2)

    async def send(_batch: Sequence[int]) -> list[int]:
        raise AssertionError("nothing is sent")

    line = Batches(send)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome(line)) for _ in range(3)]
        await asyncio.sleep(0)
        line.close()
    assert [task.result() for task in tasks] == [Unavailable, Unavailable, Overloaded]
    assert await outcome(line) is Unavailable


async def outcome(line: Batches[int]) -> type[Exception] | None:
    try:
        await line.ask(1)
    except (Unavailable, Overloaded) as error:
        return type(error)
    return None


async def test_who_has_gone_is_passed_over() -> None:
    gate = asyncio.Event()

    async def send(batch: Sequence[int]) -> Sequence[int]:
        await gate.wait()
        return batch

    async with running(Batches(send)) as line, asyncio.TaskGroup() as group:
        gone, stays = group.create_task(line.ask(1)), group.create_task(line.ask(2))
        await asyncio.sleep(0.01)
        gone.cancel()
        gate.set()
        assert await stays == 2
