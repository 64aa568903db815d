"""A gateway's Jobs, in memory: behaves as jobs.proto says, over a wire or without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloister.api.v1 import jobs_pb2 as pb
from cloister.api.v1.gateway_pb2 import ListWorkersRequest, ListWorkersResponse
from cloister.api.v1.gateway_pb2_grpc import GatewayServicer
from cloister.api.v1.jobs_pb2_grpc import JobsServicer
from cloister.errors import AlreadyExists, CloisterError, NotFound, Overloaded, Unavailable
from cloister.rpc.status import failure_of
from fakes.job_worker import JobWorker
from fakes.serving import FakeGateway

ENDS = (pb.JOB_STATE_ANSWERED, pb.JOB_STATE_DEAD, pb.JOB_STATE_CANCELLED)


@dataclass
class Kept:
    """One job that was accepted."""

    submission: pb.Submission
    job: pb.Job


class JobDesk:
    """Keeps jobs, and has them answered by the first worker that can.

    Args:
        workers: That answer.

    Attributes:
        at_once: Whether jobs are answered as they come; else by `run`.
        room: How many more are taken; None for any number.
        refuse: Raised by the next calls, in order.
        cuts: How many watches end as soon as they have told one thing.
        submits: The calls that came.
    """

    def __init__(self, *workers: JobWorker) -> None:
        self.workers = list(workers)
        self.at_once = True
        self.room: int | None = None
        self.refuse: list[Exception] = []
        self.cuts = 0
        self.watches = 0
        self.submits: list[pb.SubmitRequest] = []
        self.kept: dict[tuple[str, bytes], Kept] = {}
        self._keys: dict[tuple[str, str], bytes] = {}
        self._leaving = 0
        self._changed = asyncio.Condition()

    async def submit(self, request: pb.SubmitRequest) -> pb.SubmitResponse:
        self._refused()
        if self.room is not None:  # somebody has gone for each that was refused
            self.room, self._leaving = self.room + self._leaving, 0
        self.submits.append(request)
        answer = pb.SubmitResponse(jobs=[self._taken(request.model_name, job) for job in request.jobs])
        if self.at_once:
            await self.run()
        return answer

    async def run(self, most: int | None = None) -> None:
        """Have jobs answered that wait."""
        waiting = [kept for kept in self.kept.values() if kept.job.state == pb.JOB_STATE_QUEUED]
        for kept in waiting[:most]:
            kept.job.attempts += 1
            error: CloisterError | None = None
            for worker in self.workers:
                try:
                    kept.job.response = worker.answer(kept.submission.request)
                    self._end(kept, pb.JOB_STATE_ANSWERED)
                    break
                except CloisterError as refused:
                    error = refused
            else:
                kept.job.failure.CopyFrom(failure_of(error or NotFound("nobody")))
                self._end(kept, pb.JOB_STATE_DEAD)
        async with self._changed:
            self._changed.notify_all()

    async def lose(self, model: str, job_id: bytes) -> None:
        """As a Redis that was not durable."""
        del self.kept[model, job_id]
        async with self._changed:
            self._changed.notify_all()

    async def watch(self, request: pb.WatchRequest) -> AsyncIterator[pb.WatchResponse]:
        self._refused()
        self.watches += 1
        told: dict[bytes, int] = {}
        while True:
            now = {job_id: self._job(request.model_name, job_id) for job_id in request.job_ids}
            news = [job for job_id, job in now.items() if told.get(job_id) != job.state]
            for job in news:
                told[job.job_id] = job.state
                if self.cuts:
                    self.cuts -= 1
                    yield pb.WatchResponse(jobs=[job])
                    raise Unavailable("the gateway goes away")
            if news:
                yield pb.WatchResponse(jobs=[_without(job) if request.without_responses else job for job in news])
            if all(job.state in (*ENDS, pb.JOB_STATE_UNSPECIFIED) for job in now.values()):
                return
            async with self._changed:
                await self._changed.wait()

    async def result(self, request: pb.ResultRequest) -> pb.ResultResponse:
        self._refused()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + request.wait_ms / 1000
        job = self._job(request.model_name, request.job_id)
        while job.state in (pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING) and loop.time() < until_s:
            try:
                async with asyncio.timeout_at(until_s), self._changed:
                    await self._changed.wait()
            except TimeoutError:
                break
            job = self._job(request.model_name, request.job_id)
        if request.forget and job.state in ENDS:
            del self.kept[request.model_name, request.job_id]
        return pb.ResultResponse(job=job)

    async def cancel(self, request: pb.CancelRequest) -> pb.CancelResponse:
        self._refused()
        for job_id in request.job_ids:
            kept = self.kept.get((request.model_name, job_id))
            if kept is not None and kept.job.state not in ENDS:
                self._end(kept, pb.JOB_STATE_CANCELLED)
        async with self._changed:
            self._changed.notify_all()
        return pb.CancelResponse(jobs=[self._job(request.model_name, job_id) for job_id in request.job_ids])

    async def forget(self, request: pb.ForgetRequest) -> pb.ForgetResponse:
        self._refused()
        for job_id in request.job_ids:
            kept = self.kept.get((request.model_name, job_id))
            if kept is not None and kept.job.state in ENDS:
                del self.kept[request.model_name, job_id]
        return pb.ForgetResponse()

    def _refused(self) -> None:
        if self.refuse:
            raise self.refuse.pop(0)

    def _taken(self, model: str, job: pb.Submission) -> pb.Submitted:
        before = self._keys.get((model, job.key)) if job.key else None
        if before is not None:
            return pb.Submitted(job_id=before, existed=True)
        kept = self.kept.get((model, job.job_id))
        if kept is not None:
            if kept.submission == job:
                return pb.Submitted(job_id=job.job_id, existed=True)
            return _refusal(job, AlreadyExists("another job has this id", reason="job.other"))
        if self.room is not None:
            if self.room <= 0:
                self._leaving += 1
                return _refusal(job, Overloaded("full", reason="jobs.full", retry_after_s=0.001))
            self.room -= 1
        self.kept[model, job.job_id] = Kept(
            job, pb.Job(job_id=job.job_id, state=pb.JOB_STATE_QUEUED, submitted_ms=_now_ms())
        )
        if job.key:
            self._keys[model, job.key] = job.job_id
        return pb.Submitted(job_id=job.job_id)

    def _job(self, model: str, job_id: bytes) -> pb.Job:
        kept = self.kept.get((model, job_id))
        if kept is not None:
            return pb.Job.FromString(kept.job.SerializeToString())
        return pb.Job(job_id=job_id, failure=failure_of(NotFound("there is no such job", reason="job.unknown")))

    def _end(self, kept: Kept, state: pb.JobState) -> None:
        kept.job.state, kept.job.ended_ms = state, _now_ms()
        kept.job.kept_until_ms = kept.job.ended_ms + 86_400_000


class DeskGateway(FakeGateway):
    """What a client's `Peer` is to it, with jobs."""

    def __init__(self, desk: JobDesk) -> None:
        super().__init__(*(each.worker for each in desk.workers))
        self.desk = desk

    async def Submit(self, request: pb.SubmitRequest, timeout: float) -> pb.SubmitResponse:  # noqa: ASYNC109
        assert timeout > 0
        return await self.desk.submit(pb.SubmitRequest.FromString(request.SerializeToString()))

    def Watch(self, request: pb.WatchRequest, timeout: float) -> _Watch:
        assert timeout > 0
        return _Watch(self.desk.watch(request))

    async def Result(self, request: pb.ResultRequest, timeout: float) -> pb.ResultResponse:  # noqa: ASYNC109
        assert timeout > request.wait_ms / 1000
        return await self.desk.result(request)

    async def Cancel(self, request: pb.CancelRequest, timeout: float) -> pb.CancelResponse:  # noqa: ASYNC109
        assert timeout > 0
        return await self.desk.cancel(request)

    async def Forget(self, request: pb.ForgetRequest, timeout: float) -> pb.ForgetResponse:  # noqa: ASYNC109
        assert timeout > 0
        return await self.desk.forget(request)


