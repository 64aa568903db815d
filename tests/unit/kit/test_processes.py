"""Processes of one parent: kept running, given up where starting again would not help, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.errors import InvalidRequest, NotReady
from cloister.kit import processes as processes_module
from cloister.kit.processes import Processes
from cloister.kit.shared_port import places


def said(folder: Path) -> list[str]:
    return [file.read_text() for file in folder.iterdir()]


async def soon(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - other processes are watched from outside, by looking
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes_module, "PAUSES_S", (0.0,))
    monkeypatch.setattr(processes_module, "MARGIN_S", 0.0)


def running(body: str, *, count: int = 2, grace_s: float = 5.0) -> Processes:
    return Processes(("/bin/sh", "-c", body), places(count, 0), {"MINE": "ours"}, grace_s)


async def ended(made: Processes) -> None:
    async with asyncio.timeout(10):
        await made.run(asyncio.Event())


async def test_settings_that_a_process_refuses_end_the_parent_as_they_would_end_it_alone() -> None:
    with pytest.raises(InvalidRequest, match="processes"):
        await ended(running("exit 2"))


async def test_a_failure_at_the_start_ends_the_parent() -> None:
    with pytest.raises(NotReady, match="failed when it started"):
        await ended(running("exit 1"))


async def test_each_has_its_place_and_what_the_parent_gives_all(tmp_path: Path) -> None:
    body = f'echo "$CLOISTER_PLACE $MINE" > {tmp_path}/$$; exec sleep 60'
    stopping = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(running(body).run(stopping))
        await soon(lambda: [*map(len, said(tmp_path))] == [11, 11])
        stopping.set()
    assert sorted(said(tmp_path)) == ["1/2:0 ours\n", "2/2:0 ours\n"]


async def test_one_that_dies_is_replaced_also_before_it_has_lived_long(tmp_path: Path) -> None:
    body = f"echo > {tmp_path}/$$; kill -9 $$"
    stopping = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(running(body, count=1).run(stopping))
        await soon(lambda: len(said(tmp_path)) >= 3)
        stopping.set()


async def test_one_that_does_not_drain_in_time_is_killed(tmp_path: Path) -> None:
    body = f'trap "" TERM; echo > {tmp_path}/up; while :; do sleep 0.01; done'
    stopping = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(running(body, count=1, grace_s=0.05).run(stopping))
        await soon(lambda: bool(said(tmp_path)))
        stopping.set()
