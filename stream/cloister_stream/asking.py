"""Records, asked of a mesh through one stream by the SDK, on an event loop of its own.

What a record fails by is told apart. What may pass is asked again until the record's deadline. What concerns this
record alone ends it, with its reason. And what every record after it would fail by as well (nobody is believed, the
identity is not let in) is raised: it stops the job, which goes on from its checkpoint once that is mended.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self, TypeVar

from cloister.client import Answer, Client
from cloister.client.loop_thread import LoopThread
from cloister.contract import ModelContract
from cloister.errors import (
    CloisterError,
    EvidenceRejected,
    NotAllowed,
    NotFound,
    NotReady,
    Unauthenticated,
)
from cloister_stream import lines
from cloister_stream.lines import Ended
from cloister_stream.records import Format, Record, arrays_of, format_of
from cloister_stream.settings import Settings

START_S: Final = 60.0
PAUSE_S: Final = 2.0
"""Between calls of the SDK for one record; each has made new attempts of its own by then."""
STOPS: Final = (EvidenceRejected, NotAllowed, Unauthenticated)
"""Says nothing of the record."""

T = TypeVar("T")


class Asking:
    """A connection to the mesh; use it as a context manager. Any thread may call it.

    Args:
        settings: Of the job.
        header: The first line of CSV files; None where records are JSON lines.
    """

    def __init__(self, settings: Settings, header: str | None) -> None:
        self._settings = settings
        self._header = header

    def __enter__(self) -> Self:
        """Connect, and learn what the model takes.

        Raises:
            CloisterError, TimeoutError: As `Client.connect` and `Client.contract`; `InvalidRequest` also where records
                of this form cannot be for this model.
        """
        settings = self._settings
        with ExitStack() as stack:
            self._thread = stack.enter_context(LoopThread())
            connecting = Client.connect(settings.gateway, trust=settings.trust, identity=settings.identity)
            client = stack.enter_context(self._thread.entered(connecting))
            self._mesh = stack.enter_context(self._thread.entered(client.stream()))
            self._contract: ModelContract = self._thread.wait(
                client.contract(settings.model, settings.version, START_S)
            )
            self._format: Format = format_of(self._contract, settings.key, self._header)
            self._close = stack.pop_all().close
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def begin(self, line: str) -> Future[Ended | None]:
        """Ask for one line; the future has what became of its record, or None where the line holds none.

        It ends with an error only where that stops the job.
        """
        return self._thread.start(self._ended(line))

    async def _ended(self, line: str) -> Ended | None:
        record: Record | None = None
        try:
            record = self._format.read(line)
            if record is None:
                return None
            arrays = arrays_of(record, self._contract)
            settings = self._settings

            async def ask(left_s: float) -> Answer:
                return await self._mesh.infer(settings.model, arrays, version=settings.version, timeout_s=left_s)

            return lines.result(record.key, await until_deadline(ask, settings.deadline_s))
        except STOPS:
            raise
        except (CloisterError, TimeoutError) as error:
            return lines.failure(record.key if record is not None else None, error, line)


async def until_deadline(call: Callable[[float], Awaitable[T]], deadline_s: float, *, pause_s: float = PAUSE_S) -> T:
    """Call again while what comes may pass, for as long as there is time.

    Args:
        call: Gets the seconds that are left.
        deadline_s: For all calls together.
        pause_s: The longest pause between two.

    Raises:
        CloisterError, TimeoutError: The last error.
    """
    until_s = time.monotonic() + deadline_s
    while True:
        try:
            return await call(max(until_s - time.monotonic(), 0.001))
        except CloisterError as error:
            wait_s = pause_s * random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
            if not _may_pass(error) or time.monotonic() + wait_s >= until_s:
                raise
        await asyncio.sleep(wait_s)


def _may_pass(error: CloisterError) -> bool:
    """The model was there when the job began: where no worker serves it, one is being started."""
    gone = isinstance(error, NotFound) and error.reason == NotFound.default_reason
    return error.retryable or gone or isinstance(error, NotReady)
