"""Ends of spans on their way into the journal: as many with one commit as there are, then forgotten at the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cloister.cli.batch.jobs_face import Jobs, Order, Ticket
from cloister.cli.batch.journal import Journal, SpanEnd
from cloister.cli.batch.spans import Failure, Loaded, rows_failed
from cloister.client import Answer, save_receipt
from cloister.errors import CloisterError, InvalidRequest
from cloister.oip.tensors import encode_response

_MOST_WAITING: Final = 64
_FORGET_S: Final = 5.0  # a command that ends because nobody is there does not wait for long


@dataclass(frozen=True, slots=True)
class Ended:
    """A span that has ended.

    Attributes:
        loaded: Its rows.
        outcome: Of its job; None where no row was an input, and there was none.
        ticket: Of the job, if the gateway has it.
    """

    loaded: Loaded
    outcome: Answer | Failure | None = None
    ticket: Ticket | None = None


class Keeper:
    """Keeps what has ended.

    Args:
        journal: Where.
        jobs: Told to forget what is kept.
        order: How it was asked.
        told: Called with the number of rows of each span, once it is kept.
    """

    def __init__(self, journal: Journal, jobs: Jobs, order: Order, told: Callable[[int], None]) -> None:
        self._journal = journal
        self._jobs = jobs
        self._order = order
        self._told = told
        self._waiting: asyncio.Queue[Ended | None] = asyncio.Queue(_MOST_WAITING)

    async def put(self, ended: Ended | None) -> None:
        """Have an end kept; None after the last."""
        await self._waiting.put(ended)

    async def run(self) -> None:
        """Keep until the last."""
        over = False
        while not over:
            taken = [await self._waiting.get()]
            while not self._waiting.empty():
                taken.append(self._waiting.get_nowait())
            over = None in taken
            ended = [each for each in taken if each is not None]
            await asyncio.to_thread(self._keep, ended)
            for each in ended:
                self._told(each.loaded.rows)
            await self._forget([each.ticket for each in ended if each.ticket is not None])

    async def _forget(self, tickets: Sequence[Ticket]) -> None:
        if tickets:
            with suppress(CloisterError, TimeoutError):  # they go by themselves when their time has passed
                await self._jobs.forget(tickets, timeout_s=_FORGET_S)

    def _keep(self, ended: Sequence[Ended]) -> None:
        self._journal.end([self._end(each.loaded, each.outcome) for each in ended])

    def _end(self, loaded: Loaded, outcome: Answer | Failure | None) -> SpanEnd:
        asked = loaded.asked if loaded.inputs else []
        if isinstance(outcome, Answer):
            uneven = [name for name, array in outcome.outputs.items() if array.shape[:1] != (len(asked),)]
            if not uneven:
                return self._answered(loaded, outcome)
            outcome = InvalidRequest(
                f"the output '{uneven[0]}' has not a row for each of the {len(asked)} that were asked",
                reason="output.rows",
            )
        together = rows_failed(asked, outcome) if outcome is not None else []
        return SpanEnd(number=loaded.number, answered=0, failed=(*loaded.failed, *together))

    def _answered(self, loaded: Loaded, answer: Answer) -> SpanEnd:
        if self._order.receipts is not None and answer.receipt is not None:
            name = f"rows-{loaded.first:09d}-{loaded.first + loaded.rows - 1:09d}.receipt"
            save_receipt(answer.receipt, self._order.receipts / name)
        known = self._order.contract.output_datatypes
        datatypes = {name: known[name] for name in answer.outputs if name in known}
        response = encode_response(answer.model_name, answer.outputs, datatypes=datatypes)
        return SpanEnd(
            number=loaded.number,
            answered=len(loaded.asked),
            failed=loaded.failed,
            version=answer.model_version,
            response=response.SerializeToString(),
        )
