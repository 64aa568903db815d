"""Protobuf to values and back, for jobs. A tenant sees its own jobs and no others, of the models that it sees.

A job may wait for a model that no worker serves now, and never for one that this gateway has not heard of: whoever may
submit could otherwise have queues made under any number of names (`known`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from cloister.api.v1 import jobs_pb2
from cloister.api.v1.jobs_pb2_grpc import JobsServicer as JobsBase
from cloister.errors import CloisterError, InvalidRequest, NotFound, Overloaded, Unauthenticated, Unavailable
from cloister.gateway.directory import Directory, Tenant
from cloister.gateway.jobs.checked import MAX_SUBMISSIONS, check_id, checked_job
from cloister.gateway.jobs.feeds import Feeds
from cloister.gateway.jobs.job import Accepted, Job, Record, State, full_results
from cloister.gateway.jobs.known import KnownModels
from cloister.gateway.jobs.messages import (
    job_message,
    letter_message,
    queue_message,
    submitted_message,
    unknown_job,
)
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.jobs.watch import RECHECK_S, JobWatch, Told
from cloister.gateway.link import NO_SUCH_MODEL
from cloister.gateway.routing import NAME
from cloister.gateway.tenants import Tenants
from cloister.kit.calls import current_peer
from cloister.kit.shares import when_done

MAX_WATCHED: Final = 16_384
WATCHED_BYTES: Final = 400
"""About what an id takes here while it is watched."""
MAX_LETTERS: Final = 1000
LETTERS: Final = 100
WRITE_S: Final = 20.0
"""How long one message may wait for a client that does not read."""
MARGIN_S: Final = 1.0
"""Before the end of a call by which its answer is given."""


class JobsServicer(JobsBase):
    """The calls of `cloister.api.v1.Jobs`.

    Args:
        stores: Where jobs are kept.
        feeds: Tell of their ends.
        known: Which models there are.
        directory: Whose tenant each identity is.
        tenants: Counts what each has under way; a submission counts until it is kept.
        streams: Counts each tenant's open streams, of which watches are some, and so is who waits for a result.
        metrics: Counts submissions.
        settings: How large and how long jobs may be.
        max_call_s: The most that one call may take.
        stopping: Watches come to an end once it is set.
        wall_ms: Unix time in milliseconds.
    """

    def __init__(
        self,
        stores: StoreWatch,
        feeds: Feeds,
        known: KnownModels,
        directory: Directory,
        tenants: Tenants,
        streams: Tenants,
        metrics: JobMetrics,
        settings: JobsSettings,
        *,
        max_call_s: float,
        stopping: asyncio.Event,
        wall_ms: Callable[[], int],
    ) -> None:
        self._stores = stores
        self._feeds = feeds
        self._known = known
        self._directory = directory
        self._tenants = tenants
        self._streams = streams
        self._metrics = metrics
        self._settings = settings
        self._max_call_s = max_call_s
        self._stopping = stopping
        self._wall_ms = wall_ms

    async def Submit(self, request: jobs_pb2.SubmitRequest, context: Any) -> jobs_pb2.SubmitResponse:
        """Keep jobs; each is accepted or refused for itself, and counts in its tenant's rate as a request does."""
        tenant, model = self._asked(request.model_name)
        _check_count(len(request.jobs), MAX_SUBMISSIONS, "submissions")
        self._known.check(model)
        size_bytes, now_s = request.ByteSize(), time.monotonic()
        self._tenants.enter(tenant.name, size_bytes, now_s)
        try:
            more, wait_s = self._tenants.take(tenant.name, len(request.jobs) - 1, now_s)
            outcomes = await self._submit(request.jobs[: 1 + more], model, tenant.name)
            outcomes += [_too_fast(wait_s)] * (len(request.jobs) - len(outcomes))
        finally:
            self._tenants.leave(tenant.name, size_bytes)
        for outcome in outcomes:
            self._metrics.submitted(model, outcome)
        queue = self._stores.queues.get(model)
        refused = sum(isinstance(outcome, Overloaded) for outcome in outcomes)
        full_s = queue.gone_in_s(refused) if queue is not None else 0.0
        pairs = zip(request.jobs, outcomes, strict=True)
        return jobs_pb2.SubmitResponse(
            jobs=[submitted_message(asked.job_id, outcome, full_s) for asked, outcome in pairs]
        )

    async def _submit(self, asked: Sequence[Any], model: str, tenant: str) -> list[Accepted | CloisterError]:
        store, now_ms = self._stores.store(), self._wall_ms()
        good: list[Job] = []
        outcomes: list[Accepted | CloisterError | None] = []
        for each in asked:
            try:
                good.append(checked_job(each, model, tenant, self._settings, now_ms))
                outcomes.append(None)
            except CloisterError as error:
                outcomes.append(error)
        kept: list[Accepted | CloisterError] = []
        bounds, most = self._settings.bounds(), self._settings.batch
        for start in range(0, len(good), most):
            part = good[start : start + most]
            with self._feeds.submitting(model, tenant, [job.job_id for job in part]) as new:
                became = await store.submit(part, bounds)
                new |= {each.job_id for each in became if isinstance(each, Accepted) and not each.existed}
            kept += became
        rest = iter(kept)
        return [next(rest) if outcome is None else outcome for outcome in outcomes]

    async def Watch(self, request: jobs_pb2.WatchRequest, context: Any) -> None:  # type: ignore[override]  # it writes
        """States now, then ends as they come."""
        tenant, model = self._asked(request.model_name)
        _check_ids(request.job_ids, MAX_WATCHED)
        size_bytes = len(request.job_ids) * WATCHED_BYTES
        self._streams.enter(tenant.name, size_bytes, time.monotonic())
        when_done(lambda _: self._streams.leave(tenant.name, size_bytes))  # see `InferenceServicer.model_stream_infer`

        async def tell(told: Told) -> None:
            jobs = [job_message(job_id, record) for job_id, record in told]
            try:
                async with asyncio.timeout(WRITE_S):
                    await context.write(jobs_pb2.WatchResponse(jobs=jobs))
            except TimeoutError:
                raise Unavailable("the client does not read what it watches", reason="client.stalled") from None

        watch = JobWatch(
            self._stores,
            self._feeds,
            model,
            tenant.name,
            responses=not request.without_responses,
            ends_only=request.ends_only,
            batch=self._settings.batch,
        )
        peer = current_peer()
        async with asyncio.TaskGroup() as group:
            guards = [
                group.create_task(self._until_stopping()),
                group.create_task(_until(peer.expires_at - time.time())),
            ]
            async with self._directory.while_known(peer.spiffe_id):
                await watch.run(request.job_ids, tell)
            for guard in guards:
                guard.cancel()

    async def Result(self, request: jobs_pb2.ResultRequest, context: Any) -> jobs_pb2.ResultResponse:
        """One job, once it has ended or the wait is over."""
        tenant, model = self._asked(request.model_name)
        check_id(request.job_id)
        store = self._stores.store()
        record = await self._read(model, tenant.name, request.job_id)
        if request.wait_ms and not record.state.ended:
            left_s = context.time_remaining()
            most_s = self._max_call_s if left_s is None else min(left_s, self._max_call_s)
            wait_s = min(request.wait_ms / 1000, max(0.0, most_s - MARGIN_S))
            self._streams.enter(tenant.name, WATCHED_BYTES, time.monotonic())
            try:
                record = await self._ended(record, model, tenant.name, wait_s)
            finally:
                self._streams.leave(tenant.name, WATCHED_BYTES)
        if record.state is State.QUEUED and await self._is_full(model, tenant.name):
            record = replace(record, error=full_results())
        if request.forget and record.state.ended:
            await store.forget(model, tenant.name, [request.job_id])
        return jobs_pb2.ResultResponse(job=job_message(request.job_id, record))

    async def Cancel(self, request: jobs_pb2.CancelRequest, context: Any) -> jobs_pb2.CancelResponse:
        """End what has not ended; what a worker still computes of it is thrown away."""
        tenant, model = self._asked(request.model_name)
        _check_ids(request.job_ids, MAX_SUBMISSIONS)
        records = await self._stores.store().cancel(model, tenant.name, request.job_ids)
        pairs = zip(request.job_ids, records, strict=True)
        return jobs_pb2.CancelResponse(jobs=[job_message(job_id, record) for job_id, record in pairs])

    async def Forget(self, request: jobs_pb2.ForgetRequest, context: Any) -> jobs_pb2.ForgetResponse:
        """Drop what became of jobs that have ended."""
        tenant, model = self._asked(request.model_name)
        _check_ids(request.job_ids, MAX_SUBMISSIONS)
        await self._stores.store().forget(model, tenant.name, request.job_ids)
        return jobs_pb2.ForgetResponse()

    async def ListQueues(self, request: jobs_pb2.ListQueuesRequest, context: Any) -> jobs_pb2.ListQueuesResponse:
        """How much waits. Roles: operator, auditor."""
        wanted = request.model_name
        queues = [each for each in await self._stores.store().queues() if wanted in ("", each.model_name)]
        return jobs_pb2.ListQueuesResponse(queues=map(queue_message, queues))

    async def ListDeadLetters(
        self, request: jobs_pb2.ListDeadLettersRequest, context: Any
    ) -> jobs_pb2.ListDeadLettersResponse:
        """Jobs that nobody will answer. Roles: operator, auditor."""
        most = min(request.most or LETTERS, MAX_LETTERS)
        after, found = await self._stores.store().dead_letters(request.model_name, request.after, most)
        letters = [letter_message(tenant, record) for tenant, record in found]
        return jobs_pb2.ListDeadLettersResponse(letters=letters, next=after)

    def _asked(self, model_name: str) -> tuple[Tenant, str]:
        tenant = self._directory.of(current_peer().spiffe_id)
        self._stores.store()  # where there are no jobs, that is all there is to say
        if not NAME.fullmatch(tenant.seen(model_name)):  # what is to become part of a key in Redis has a name's form
            raise NotFound(NO_SUCH_MODEL)
        return tenant, model_name

    async def _read(self, model: str, tenant: str, job_id: bytes) -> Record:
        (record,) = await self._stores.store().read(model, tenant, [job_id])
        if record is None:
            raise unknown_job()
        return record

    async def _is_full(self, model: str, tenant: str) -> bool:
        return await self._stores.store().kept_bytes(model, tenant) >= self._settings.tenant_kept_bytes

    async def _ended(self, record: Record, model: str, tenant: str, wait_s: float) -> Record:
        """The record once the job has ended, or as it is when the time is up or we are going."""
        until_s = asyncio.get_running_loop().time() + wait_s
        async with self._feeds.watched(model, tenant, [record.job_id]) as watcher:
            while True:
                record = await self._read(model, tenant, record.job_id)
                left_s = until_s - asyncio.get_running_loop().time()
                if record.state.ended or left_s <= 0 or self._stopping.is_set():
                    return record
                await watcher.news(min(left_s, RECHECK_S))
                watcher.waiting.add(record.job_id)  # the feed is only a hint

    async def _until_stopping(self) -> None:
        await self._stopping.wait()
        raise Unavailable("this gateway is going; watch at another one", reason="peer.draining")


async def _until(expires_in_s: float) -> None:
    await asyncio.sleep(max(0.0, expires_in_s))
    raise Unauthenticated("the client's certificate or token has expired", reason="identity.expired")


def _too_fast(wait_s: float) -> Overloaded:
    return Overloaded("you ask more often than you may", reason="tenant.too_fast", retry_after_s=wait_s)


def _check_ids(job_ids: Sequence[bytes], most: int) -> None:
    _check_count(len(job_ids), most, "ids")
    for job_id in job_ids:
        check_id(job_id)


def _check_count(count: int, most: int, what: str) -> None:
    if not 1 <= count <= most:
        raise InvalidRequest(f"a call has 1 to {most} {what}", reason="jobs.too_many")
