"""The jobs of a batch: submitted, waited for, and kept; each span is asked once, whoever dies meanwhile.

A span's ticket is in the journal before anything is sent, and what is sent bears the span's key, by which the gateway
knows it again. After a crash the journal says what may have been submitted: those jobs are waited for, and only what
the gateway does not have is submitted, under the same key.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeGuard

from cloister.cli.batch.jobs_face import GONE, UNKNOWN, Jobs, Order, Prepared, Sent, Ticket
from cloister.cli.batch.journal import Journal
from cloister.cli.batch.keeping import Ended, Keeper
from cloister.cli.batch.spans import Failure, Loaded, Span
from cloister.client import Answer, JobOptions
from cloister.client.tasks import task_group
from cloister.errors import CloisterError, NotFound, NotReady, Unavailable

GROUP: Final = 16
"""Spans that are submitted with one call and waited for with another."""
MOST_LOST: Final = 20
"""How often a gateway may lose a job."""
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0
# What a gateway says of a job after it has looked whether it has it: its ticket will open nothing.
_NO_ROOM: Final = frozenset({"jobs.full", "tenant.jobs_full", "tenant.results_full"})
_GRACE_S: Final = 120.0  # for the gateway to say that a job's time has passed


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
        self._lost: Counter[int] = Counter()

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
        """Seal, keep the tickets, and only then send; who is refused for good has ended."""
        keys = await asyncio.to_thread(lambda: [self._journal.key(loaded.number) for loaded in fresh])
        inputs = [loaded.inputs for loaded in fresh]
        timeout_s = self._order.timeout_s
        options: JobOptions = {**self._order.options, "timeout_s": timeout_s}
        prepared = await self._jobs.prepare(self._order.model, inputs, keys=keys, **options)
        await asyncio.to_thread(self._journal.promise, self._promises(fresh, prepared))
        sent = await self._jobs.send(prepared, timeout_s=timeout_s)
        refusal: CloisterError | None = None
        refused: list[bytes] = []
        for loaded, made, result in zip(fresh, prepared, sent, strict=True):
            if result.error is None:
                self._tickets[loaded.number] = [await self._ticket(loaded, made, result)]
                self._moved()
            elif _may_pass(result.error):
                refusal = result.error
                if refusal.reason in _NO_ROOM:
                    refused.append(made.ticket.job_id)
            else:
                await self._end(loaded.number, Ended(loaded, result.error))
        if refused:
            await asyncio.to_thread(self._journal.withdraw, refused)
        if refusal is not None:
            await self._pause(refusal)

    def _promises(self, fresh: Sequence[Loaded], prepared: Sequence[Prepared]) -> list[tuple[int, bytes, bytes]]:
        proved = self._order.receipts is not None
        return [
            (loaded.number, made.ticket.job_id, made.ticket.to_bytes(with_request=proved))
            for loaded, made in zip(fresh, prepared, strict=True)
        ]

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
        try:
            async for ticket, outcome in self._jobs.watch(watched, timeout_s=self._order.timeout_s):
                number = numbers[ticket.job_id]
                if number in self._open:  # else it has ended by another ticket
                    self._moved()
                    await self._heard(number, ticket, outcome)
        except TimeoutError:  # they wait still, and will until their time has passed
            if time.monotonic() - self._moved_s > self._order.life_s + _GRACE_S:
                raise

    async def _heard(self, number: int, ticket: Ticket, outcome: Answer | Failure) -> None:
        reason = outcome.reason if isinstance(outcome, NotFound) else ""
        if reason != UNKNOWN and reason not in GONE:
            await self._end(number, Ended(self._open[number], outcome, ticket))
            return
        if reason in GONE:
            await asyncio.to_thread(self._journal.turn, [number])
            self._tickets[number] = []
        self._tickets[number] = [each for each in self._tickets[number] if each.job_id != ticket.job_id]
        self._lost[number] += 1
        if self._lost[number] > MOST_LOST:
            raise Unavailable(
                f"the gateway has lost the job of the rows from {self._open[number].first} on {MOST_LOST} times; is "
                "its Redis durable?",
                reason="jobs.lost",
            )

    async def _end(self, number: int, ended: Ended) -> None:
        del self._open[number]
        self._tickets.pop(number, None)
        self._lost.pop(number, None)
        await self._keeper.put(ended)

    def _moved(self) -> None:
        self._moved_s, self._pause_s = time.monotonic(), _FIRST_PAUSE_S

    async def _pause(self, refusal: CloisterError) -> None:
        """Before what was refused is sealed and sent again; raises it once nothing has moved for too long."""
        if time.monotonic() + self._pause_s - self._moved_s > self._order.timeout_s:
            raise refusal
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s + random.uniform(0, pause_s / 4))  # noqa: S311  # not a secret


def _may_pass(error: Failure) -> TypeGuard[CloisterError]:
    return isinstance(error, CloisterError) and (error.retryable or isinstance(error, NotReady))
