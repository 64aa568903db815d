"""Keeps one program running: its own log file, again after a pause when it dies, SIGTERM and patience at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from cloister.cli.failures import Stop
from cloister.cli.programs import Program
from cloister.errors import NotReady
from cloister.rpc.files import read_public

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 15.0
SETTLED_S: Final = 30.0  # a program that ran for so long starts again at once
DRAIN_S: Final = 25.0  # more than any service's own grace
LOOK_S: Final = 3.0  # as often as services look whether their own files have changed
_READ_LINES: Final = 20  # a program that has just been started again has not failed yet: its reason is further up
REFUSED: Final = 3  # the exit code of a service whose evidence is not believed, or was revoked
BAD_SETTINGS: Final = 2  # the exit code of a service whose settings are wrong: starting again would not help


class Keeper:
    """One program, from its first start to its orderly end.

    Args:
        program: What to run.
        log: Its output is appended here.
        report: Told in one line what happened to it.
    """

    def __init__(self, program: Program, log: Path, report: Callable[[str], None]) -> None:
        self.program = program
        self.log = log
        self.restarts = 0
        self._report = report
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._renewing = False
        self._began_at = 0

    @property
    def pid(self) -> int | None:
        """Of the running process, if there is one."""
        return self._process.pid if self._process is not None else None

    async def run(self, changed: Callable[[], None]) -> None:
        """Start the program, and again when it dies, until `stop`.

        Args:
            changed: Called whenever `pid` has changed.

        Raises:
            Stop: It refuses its settings.
        """
        pause_s = FIRST_PAUSE_S
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                code = await self._run_once(changed)
                if self._stopping.is_set():
                    return
                if self._renewing:
                    self._renewing = False
                    continue
                if code == BAD_SETTINGS:
                    raise Stop(f"{self.program.name} does not accept its settings: {self.last_words(self._began_at)}")
                lasted_s = time.monotonic() - began
                pause_s = FIRST_PAUSE_S if lasted_s > SETTLED_S else min(pause_s * 2, LONGEST_PAUSE_S)
                why = _named(code)
                if code == REFUSED:  # until somebody changes a policy, every start ends so
                    pause_s, why = LONGEST_PAUSE_S, f"the mesh refuses it: {self.last_words()}"
                self._report(f"{self.program.name} ended ({why}); it starts again in {pause_s:.1f} s")
                self.restarts += 1
                await self._pause(pause_s)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Ask it to finish what is under way, wait, and end it if it does not."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._ended.wait()
        except TimeoutError:
            self._report(f"{self.program.name} did not end within {DRAIN_S:.0f} s and was killed")
            self._signal(signal.SIGKILL)
            await self._ended.wait()

    def last_words(self, since_byte: int = 0) -> str:
        """The last error in its log, without what surrounds it; where there is none, the last line.

        Args:
            since_byte: What is before in the log does not count: errors of an earlier life, which have passed.
        """
        try:
            lines = self.log.read_bytes()[since_byte:].decode(errors="replace").strip().splitlines()[-_READ_LINES:]
        except FileNotFoundError:
            lines = []
        errors = (found for line in reversed(lines) if (found := _error_in(line)))
        return next(errors, lines[-1] if lines else f"see {self.log}")[:500]

    async def _run_once(self, changed: Callable[[], None]) -> int:
        with self.log.open("ab") as log:
            await self._mend(log)
            self._began_at = log.seek(0, os.SEEK_END)
            # A session of its own: Ctrl-C in the terminal reaches the supervisor only, which drains in order.
            process = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                env=_environment(self.program),
                cwd=self.program.place,
                start_new_session=True,
            )
        self._process = process
        changed()
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        try:
            return await self._wait(process)
        finally:
            if process.returncode is None:  # we were cancelled
                process.kill()
                await process.wait()
            self._process = None
            changed()

    async def _mend(self, log: BinaryIO) -> None:
        """Have what a kill or a power cut left half written taken away, before the program reads it."""
        mend = self.program.mended_by
        if not mend or not await asyncio.to_thread(Path(mend[-1]).exists):
            return
        process = await asyncio.create_subprocess_exec(*mend, stdin=PIPE, stdout=log, stderr=STDOUT)
        try:
            await process.communicate(b"y\n")  # yes, what is broken may go
        finally:
            if process.returncode is None:  # we were cancelled
                process.kill()
                await process.wait()

    async def _wait(self, process: Process) -> int:
        """Until it ends; have it end when what it was started with is another now, and has been at two looks."""
        if not self.program.started_with:
            return await process.wait()
        began_with = before = await self._files()
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    return await process.wait()
            except TimeoutError:
                now = await self._files()
            if now == before != began_with and not self._stopping.is_set():
                self._report(f"{self.program.name} is started anew: its files have changed")
                self._renewing, began_with = True, now
                self._signal(signal.SIGTERM)
            before = now

    async def _files(self) -> list[bytes]:
        return await asyncio.to_thread(lambda: [_content(path) for path in self.program.started_with])

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


def _environment(program: Program) -> Mapping[str, str]:
    return program.environment if program.enclave else {**os.environ, **program.environment}


def _content(path: Path) -> bytes:
    try:
        return read_public(path)
    except NotReady:
        return b""


def _error_in(line: str) -> str:
    """What a line of a log says of an error; empty where it tells of none."""
    try:
        found = json.loads(line)
    except ValueError:
        return ""
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, str) else ""


def _named(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
