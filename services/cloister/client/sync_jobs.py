"""Jobs without `async`: the same calls as `Client.jobs`, each of which blocks the thread that makes it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from typing import Any, Protocol, TypeVar, Unpack

from cloister.client.answer import Answer
from cloister.client.job_preparing import JobOptions
from cloister.client.job_records import JobStatus, PreparedJob, Sent
from cloister.client.job_watching import JobOutcome
from cloister.client.jobs import WAIT_S, Jobs
from cloister.client.question import Inputs
from cloister.seal.job import JobTicket

T = TypeVar("T")


class _Wait(Protocol):
    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


class SyncJobs:
    """The jobs of a client, which has them as `SyncClient.jobs`; what each call does, `Jobs` says.

    Args:
        jobs: Gives those of the client that runs elsewhere, while it is connected.
        wait: Runs work there, and waits for it.
    """

    def __init__(self, jobs: Callable[[], Jobs], wait: _Wait) -> None:
        self._jobs = jobs
        self._wait = wait

    def submit(self, model: str, inputs: Inputs, *, key: str = "", **options: Unpack[JobOptions]) -> JobTicket:
        """Have one request answered once there is a worker for it; as `Jobs.submit`."""
        return self._wait(self._jobs().submit(model, inputs, key=key, **options))

    def prepare(
        self, model: str, many: Iterable[Inputs], *, keys: Sequence[str] = (), **options: Unpack[JobOptions]
    ) -> list[PreparedJob]:
        """Seal jobs, and send none of them; as `Jobs.prepare`. `many` is taken in this thread."""
        return self._wait(self._jobs().prepare(model, list(many), keys=keys, **options))

    def send(self, prepared: Sequence[PreparedJob], *, timeout_s: float | None = None) -> list[Sent]:
        """Submit jobs, and say what became of each; as `Jobs.send`."""
        return self._wait(self._jobs().send(prepared, timeout_s=timeout_s))

    def result(self, ticket: JobTicket, *, wait_s: float = WAIT_S) -> Answer:
        """The answer to a job, once there is one; as `Jobs.result`."""
        return self._wait(self._jobs().result(ticket, wait_s=wait_s))

    def watch(
        self, tickets: Iterable[JobTicket], *, timeout_s: float | None = None
    ) -> Generator[tuple[JobTicket, JobOutcome], None, None]:
        """Yield each job with what it ends with, as that becomes known; as `Jobs.watch`."""
        ends = self._jobs().watch(tickets, timeout_s=timeout_s)
        try:
            while True:
                try:
                    end = self._wait(ends.__anext__())
                except StopAsyncIteration:
                    return
                yield end
        finally:
            self._wait(ends.aclose())

    def state(self, tickets: Sequence[JobTicket], *, timeout_s: float | None = None) -> list[JobStatus]:
        """Where jobs are now; as `Jobs.state`."""
        return self._wait(self._jobs().state(tickets, timeout_s=timeout_s))

    def cancel(self, tickets: Sequence[JobTicket], *, timeout_s: float | None = None) -> list[JobStatus]:
        """Have jobs not answered that are not answered yet; as `Jobs.cancel`."""
        return self._wait(self._jobs().cancel(tickets, timeout_s=timeout_s))

    def forget(self, tickets: Sequence[JobTicket], *, timeout_s: float | None = None) -> None:
        """Have the gateway drop what became of jobs that have ended; as `Jobs.forget`."""
        self._wait(self._jobs().forget(tickets, timeout_s=timeout_s))
