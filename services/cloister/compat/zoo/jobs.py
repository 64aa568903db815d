"""What is enqueued, as jobs of the mesh: accepted, it will have a result or a reason, whoever restarts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from cloister.client import Answer, JobState, SyncClient
from cloister.compat.zoo.fitting import Instance, Result
from cloister.compat.zoo.results import Failure
from cloister.compat.zoo.tickets import Enqueued, Tickets
from cloister.contract import ModelContract
from cloister.errors import CloisterError, EvidenceRejected, NotFound, NotReady
from cloister.rpc.status import reason_of

OFF_S: Final = 60.0
"""How long a mesh that takes no jobs is not asked again."""
_ENDED: Final = (JobState.ANSWERED, JobState.DEAD, JobState.CANCELLED)


class Jobs:
    """The jobs of one model that this user has enqueued.

    Args:
        client: Connected.
        model: Name.
        tickets: Where their tickets are kept.
    """

    def __init__(self, client: SyncClient, model: str, tickets: Tickets) -> None:
        self._client = client
        self._model = model
        self._tickets = tickets
        self._off_until_s = 0.0

    def enqueue(self, uri: str, contract: ModelContract, instance: Instance, *, version: str, timeout_s: float) -> bool:
        """Have one answered; False where this mesh takes no jobs, or none that this client may seal.

        Raises:
            AlreadyExists: `uri` is under way, or its result is held (`uri.taken`).
            Overloaded: There is no room at the gateway.
            CloisterError, TimeoutError: It is not accepted, or nobody said so: enqueue it again.
        """
        if time.monotonic() < self._off_until_s:
            return False
        try:
            (prepared,) = self._client.jobs.prepare(
                self._model, [instance.arrays], version=version, timeout_s=timeout_s
            )
        except (NotReady, EvidenceRejected):
            return self._off()
        self._tickets.add(Enqueued(uri, prepared.ticket, contract.outputs, instance.unbatched))
        try:
            (sent,) = self._client.jobs.send([prepared], timeout_s=timeout_s)
            if sent.error is not None:
                raise sent.error
        except BaseException as error:
            self._tickets.remove(uri)
            if isinstance(error, NotReady) and error.reason == "jobs.off":
                return self._off()
            raise
        return True

    def holds(self, uri: str) -> bool:
        """Whether there is a ticket of this uri."""
        return self._tickets.find(uri) is not None

    def answer(self, uri: str, *, delete: bool, timeout_s: float) -> tuple[Result, Answer] | None:
        """What came of one; None where there is no ticket of this uri.

        Raises:
            NotReady: It has not ended (`result.pending`).
            NotFound: The mesh does not have it, or not any more (`result.unknown`).
            CloisterError, TimeoutError: What it ended with; deleted as an answer would be.
        """
        enqueued = self._tickets.find(uri)
        if enqueued is None:
            return None
        try:
            answer = self._client.jobs.result(enqueued.ticket, wait_s=max(timeout_s, 0.0))
        except (CloisterError, TimeoutError) as error:
            self._check_there(uri, error)
            if delete and self._has_ended(enqueued):
                self._delete(enqueued)
            raise
        if delete:
            self._delete(enqueued)
        return enqueued.instance.result(enqueued.contract, answer.outputs), answer

    def take_ended(self) -> Iterator[tuple[str, Result | Failure]]:
        """Everything that has ended, each deleted as it is taken."""
        waiting = list(self._tickets.all())
        if not waiting:
            return
        statuses = self._client.jobs.state([each.ticket for each in waiting])
        for enqueued, status in zip(waiting, statuses, strict=True):
            if status.state not in _ENDED:
                continue
            try:
                found = self.answer(enqueued.uri, delete=True, timeout_s=0)
            except (CloisterError, TimeoutError) as error:
                yield enqueued.uri, error
            else:
                if found is not None:
                    yield enqueued.uri, found[0]

    def _check_there(self, uri: str, error: CloisterError | TimeoutError) -> None:
        """Say of a job that has not ended, or is not there, what a program of queues understands."""
        reason = reason_of(error)
        if reason == "job.pending":
            raise NotReady(f"'{uri[:64]}' is still under way", reason="result.pending") from error
        if reason == "job.unknown":
            self._tickets.remove(uri)
            raise NotFound(
                f"the mesh has no request '{uri[:64]}', or has no more what came of it", reason="result.unknown"
            ) from error

    def _has_ended(self, enqueued: Enqueued) -> bool:
        """Whether an error was the job's end, rather than the gateway's that could not be asked."""
        with suppress(CloisterError, TimeoutError):
            return self._client.jobs.state([enqueued.ticket])[0].state in _ENDED
        return False

    def _delete(self, enqueued: Enqueued) -> None:
        self._client.jobs.forget([enqueued.ticket])
        self._tickets.remove(enqueued.uri)

    def _off(self) -> bool:
        self._off_until_s = time.monotonic() + OFF_S
        return False
