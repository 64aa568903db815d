"""The jobs of a batch: submitted, waited for, and kept; each span is asked once, whoever dies meanwhile.

A span's ticket is in the journal before anything is sent, and what is sent bears the span's key, by which the gateway
knows it again. After a crash the journal says what may have been submitted: those jobs are waited for, and only what
the gateway does not have is submitted, under the same key.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeGuard

from cloister.cli.batch.jobs_face import GONE, UNKNOWN, Jobs, Order, Prepared, Sent, Ticket
from cloister.cli.batch.journal import Journal
from cloister.cli.batch.keeping import Ended, Keeper
from cloister.cli.batch.spans import Failure, Loaded, Span
from cloister.client.tasks import task_group
from cloister.errors import CloisterError, InvalidRequest, NotFound, NotReady, Overloaded

GROUP: Final = 16
"""Spans that are submitted with one call and waited for with another."""
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0


async def ask(
    spans: Iterator[Span],
    jobs: Jobs,
    journal: Journal,
    order: Order,
    told: Callable[[int], None] = lambda _rows: None,
) -> None:
    """Ask for all spans that have not ended.

    Args:
        spans: Of the file, in order; read in a thread, and no further ahead than `order.in_flight`.
        jobs: Of a connected client.
        journal: Of the batch.
        order: How it is asked.
        told: Called with the number of rows of each span that has ended and is kept.

    Raises:
        CloisterError, TimeoutError: What concerns all of them, or nothing happened for `order.timeout_s`. What was
            learnt until then is kept.
    """
    ended = await asyncio.to_thread(journal.ended)
    groups = _Groups((span for span in spans if span.number not in ended), min(GROUP, order.in_flight))
    keeper = Keeper(journal, jobs, order, told)
    async with task_group() as keeping:
        kept = keeping.create_task(keeper.run())
        try:
            async with task_group() as asking:
                for _ in range(max(1, order.in_flight // GROUP)):
                    asking.create_task(_ask_groups(groups, _Asker(jobs, journal, order, keeper)))
        finally:
            if not kept.done():
                await keeper.put(None)
                await asyncio.wait({kept})


async def _ask_groups(groups: _Groups, asker: _Asker) -> None:
    while group := await groups.next():
        await asker.settle(group)


class _Groups:
    """Spans a group at a time, for several tasks."""

    def __init__(self, spans: Iterator[Span], most: int) -> None:
        self._spans = spans
        self._most = most
        self._lock = asyncio.Lock()

    async def next(self) -> list[Loaded]:
        """The next, read off the loop; empty at the end."""
        async with self._lock:
            return await asyncio.to_thread(self._load)

    def _load(self) -> list[Loaded]:
        group: list[Loaded] = []
        for span in self._spans:
            group.append(span.load())
            if len(group) == self._most:
                break
        return group


class _Asker:
    """Sees one group after the other through to its end."""

    def __init__(self, jobs: Jobs, journal: Journal, order: Order, keeper: Keeper) -> None:
        self._jobs = jobs
        self._journal = journal
        self._order = order
        self._keeper = keeper
        self._open: dict[int, Loaded] = {}
        self._tickets: dict[int, list[Ticket]] = {}  # of what may be at the gateway, by number of the span
        self._moved_s = time.monotonic()
        self._pause_s = _FIRST_PAUSE_S

    async def settle(self, group: Sequence[Loaded]) -> None:
        """Ask what has not been asked, and wait until all of it has ended."""
        self._moved_s = time.monotonic()
        for loaded in group:
            self._open[loaded.number] = loaded
            if not loaded.inputs:
                await self._end(loaded.number, Ended(loaded))
                continue
            kept = await asyncio.to_thread(self._journal.tickets, loaded.number)
            self._tickets[loaded.number] = [self._order.ticket_of(ticket) for _, ticket in kept]
        while self._open:
            fresh = [loaded for number, loaded in self._open.items() if not self._tickets[number]]
            if fresh:
                await self._submit(fresh)
            if any(self._tickets.values()):
                await self._watch()

    async def _submit(self, fresh: Sequence[Loaded]) -> None:
        unsent = await self._prepare(fresh)
        while unsent:
            sent = await self._jobs.send([made for _, made in unsent], timeout_s=self._order.timeout_s)
            refusals: list[CloisterError] = []
            later: list[tuple[Loaded, Prepared]] = []
            for (loaded, made), result in zip(unsent, sent, strict=True):
                if result.error is None:
                    self._tickets[loaded.number] = [await self._ticket(loaded, made, result)]
                    self._moved()
                elif _may_pass(result.error):
                    refusals.append(result.error)
                    if isinstance(result.error, Overloaded):
                        later.append((loaded, made))  # the same bytes again; what else may pass is sealed afresh
                else:
                    await self._end(loaded.number, Ended(loaded, result.error))
            if refusals:
                await self._pause(refusals)
            unsent = later

    async def _prepare(self, fresh: Sequence[Loaded]) -> list[tuple[Loaded, Prepared]]:
        """Seal, and keep the tickets before anything is sent; who cannot be sealed has ended."""
        sealed: list[tuple[Loaded, Prepared]] = []
        try:
            sealed += zip(fresh, await self._sealed(fresh), strict=True)
        except InvalidRequest:  # of one of them; the others are not held up by it
            for loaded in fresh:
                try:
                    sealed += zip([loaded], await self._sealed([loaded]), strict=True)
                except InvalidRequest as error:
                    await self._end(loaded.number, Ended(loaded, error))
        proved = self._order.receipts is not None
        tickets = [
            (loaded.number, made.ticket.job_id, made.ticket.to_bytes(with_request=proved)) for loaded, made in sealed
        ]
        await asyncio.to_thread(self._journal.promise, tickets)
        return sealed

    async def _sealed(self, fresh: Sequence[Loaded]) -> Sequence[Prepared]:
        keys = await asyncio.to_thread(lambda: [self._journal.key(loaded.number) for loaded in fresh])
        inputs = [loaded.inputs for loaded in fresh]
        return await self._jobs.prepare(self._order.model, inputs, keys=keys, **self._order.options)

    async def _ticket(self, loaded: Loaded, made: Prepared, sent: Sent) -> Ticket:
        """Of the job that the gateway keeps: one from before, where that had arrived after all."""
        if sent.job_id == made.ticket.job_id:
            return made.ticket
        for _, raw in await asyncio.to_thread(self._journal.tickets, loaded.number):
            ticket = self._order.ticket_of(raw)
            if ticket.job_id == sent.job_id:
                return ticket
        raise NotFound(
            f"the gateway has a job of the rows from {loaded.first} on that the journal has no ticket for; start over "
            "with --fresh",
            reason="ticket.missing",
        )

    async def _watch(self) -> None:
        """Wait until each job has ended, or is found to be unknown: then its span has no ticket any more."""
        numbers = {ticket.job_id: number for number, tickets in self._tickets.items() for ticket in tickets}
        watched = [ticket for tickets in self._tickets.values() for ticket in tickets]
        async for ticket, outcome in self._jobs.watch(watched, timeout_s=self._order.timeout_s):
            number = numbers[ticket.job_id]
            if number not in self._open:
                continue  # it has ended by another ticket
            self._moved()
            reason = outcome.reason if isinstance(outcome, NotFound) else ""
            if reason == UNKNOWN:
                self._tickets[number] = [each for each in self._tickets[number] if each.job_id != ticket.job_id]
            elif reason in GONE:
                await asyncio.to_thread(self._journal.turn, [number])
                self._tickets[number] = []
            else:
                await self._end(number, Ended(self._open[number], outcome, ticket))

    async def _end(self, number: int, ended: Ended) -> None:
        del self._open[number]
        self._tickets.pop(number, None)
        await self._keeper.put(ended)

    def _moved(self) -> None:
        self._moved_s, self._pause_s = time.monotonic(), _FIRST_PAUSE_S

    async def _pause(self, refusals: Sequence[CloisterError]) -> None:
        """Wait as long as the longest says; raises it once nothing has moved for too long."""
        told_s = max(error.retry_after_s if isinstance(error, Overloaded) else 0.0 for error in refusals)
        pause_s = max(told_s, self._pause_s)
        if time.monotonic() + pause_s - self._moved_s > self._order.timeout_s:
            raise refusals[0]
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s + random.uniform(0, pause_s / 4))  # noqa: S311  # not a secret


def _may_pass(error: Failure) -> TypeGuard[CloisterError]:
    return isinstance(error, CloisterError) and (error.retryable or isinstance(error, NotReady))
