"""`cloister up`: start the programs of a mesh in order, keep them running, and drain them in reverse."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.keeper import Keeper
from cloister.cli.mesh_folder import Mesh
from cloister.cli.probes import Probes
from cloister.cli.programs import Program
from cloister.cli.running import write_state

START_S: Final = 60.0
TRIES: Final = 4  # a program that ended so often before it was ever ready will not be
_POLL_S: Final = 0.1


class Supervisor:
    """All programs of one mesh.

    Args:
        mesh: Whose they are.
        state: Where `cloister down` and `cloister status` find what runs.
        report: Told each step in one line.
    """

    def __init__(self, mesh: Mesh, state: Path, report: Callable[[str], None]) -> None:
        self._mesh = mesh
        self._state = state
        self._report = report
        self._keepers: list[Keeper] = []
        self._ready = False

    async def run(self, stages: Sequence[Sequence[Program]], announce: Callable[[], None]) -> None:
        """Start everything, say so, and go on until SIGINT or SIGTERM.

        Raises:
            Stop: A program refuses its settings or is not ready in time; all others have been stopped then.
        """
        stopping = asyncio.Event()
        with _on_signals(stopping):
            async with Probes.opened(self._mesh) as probes:
                try:
                    async with asyncio.TaskGroup() as group:
                        try:
                            if await _unless(stopping, self._start(stages, probes, group)):
                                self._ready = True
                                self._write_state()
                                announce()
                                await stopping.wait()
                        finally:
                            await self._drain()
                except* Stop as stops:
                    raise _first(stops) from None
        self._report("stopped")

    async def _start(self, stages: Sequence[Sequence[Program]], probes: Probes, group: asyncio.TaskGroup) -> None:
        for stage in stages:
            keepers = [Keeper(program, self._log(program), self._report) for program in stage]
            self._keepers += keepers
            for keeper in keepers:
                group.create_task(keeper.run(self._write_state))
            # Services first: whether a worker is ready, the gateway must tell.
            for keeper in sorted(keepers, key=lambda keeper: keeper.program.service == "worker"):
                await self._until_ready(keeper, probes)

    async def _drain(self) -> None:
        """In reverse: all gateways, then all workers, then the rest; programs of one kind together."""
        self._report("draining")
        for _, alike in groupby(reversed(self._keepers), key=lambda keeper: keeper.program.service):
            async with asyncio.TaskGroup() as group:
                for keeper in alike:
                    group.create_task(keeper.stop())

    async def _until_ready(self, keeper: Keeper, probes: Probes) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(START_S):
                while not await probes.ready(keeper.program):  # of another process
                    if keeper.restarts >= TRIES:
                        raise Stop(
                            f"{keeper.program.name} ends whenever it is started: {keeper.last_words()} "
                            f"(all of it: {keeper.log})"
                        )
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise Stop(
                f"{keeper.program.name} was not ready within {START_S:.0f} s: {keeper.last_words()} "
                f"(all of it: {keeper.log})",
                ExitCode.UNAVAILABLE,
            ) from None
        self._report(f"{_ready(keeper.program)} ({time.monotonic() - began:.1f} s)")

    def _log(self, program: Program) -> Path:
        return self._mesh.folder / "logs" / f"{program.name}.log"

    def _write_state(self) -> None:
        programs = [
            {
                "name": keeper.program.name,
                "service": keeper.program.service,
                "address": keeper.program.address,
                "https": keeper.program.https,
                "pid": keeper.pid,
                "enclave": keeper.program.enclave,
                "restarts": keeper.restarts,
                "log": str(keeper.log),
            }
            for keeper in self._keepers
        ]
        write_state(self._state, {"pid": os.getpid(), "ready": self._ready, "programs": programs})


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work`, or give it up when `stopping` comes first; returns whether it was done."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        watch = group.create_task(_cancel_when(stopping, task))
        task.add_done_callback(lambda _: watch.cancel())
    return not task.cancelled()


async def _cancel_when(stopping: asyncio.Event, task: asyncio.Task[None]) -> None:
    await stopping.wait()
    task.cancel()


@contextmanager
def _on_signals(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _ready(program: Program) -> str:
    where = f" at {program.address}" if program.address else ""
    return f"{program.name} ready{where}{f', enclave {program.enclave}' if program.enclave else ''}"


def _first(group: BaseExceptionGroup[Stop]) -> Stop:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, Stop)
    return leaf
