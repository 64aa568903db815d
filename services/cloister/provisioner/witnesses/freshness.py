"""Whether the state here is the newest that was countersigned (attacks F09, H07).

A copy of an hour ago is whole by itself: its head is signed, its rows fit. What it lacks is what happened since, a
policy that took somebody's rights away, say. So before anything is served the witnesses are asked for the newest head
that they have countersigned, and this log must have all of it in it. One that has not serves nothing but the call by
which an operator goes on without what was lost (`resuming`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cloister.errors import LogBroken, NotReady, Unavailable
from cloister.kit.log import get_logger
from cloister.kit.log_origin import LogOrigin, Resumption
from cloister.provisioner.ledger.log import Log
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.note import SignedNote
from cloister.tlog.proofs import verify_consistency

STALE: Final = "state.stale"
FORKED: Final = "state.forked"
_RETRY_S: Final = 1.0
_UNKNOWN: Final = NotReady(
    "the witnesses of the log have not been heard yet: is the verifier up?", reason="witness.behind"
)
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
    """What is known of one log. Used on the event loop; `check` from any thread.

    Args:
        log: Ours.
        heads: Asks the witnesses for their newest heads.
        overtaken: Set where this state lacks what another process has written to the very same file.
    """

    def __init__(self, log: Log, heads: Callable[[], Awaitable[Sequence[str]]], overtaken: asyncio.Event) -> None:
        self._log = log
        self._heads = heads
        self._overtaken = overtaken
        self._error: NotReady | None = _UNKNOWN
        self._again = asyncio.Event()

    def check(self) -> None:
        """Check that this state is known to be the newest.

        Raises:
            NotReady: It is not (`state.stale`, `state.forked`), or not yet known to be (`witness.behind`).
        """
        if self._error is not None:
            raise self._error

    @property
    def known_behind(self) -> bool:
        """Whether this state is known not to be the newest."""
        return self._error is not None and self._error is not _UNKNOWN

    async def confirmed(self) -> None:
        """Wait until it is: until witnesses answer, and, where this state is behind, until an operator goes on."""
        while self._error is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S if self._error is _UNKNOWN else None):
                    await self._again.wait()
            self._again.clear()
            await self.look()

    async def look(self) -> None:
        """Ask the witnesses once."""
        try:
            behind = await self.behind()
        except Unavailable as error:
            _log.warning("witness.unheard", error=error, consequence="nothing is served yet")
            return
        self._error = behind.error if behind is not None else None
        if behind is not None and await asyncio.to_thread(self._log.written_elsewhere):
            self._overtaken.set()
        elif behind is not None:
            newest = behind.newest
            _log.error(behind.reason, have=behind.have_size, should=newest.size, origin=newest.origin)

    async def behind(self) -> Behind | None:
        """What this state lacks, by what the witnesses say now; None for nothing.

        Raises:
            Unavailable: No majority of them answers.
        """
        heads = [Checkpoint.parse(SignedNote.parse(note).text) for note in await self._heads()]
        newest = max(map(_generation, heads), default=0)  # of one that has ended, nobody is asked any more
        goes = [head for head in heads if _generation(head) == newest]
        found = [each for head in goes if (each := await asyncio.to_thread(self._lacking, head)) is not None]
        return max(found, key=lambda each: each.newest.size, default=None)

    def look_again(self) -> None:
        """The log has gone on; whoever waits in `confirmed` asks again."""
        self._again.set()

    def _lacking(self, head: Checkpoint) -> Behind | None:
        ours, tree = self._log.generation(), self._log.tree()
        size = tree.size
        generation = _generation(head)
        if generation < ours:  # we have gone on, and no witness has gone along yet
            return None if self._owns_up(head) else Behind(head, size, STALE)
        if generation > ours or head.size > size:
            return Behind(head, size, STALE)
        try:
            verify_consistency(head.size, size, self._log.consistency(head.size, size), head.root, tree.root())
        except LogBroken:
            return Behind(head, size, FORKED)
        return None

    def _owns_up(self, head: Checkpoint) -> bool:
        """Whether the line by which we went on speaks of all of this head, as the witness will judge.

        Of a head two generations back no line of ours could: that witness has forgotten, and is the one to be mended.
        """
        if _generation(head) < self._log.generation() - 1:
            return True
        said = Resumption.parse(self._log.line(self._log.resumed()))
        same = said.should_size == head.size and said.should_root == head.root
        return said.old_origin == head.origin and (said.should_size > head.size or same)


def _generation(head: Checkpoint) -> int:
    return LogOrigin.parse(head.origin).generation
