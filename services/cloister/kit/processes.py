"""Several processes of one service behind one port: started, replaced when they die, drained together.

The parent serves nobody; it only starts the same program again, several times, with a place for each. A process knows
that its parent is gone, however that came about, when its standard input ends; it drains then, as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from cloister.errors import NotReady
from cloister.kit.config import settings_error
from cloister.kit.lifecycle import BAD_SETTINGS, FAILED, Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.shared_port import Place

PAUSES_S: Final = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Before a process is started again, by how many in a row did not last."""
SETTLED_S: Final = 10.0
"""A process that lived so long was a good one."""
MARGIN_S: Final = 5.0
"""More than its own grace that a process gets to end."""

_log = get_logger()


class Processes:
    """The processes of one parent.

    Args:
        command: Starts one.
        places: One for each.
        environment: Added to ours, for all of them.
        grace_s: How long each may take to drain.
    """

    def __init__(
        self, command: Sequence[str], places: Sequence[Place], environment: Mapping[str, str], grace_s: float
    ) -> None:
        self._command = tuple(command)
        self._places = tuple(places)
        self._environment = environment
        self._grace_s = grace_s
        self._settled = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep all of them running until `stopping`, then until they have drained.

        Raises:
            InvalidRequest: The settings are refused by a process, which has said why.
            NotReady: One failed before any had ever lived a while: starting it again would not help.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for place in self._places:
                    group.create_task(self._keep(place, stopping), name=f"process {place.face}{place.number}")
        except BaseExceptionGroup as failed:  # they all fail for the same reason
            raise failed.exceptions[0] from None

    async def _keep(self, place: Place, stopping: asyncio.Event) -> None:
        losses = 0
        while not stopping.is_set():
            began_s = time.monotonic()
            code = await self._run_once(place, stopping)
            if stopping.is_set():
                return
            lasted = time.monotonic() - began_s >= SETTLED_S
            self._settled |= lasted
            self._give_up(code)
            losses = 0 if lasted else losses + 1
            _log.error("process.lost", **_named(place), code=code)
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSES_S[min(losses, len(PAUSES_S) - 1)]):
                    await stopping.wait()

    def _give_up(self, code: int) -> None:
        if code == BAD_SETTINGS:
            raise settings_error("processes", "a process refuses the settings, and said why")
        if code == FAILED and not self._settled:
            raise NotReady("a process failed when it started, and said why", reason="process.failed")

    async def _run_once(self, place: Place, stopping: asyncio.Event) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            env={**os.environ, **self._environment, **place.environment()},
            pass_fds=() if place.descriptor is None else (place.descriptor,),
            start_new_session=True,  # Ctrl-C reaches the parent, which has them drain
        )
        _log.info("process.started", **_named(place), pid=process.pid)
        try:
            async with asyncio.TaskGroup() as group:
                ending = group.create_task(self._end(process, stopping))
                code = await process.wait()
                ending.cancel()
            return code
        finally:
            if process.returncode is None:  # we were cancelled
                _signal(process, signal.SIGKILL)
                await process.wait()

    async def _end(self, process: Process, stopping: asyncio.Event) -> None:
        await stopping.wait()
        _signal(process, signal.SIGTERM)
        await asyncio.sleep(self._grace_s + MARGIN_S)
        _log.error("process.killed", pid=process.pid)
        _signal(process, signal.SIGKILL)


def same_program() -> Sequence[str]:
    """The command that this process was started by."""
    return (sys.executable, *sys.orig_argv[1:])


async def until_parent_ends(lifecycle: Lifecycle) -> None:
    """Drain once the parent is gone."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while await reader.read(1 << 10):
            pass
        _log.warning("parent.lost")
        lifecycle.stop()
    finally:
        transport.close()


def _named(place: Place) -> Mapping[str, int | str]:
    return {"number": place.number, **({"face": place.face} if place.face else {})}


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
