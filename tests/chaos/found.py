"""What there is once the fire is out: every job's record, its answer opened again, the queues and the dead letters."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos import journal
from chaos.client import said
from chaos.clients import JobClient
from chaos.work import Wanted, wanted
from cloister import Client
from cloister.api.v1 import jobs_pb2 as pb
from cloister.api.v1.jobs_pb2_grpc import JobsStub
from cloister.client import PreparedJob
from cloister.client.reaching import reached
from fakes.running_mesh import MODEL, RunningMesh

CALL_S = 30.0
PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One job, as its client, and then we, saw it.

    Attributes:
        accepted: What the client was told; None where it was told nothing of the kind.
        ends: All that the client saw of its end.
        lost: How often the client was told that there is no such job after it had been accepted.
        record: As the gateway has it now, without the answer.
        again: What opens now.
        kept_at: Unix time of the client's decision to submit it.
    """

    wanted: Wanted
    accepted: Mapping[str, Any] | None
    ends: Sequence[Mapping[str, Any]]
    lost: int
    record: pb.Job
    again: Mapping[str, Any] | None
    kept_at: float = 0.0


@dataclass(slots=True, kw_only=True)
class Found:
    """All of it."""

    jobs: list[Kept] = field(default_factory=list)
    unsent: list[Wanted] = field(default_factory=list)
    queues: list[pb.JobQueue] = field(default_factory=list)
    letters: list[pb.DeadLetter] = field(default_factory=list)


async def found(mesh: RunningMesh, keepers: Sequence[JobClient]) -> Found:
    """Ask for everything; the mesh runs, and nobody disturbs it any more."""
    everything = Found()
    async with (
        Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client,
        reached(mesh.gateway, "gateway", mesh.identity("client")) as (asking, _),
        reached(mesh.gateway, "gateway", mesh.identity("operator")) as (looking, _),
    ):
        for keeper in keepers:
            await _of_client(keeper, client, asking.stub(JobsStub), everything)
        operator = looking.stub(JobsStub)
        answer = await operator.ListQueues(pb.ListQueuesRequest(), timeout=CALL_S)
        everything.queues += answer.queues
        after, more = "", True
        while more:
            request = pb.ListDeadLettersRequest(model_name=MODEL, after=after, most=PAGE)
            page = await operator.ListDeadLetters(request, timeout=CALL_S)
            everything.letters += page.letters
            after, more = page.next, bool(page.next)
    return everything


async def _of_client(keeper: JobClient, client: Client, stub: Any, into: Found) -> None:
    notes = journal.read(keeper.journal)
    kept = {each["n"]: PreparedJob.from_bytes(base64.b64decode(each["job"])) for each in _of(notes, "kept")}
    kept_at = {each["n"]: float(each["at"]) for each in _of(notes, "kept")}
    accepted = {each["n"]: each for each in _of(notes, "accepted")}
    ends: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for end in _of(notes, "ended", "refused"):
        ends[end["n"]].append(end)
    lost = Counter(note["n"] for note in _of(notes, "lost"))
    ids = [job.ticket.job_id for job in kept.values()]
    records = {record.job_id: record for page in _pages(ids) for record in await _records(stub, page)}
    again = {}
    for page in _pages([job.ticket for job in kept.values()]):
        async with asyncio.timeout(CALL_S):
            async for ticket, outcome in client.jobs.watch(page, timeout_s=CALL_S):
                again[ticket.job_id] = said(outcome)
    for each in wanted(keeper.order.seed, keeper.order.count, keeper.order.owner):
        job = kept.get(each.number)
        if job is None:
            into.unsent.append(each)
            continue
        into.jobs.append(
            Kept(
                wanted=each,
                accepted=accepted.get(each.number),
                ends=ends[each.number],
                lost=lost[each.number],
                record=records.get(job.ticket.job_id, pb.Job()),
                again=again.get(job.ticket.job_id),
                kept_at=kept_at[each.number],
            )
        )


async def _records(stub: Any, ids: Sequence[bytes]) -> list[pb.Job]:
    """As they are now: the first that a watch says."""
    request = pb.WatchRequest(model_name=MODEL, job_ids=ids, without_responses=True)
    records: dict[bytes, pb.Job] = {}
    call = stub.Watch(request, timeout=CALL_S)
    try:
        async for answer in call:
            records |= {job.job_id: job for job in answer.jobs}
            if len(records) == len(ids):
                break
    finally:
        call.cancel()
    return list(records.values())


def _of(notes: Sequence[Mapping[str, Any]], *what: str) -> list[Mapping[str, Any]]:
    return [each for each in notes if each["what"] in what]


def _pages(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for at in range(0, len(items), PAGE):
        yield items[at : at + PAGE]