class _Watch:
    def __init__(self, messages: AsyncIterator[pb.WatchResponse]) -> None:
        self._messages = messages

    def __aiter__(self) -> AsyncIterator[pb.WatchResponse]:
        return self._messages

    def cancel(self) -> None:
        pass


class DeskServicer(JobsServicer):
    """The same on a server."""

    def __init__(self, desk: JobDesk) -> None:
        self._desk = desk

    async def Submit(self, request: Any, context: Any) -> pb.SubmitResponse:
        return await self._desk.submit(request)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[pb.WatchResponse]:
        async for message in self._desk.watch(request):
            yield message

    async def Result(self, request: Any, context: Any) -> pb.ResultResponse:
        return await self._desk.result(request)

    async def Cancel(self, request: Any, context: Any) -> pb.CancelResponse:
        return await self._desk.cancel(request)

    async def Forget(self, request: Any, context: Any) -> pb.ForgetResponse:
        return await self._desk.forget(request)


class ListServicer(GatewayServicer):
    """ListWorkers of a desk's workers, for a server."""

    def __init__(self, desk: JobDesk) -> None:
        self._gateway = DeskGateway(desk)

    async def ListWorkers(self, request: ListWorkersRequest, context: Any) -> ListWorkersResponse:
        return await self._gateway.ListWorkers(request, timeout=1.0)


def spoiled(desk: JobDesk, job_id: bytes, change: Callable[[bytes], bytes]) -> None:
    """Change what the desk kept as the answer to a job, as Redis might."""
    for (_, kept_id), kept in desk.kept.items():
        if kept_id == job_id:
            kept.job.response = change(kept.job.response)


def _refusal(job: pb.Submission, error: CloisterError) -> pb.Submitted:
    after_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
    return pb.Submitted(job_id=job.job_id, failure=failure_of(error), retry_after_s=after_s)


def _without(job: pb.Job) -> pb.Job:
    bare = pb.Job.FromString(job.SerializeToString())
    bare.ClearField("response")
    return bare


def _now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)
