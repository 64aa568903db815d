"""Jobs: requests that wait at the mesh until a worker has answered them, sealed to whoever may (guides/jobs.md).

    ticket = await mesh.jobs.submit("breast-cancer", {"measurements": records})
    answer = await mesh.jobs.result(ticket)

A job outlives this process: keep its ticket (`JobTicket.to_bytes`), and open the answer with it in another one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, Unpack

from cloister.client import job_looking
from cloister.client.answer import Answer
from cloister.client.job_answers import JobAnswers
from cloister.client.job_calls import Again, JobCalls
from cloister.client.job_preparing import JobOptions, Preparer
from cloister.client.job_records import JobStatus, PreparedJob, Sent
from cloister.client.job_sending import send
from cloister.client.job_watching import JobOutcome, Watching
from cloister.client.question import Inputs, named
from cloister.client.roster import Roster
from cloister.client.tasks import Tasks
from cloister.errors import AlreadyExists, NotReady
from cloister.rpc.channel import Peer
from cloister.seal.job import JobTicket

WAIT_S: Final = 30.0
_LOOK_S: Final = 20.0
"""How long a gateway is asked to wait for an end, in one call."""


class Jobs:
    """The jobs of a client, which has it as `Client.jobs`.

    Args:
        gateway: Connected as this client.
        roster: Says who serves a model, and who of them is believed.
        again: Makes a call again where that may help.
        tasks: Gives what runs beside calls.
        timeout_s: Deadline of calls that say none.
        padded: Whether to hide the lengths of requests and answers.
    """

    def __init__(
        self,
        gateway: Peer,
        roster: Roster,
        again: Again,
        tasks: Callable[[], Tasks],
        *,
        timeout_s: float,
        padded: bool,
    ) -> None:
        self._calls = JobCalls(gateway, again)
        self._again = again
        self._tasks = tasks
        self._timeout_s = timeout_s
        self._preparer = Preparer(roster, padded=padded)
        self._answers = JobAnswers(roster)

    async def submit(self, model: str, inputs: Inputs, *, key: str = "", **options: Unpack[JobOptions]) -> JobTicket:
        """Have one request answered once there is a worker for it.

        Args:
            model: Name.
            inputs: As for `Client.infer`.
            key: Your own name for it: what is submitted again under it is the same job. Empty for none.
            **options: See `JobOptions`.

        Returns:
            The ticket. The job is accepted: it will have an answer or a dead letter.

        Raises:
            AlreadyExists: There is a job under this key (`job.exists`); the ticket of that one opens its answer.
            EvidenceRejected, NotReady, CloisterError, TimeoutError: As `prepare` and `send`, or why it is not accepted.
        """
        (prepared,) = await self.prepare(model, [inputs], keys=[key] if key else (), **options)
        (sent,) = await self.send([prepared], timeout_s=options.get("timeout_s"))
        if sent.error is not None:
            raise sent.error
        if sent.job_id != prepared.ticket.job_id:
            raise AlreadyExists(
                f"there is a job under the key '{key}', {sent.job_id.hex()}; the ticket of that one opens its answer",
                reason="job.exists",
            )
        return prepared.ticket

    async def prepare(
        self, model: str, many: Iterable[Inputs], *, keys: Sequence[str] = (), **options: Unpack[JobOptions]
    ) -> list[PreparedJob]:
        """Seal jobs, and send none of them: keep what comes where a crash does not reach it, and `send` it.

        Args:
            model: Name.
            many: Inputs of each.
            keys: Of each, as in `submit`; none at all, or as many as inputs.
            **options: Of each; see `JobOptions`.

        Raises:
            EvidenceRejected: No worker that is offered is believed, or no key that jobs could be sealed to; `reason`
                says why. `epoch.policy_wider`: the model's owner lets in somebody whom this client would not believe,
                and the message names whom.
            NotReady: No worker of the model takes jobs (`epoch.missing`).
            InvalidRequest: Inputs that are none, a job that would outlive the key that it is sealed to
                (`request.too_long`), or one of `keys` that is there twice (`job.key_repeated`).
            NotFound, Unauthenticated, Unavailable, TimeoutError: As `Client.infer`.
        """
        version = options.get("version", "")
        call = partial(self._preparer.aim, model, version, options.get("digest"))
        aim = await self._again(call, named(model, version), self._left_s(options.get("timeout_s")))
        return await self._preparer.prepare(aim, many, keys, options)

    async def send(self, prepared: Sequence[PreparedJob], *, timeout_s: float | None = None) -> list[Sent]:
        """Submit jobs, in calls of bounded size; what became of each, in their order.

        It may be called again with the same jobs at any time, by another process too: they stay the same jobs.

        Args:
            prepared: By `prepare`.
            timeout_s: Seconds for all of it; what is refused for want of room is submitted again until then.

        Raises:
            NotReady: The gateway takes no jobs (`jobs.off`).
            NotFound, Unauthenticated, Unavailable, TimeoutError: As `Client.infer`.
        """
        return await send(self._calls, prepared, self._left_s(timeout_s))

    async def result(self, ticket: JobTicket, *, wait_s: float = WAIT_S) -> Answer:
        """The answer to a job, once there is one.

        Args:
            ticket: Of the job.
            wait_s: Seconds to wait for it.

        Returns:
            The outputs, what the verifier found of the enclave that answered, and a receipt that has been checked.

        Raises:
            NotReady: It has not ended (`job.pending`), or was cancelled (`job.cancelled`).
            NotFound: There is no such job (`job.unknown`): submit it again. Or its answer is not kept any more.
            SealBroken, EvidenceRejected: What came is no answer to this job by an enclave that this client believes.
            CloisterError, TimeoutError: What it ended with: the worker's word about the request, or why it is a dead
                letter, as the gateway says. Or the gateway could not be asked.
        """
        until_s = time.monotonic() + wait_s
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            job = await job_looking.look(self._calls, ticket, min(left_s, _LOOK_S))
            outcome = await self._answers.ended(ticket, job)
            if isinstance(outcome, Answer):
                return outcome
            if outcome is not None:
                raise outcome
            if time.monotonic() >= until_s:
                why = f": {job.failure.message}" if job.HasField("failure") else ""
                raise NotReady(f"the job has not ended yet{why}", reason="job.pending")

    async def watch(
        self, tickets: Iterable[JobTicket], *, timeout_s: float | None = None
    ) -> AsyncGenerator[tuple[JobTicket, JobOutcome], None]:
        """Yield each job with what it ends with, as that becomes known; the loop ends with the last of them.

            async for ticket, outcome in mesh.jobs.watch(tickets):
                print(outcome.outputs if isinstance(outcome, Answer) else outcome)

        A connection that is lost is made again, and no end is told twice.

        Args:
            tickets: Of jobs of any models.
            timeout_s: The longest to wait for the next end, in seconds; None for as long as there may be one.

        Yields:
            The ticket, and the answer or the error that `result` would raise.

        Raises:
            Unavailable, TimeoutError: No end came in time, since the gateway could not be reached, or none came.
            NotReady: The gateway takes no jobs (`jobs.off`).
        """
        watching = Watching(self._calls, self._answers, self._tasks())
        async with aclosing(watching.watch(list(tickets), timeout_s)) as ends:
            async for end in ends:
                yield end

    async def state(self, tickets: Sequence[JobTicket], *, timeout_s: float | None = None) -> list[JobStatus]:
        """Where jobs are now, in their order, as the gateway says."""
        return await job_looking.states(self._calls, tickets, self._left_s(timeout_s))

    async def cancel(self, tickets: Sequence[JobTicket], *, timeout_s: float | None = None) -> list[JobStatus]:
        """Have jobs not answered that are not answered yet; where they are then, in their order."""
        return await job_looking.cancel(self._calls, tickets, self._left_s(timeout_s))

    async def forget(self, tickets: Sequence[JobTicket], *, timeout_s: float | None = None) -> None:
        """Have the gateway drop what became of jobs that have ended, before the time that it would keep it for."""
        await job_looking.forget(self._calls, tickets, self._left_s(timeout_s))

    def _left_s(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s
