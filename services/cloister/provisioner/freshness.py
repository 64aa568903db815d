"""Whether the state here is the newest that was countersigned (attacks F09, H07).

A copy of an hour ago is whole by itself: its head is signed, its rows fit. What it lacks is what happened since, a
policy that took somebody's rights away, say. So before anything is served the witnesses are asked for the newest head
that they have countersigned, and this log must have all of it in it. One that has not serves nothing but the call by
which an operator goes on without what was lost (`resuming`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cloister.errors import NotReady, Unavailable
from cloister.kit.log import get_logger
from cloister.kit.log_origin import LogOrigin
from cloister.provisioner.log import Log
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.note import SignedNote

STALE: Final = "state.stale"
FORKED: Final = "state.forked"
_RETRY_S: Final = 1.0
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Behind:
    """What this state lacks.

    Attributes:
        newest: The newest head that was countersigned, which is not in this log.
        have_size: How many lines this log has.
        reason: `state.stale` for a log that is shorter, or of an older generation, else `state.forked`.
    """

    newest: Checkpoint
    have_size: int
    reason: str

    @property
    def error(self) -> NotReady:
        """What callers hear."""
        should = f"line {self.newest.size} of {self.newest.origin}"
        what = (
            f"this state ends with line {self.have_size}, and its witnesses have countersigned up to {should}"
            if self.reason == STALE
            else f"this state has {self.have_size} lines, among them others than its witnesses countersigned, {should}"
        )
        return NotReady(
            f"{what}: put the newer state back, or go on without what is lost: cloister provisioner resume",
            reason=self.reason,
        )


class Freshness:
    """What is known of one log; `confirmed` asks. Used on the event loop, `check` from any thread.

    Args:
        log: Ours.
        heads: Asks the witnesses for their newest heads.
    """

    def __init__(self, log: Log, heads: Callable[[], Awaitable[Sequence[str]]]) -> None:
        self._log = log
        self._heads = heads
        self._error: NotReady | None = NotReady("the witnesses have not been heard yet", reason="witness.behind")
        self._again = asyncio.Event()

    def check(self) -> None:
        """Check that this state is known to be the newest.

        Raises:
            NotReady: It is not (`state.stale`, `state.forked`), or not yet known to be (`witness.behind`).
        """
        if self._error is not None:
            raise self._error

    async def confirmed(self) -> None:
        """Wait until it is: until witnesses answer, and, where this state is behind, until an operator goes on."""
        said = ""
        while (behind := await self._heard()) is not None:
            self._error = behind.error
            if behind.reason != said:
                said = behind.reason
                _log.error(said, have=behind.have_size, should=behind.newest.size, origin=behind.newest.origin)
            await self._again.wait()
            self._again.clear()
        self._error = None

    async def behind(self) -> Behind | None:
        """What this state lacks, by what the witnesses say now; None for nothing.

        Raises:
            Unavailable: No majority of them answers.
        """
        heads = [Checkpoint.parse(SignedNote.parse(note).text) for note in await self._heads()]
        found = [each for head in heads if (each := await asyncio.to_thread(self._lacking, head)) is not None]
        return max(found, key=lambda each: (_generation(each.newest), each.newest.size), default=None)

    def look_again(self) -> None:
        """The log has gone on; whoever waits in `confirmed` asks again."""
        self._again.set()

    async def _heard(self) -> Behind | None:
        while True:
            try:
                return await self.behind()
            except Unavailable as error:
                _log.warning("witness.unheard", error=error, consequence="nothing is served yet")
            await asyncio.sleep(_RETRY_S)

    def _lacking(self, head: Checkpoint) -> Behind | None:
        ours, size = self._log.generation(), self._log.size()
        generation = _generation(head)
        if generation < ours:  # we have gone on; the witness judges by our line whether it goes along
            return None
        if generation > ours or head.size > size:
            return Behind(head, size, STALE)
        return None if self._log.root(head.size) == head.root else Behind(head, size, FORKED)


def _generation(head: Checkpoint) -> int:
    return LogOrigin.parse(head.origin).generation
