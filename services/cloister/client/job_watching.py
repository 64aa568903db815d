"""Watching jobs: each end as it comes, over a stream that is opened again when it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

from cloister.api.v1 import jobs_pb2 as pb
from cloister.client.answer import Answer
from cloister.client.attempts import FIRST_PAUSE_S, LONGEST_PAUSE_S, pause_after_s
from cloister.client.job_answers import JobAnswers
from cloister.client.job_calls import JobCalls
from cloister.client.tasks import Tasks
from cloister.errors import CloisterError
from cloister.seal.job import JobTicket

MAX_WATCHED: Final = 4096
"""On one stream."""
STREAM_S: Final = 300.0
"""Nor does a stream last longer: what hangs is found out."""
GRACE_S: Final = 60.0
"""After the last deadline, for the gateway to say what the jobs ended with."""
_READY: Final = 64
"""Ends that wait for whoever takes them, at most."""

JobOutcome: TypeAlias = Answer | CloisterError | TimeoutError
Found: TypeAlias = tuple[JobTicket, JobOutcome]


class Watching:
    """Watches jobs for one client.

    Args:
        calls: The gateway.
        answers: Opens what comes.
        tasks: Run the streams.
    """

    def __init__(self, calls: JobCalls, answers: JobAnswers, tasks: Tasks) -> None:
        self._calls = calls
        self._answers = answers
        self._tasks = tasks

    async def watch(self, tickets: Sequence[JobTicket], timeout_s: float | None) -> AsyncGenerator[Found, None]:
        """Yield what each job ends with, once.

        Args:
            tickets: Of the jobs; of any models.
            timeout_s: The longest to wait for the next end; None for as long as any of them may be answered.

        Raises:
            Unavailable: The gateway could not be reached until the time was up.
            TimeoutError: It could, and nothing ended.
            CloisterError: What concerns all jobs, as that this gateway takes none.
        """
        ended: asyncio.Queue[Found | Exception] = asyncio.Queue(_READY)
        groups = list(_groups(tickets))
        longest_s = timeout_s if timeout_s is not None else _life_s(tickets)
        lost = _Lost()
        running = [self._tasks.spawn(self._feed(model, group, ended, lost)) for model, group in groups]
        try:
            for _ in range(sum(len(group) for _, group in groups)):
                found = ended.get_nowait() if not ended.empty() else await _next(ended, longest_s, lost)
                if isinstance(found, Exception):
                    raise found
                yield found
        finally:
            for task in running:
                task.cancel()

    async def _feed(
        self, model: str, waiting: dict[bytes, JobTicket], ended: asyncio.Queue[Found | Exception], lost: _Lost
    ) -> None:
        """Put the end of each job, whatever becomes of the streams that it is heard on."""
        try:
            ceiling_s = FIRST_PAUSE_S
            while waiting:
                before = len(waiting)
                try:
                    async for found in self._ends(model, waiting):
                        lost.error = None
                        await ended.put(found)
                    error: CloisterError | None = None
                except TimeoutError:
                    error = None
                except CloisterError as cut:
                    if not cut.retryable:
                        raise
                    error = lost.error = cut
                ceiling_s = FIRST_PAUSE_S if len(waiting) < before else min(ceiling_s * 2, LONGEST_PAUSE_S)
                if waiting:
                    await asyncio.sleep(pause_after_s(error, ceiling_s))
        except Exception as error:
            await ended.put(error)

    async def _ends(self, model: str, waiting: dict[bytes, JobTicket]) -> AsyncIterator[Found]:
        """The ends that one stream tells; each is taken out of `waiting`."""
        request = pb.WatchRequest(model_name=model, job_ids=list(waiting), ends_only=True)
        call = self._calls.stub.Watch(request, timeout=STREAM_S)
        try:
            async for message in call:
                for job in message.jobs:
                    ticket = waiting.get(job.job_id)
                    outcome = await self._answers.ended(ticket, job) if ticket is not None else None
                    if ticket is not None and outcome is not None:
                        del waiting[job.job_id]
                        yield ticket, outcome
        finally:
            call.cancel()


class _Lost:
    """What the last stream ended with, while nothing has come since."""

    error: CloisterError | None = None


async def _next(ended: asyncio.Queue[Found | Exception], within_s: float, lost: _Lost) -> Found | Exception:
    """What ends next; raises Unavailable or TimeoutError where nothing does in time."""
    try:
        async with asyncio.timeout(within_s):
            return await ended.get()
    except TimeoutError:
        raise lost.error or TimeoutError(f"no job ended within {within_s:.0f} s") from None


def _groups(tickets: Sequence[JobTicket]) -> Iterator[tuple[str, dict[bytes, JobTicket]]]:
    """Jobs of one model each, at most so many as one stream tells of."""
    by_model: dict[str, dict[bytes, JobTicket]] = {}
    for ticket in tickets:
        by_model.setdefault(ticket.model_name, {})[ticket.job_id] = ticket
    for model, held in by_model.items():
        items = list(held.items())
        for first in range(0, len(items), MAX_WATCHED):
            yield model, dict(items[first : first + MAX_WATCHED])


def _life_s(tickets: Sequence[JobTicket]) -> float:
    latest = max((ticket.not_after for ticket in tickets), default=datetime.now(UTC))
    return max(0.0, (latest - datetime.now(UTC)).total_seconds()) + GRACE_S
