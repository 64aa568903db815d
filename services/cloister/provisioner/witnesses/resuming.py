"""Going on without what was lost: what an operator does on purpose when no newer state can be put back.

A new generation of the log begins. Its first line owns up to what the witnesses had countersigned and this state has
not, says who goes on and why, and they accept it for that. Each model is *held* from then on: its key is released to
nobody until its owner signs a policy for this very generation. So nobody but the owner brings a policy back, neither
the one in this state nor one of those that were lost, whoever has a copy of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from cloister.errors import InvalidRequest, NotReady
from cloister.kit.log import get_logger
from cloister.kit.log_origin import RESUMED, LogOrigin, Resumption
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.tables import HELD, MODEL, Key
from cloister.provisioner.witnesses.freshness import Behind, Freshness

MAX_REASON_CHARACTERS = 500
_log = get_logger()


class Asked(NamedTuple):
    """What an operator asks for, who has seen how far this state goes and how far it should.

    Attributes:
        have_size: Lines that this log has.
        should_size: Lines that were countersigned.
        reason: Why, in a sentence; it is put on record.
        operator: SPIFFE id of who asks.
    """

    have_size: int
    should_size: int
    reason: str
    operator: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the number of the line, and the generation that it began."""

    sequence: int
    generation: int


class Resuming:
    """Begins new generations of one log.

    Args:
        ledger: Of that log.
        freshness: Knows what it lacks.
        witnessed: Waits until a line is countersigned.
    """

    def __init__(self, ledger: Ledger, freshness: Freshness, witnessed: Callable[[int], Awaitable[None]]) -> None:
        self._ledger = ledger
        self._freshness = freshness
        self._witnessed = witnessed

    async def resume(self, asked: Asked) -> Outcome:
        """Go on, once; asked the same again, it tells what came of it the first time.

        Raises:
            InvalidRequest: No reason is given, or one that is far too long.
            NotReady: This state lacks nothing (`state.fresh`), or other than was asked (`state.other`).
            Unavailable: The witnesses do not answer, or it cannot be written.
        """
        if not 0 < len(asked.reason.strip()) <= MAX_REASON_CHARACTERS:
            raise InvalidRequest(
                f"say why, in 1 to {MAX_REASON_CHARACTERS} characters: it is put on record", reason="reason.missing"
            )
        behind = await self._freshness.behind()
        outcome = await self._went_on(asked) if behind is None else await self._go_on(behind, asked)
        await self._witnessed(outcome.sequence)
        return outcome

    async def _go_on(self, behind: Behind, asked: Asked) -> Outcome:
        if (behind.have_size, behind.newest.size) != (asked.have_size, asked.should_size):
            raise NotReady(
                f"this state has {behind.have_size} lines and should have {behind.newest.size}; if no newer one can be"
                f" put back: cloister provisioner resume --have {behind.have_size} --should {behind.newest.size}",
                reason="state.other",
            )
        generation = LogOrigin.parse(behind.newest.origin).generation + 1
        sequence = await self._ledger.changed(lambda change: _resume(change, behind, asked, generation), anyway=True)
        _log.error(RESUMED, generation=generation, have=asked.have_size, should=asked.should_size, by=asked.operator)
        self._freshness.look_again()
        return Outcome(sequence, generation)

    async def _went_on(self, asked: Asked) -> Outcome:
        log = self._ledger.log
        if sequence := log.resumed():
            said = Resumption.parse(log.line(sequence))
            if (said.have_size, said.should_size) == (asked.have_size, asked.should_size):
                return Outcome(sequence, log.generation())
        raise NotReady("this state has all that was countersigned: there is nothing to resume", reason="state.fresh")


def _resume(change: Change, behind: Behind, asked: Asked, generation: int) -> int:
    """The line of a new generation, and one for each model that is held."""
    if change.next_sequence != asked.have_size + 1:
        raise NotReady("the log has gone on meanwhile", reason="state.other")
    change.marks = change.marks._replace(generation=generation, resumed=change.next_sequence)
    sequence = change.line(
        RESUMED,
        generation=generation,
        old_origin=behind.newest.origin,
        should_size=behind.newest.size,
        should_root=behind.newest.root.hex(),
        have_size=behind.have_size,
        because=behind.reason,
        by=asked.operator,
        reason=asked.reason.strip(),
    )
    for name in change.names(MODEL):
        change.put(HELD, Key(name), generation)
        change.line("model.held", model=name, generation=generation)
    return sequence
