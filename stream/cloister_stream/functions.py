"""The job's functions as Flink calls them: on each TaskManager, in its Python process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from pyflink.datastream import OutputTag, ProcessFunction, RuntimeContext
from pyflink.datastream.functions import AsyncFunction

from cloister_stream import lines
from cloister_stream.asking import Asking
from cloister_stream.settings import Settings


class JobStopped(Exception):
    """Flink shall begin again at the last checkpoint; the message says what was wrong, and holds no record."""


class Ask(AsyncFunction):  # type: ignore[misc]
    """Asks for each line; what comes out is what became of it and the line that says so.

    Flink bounds what is under way, and waits for it before each checkpoint: a record is either written by that
    checkpoint, or read again after it.

    Nothing is raised here: Flink would put the record into its log.
    """

    def __init__(self, settings: Settings, header: str | None) -> None:
        self._settings = settings
        self._header = header

    def open(self, runtime_context: RuntimeContext) -> None:
        """Connect."""
        self._asking = Asking(self._settings, self._header)
        self._asking.__enter__()

    def close(self) -> None:
        """Give up what is under way."""
        self._asking.__exit__(None, None, None)

    async def async_invoke(self, value: str) -> list[tuple[str, str]]:
        """Ask for one line."""
        try:
            ended = await asyncio.wrap_future(self._asking.begin(value))
        except Exception as error:
            ended = lines.stop(error)
        return [] if ended is None else [(ended.kind, ended.line)]


class Part(ProcessFunction):  # type: ignore[misc]
    """Parts results from failures, which go to `failures`, and stops the job where it has to stop."""

    def __init__(self, failures: OutputTag) -> None:
        self._failures = failures

    def process_element(
        self, value: tuple[str, str], ctx: ProcessFunction.Context
    ) -> Iterator[str | tuple[OutputTag, str]]:
        """Pass one line on."""
        kind, line = value
        if kind == lines.STOP:
            raise JobStopped(line)
        yield (self._failures, line) if kind == lines.FAILURE else line
