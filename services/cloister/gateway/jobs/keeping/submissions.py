"""How jobs come into Redis: each once, within bounds, and in their rows (submit_scripts.SUBMIT)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Final

from cloister.errors import AlreadyExists, CloisterError, Overloaded, SealBroken, Unavailable
from cloister.gateway.jobs.job import Accepted, Job, full_results
from cloister.gateway.jobs.keeping import end_scripts, submit_scripts, view_scripts
from cloister.gateway.jobs.keeping.records import FIRST, Header, Predecessor
from cloister.gateway.jobs.keeping.shelf import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    OFF_LOOP_BYTES,
    Shelf,
    malformed,
    parts,
    rows,
)
from cloister.gateway.jobs.store import Bounds

_TRIES: Final = 8
_REGISTERED_S: Final = 60.0

Outcome = Accepted | CloisterError
_Numbered = tuple[int, Job]


class Submissions:
    """Takes jobs in."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._registered: dict[str, float] = {}

    async def submit(self, jobs: Sequence[Job], bounds: Bounds) -> list[Outcome]:
        """See `JobStore`."""
        outcomes: dict[int, Outcome] = {}
        if not jobs:
            return []
        await self._register(jobs[0].model_name)
        left = list(enumerate(jobs))
        for _ in range(_TRIES):
            again: list[_Numbered] = []
            for part in _parts(left):
                again += await self._send(part, bounds, outcomes)
            left = again
        for at, _ in left:
            outcomes[at] = Unavailable("others submit to this row at the same time; try again", reason="row.busy")
        return [outcomes[at] for at in range(len(jobs))]

    async def _register(self, model_name: str) -> None:
        """Note, now and then, that there are jobs of this model: before they are there, so that none is overlooked."""
        now_s = time.monotonic()
        if now_s - self._registered.get(model_name, -_REGISTERED_S) >= _REGISTERED_S:
            self._shelf.key(model_name)
            await self._shelf.run_on(self._shelf.registry, view_scripts.REGISTER, self._shelf.now_ms(), model_name)
            self._registered[model_name] = now_s

    async def _send(self, part: list[_Numbered], bounds: Bounds, outcomes: dict[int, Outcome]) -> list[_Numbered]:
        """One call of the script; returns what is to be sent again."""
        model_name = part[0][1].model_name
        jobs = [job for _, job in part]
        tails = await self._tails(model_name, jobs)
        if sum(len(job.request) for job in jobs) > OFF_LOOP_BYTES:
            headers = await asyncio.to_thread(self._headers, jobs, tails)
        else:
            headers = self._headers(jobs, tails)
        words = [word for header, job in zip(headers, jobs, strict=True) for word in (header, job.request)]
        most = (bounds.jobs, bounds.size_bytes, bounds.tenant_jobs, bounds.tenant_bytes, bounds.tenant_kept_bytes)
        try:
            counts, packed = parts(await self._shelf.run(model_name, submit_scripts.SUBMIT, *most, *words), 2)
        except Overloaded:
            outcomes.update((at, _full("the memory of the queue is full", "jobs.memory_full")) for at, _ in part)
            return []
        self._shelf.told(model_name, counts)
        answers = rows(packed, 2)
        if len(answers) != len(part):
            raise malformed()
        again: list[_Numbered] = []
        for (at, job), header, (became, there) in zip(part, headers, answers, strict=True):
            outcome = await self._outcome(job, header, became, there)
            if outcome is None:
                again.append((at, job))
            else:
                outcomes[at] = outcome
        return again

    async def _outcome(self, job: Job, header: bytes, became: bytes, there: bytes) -> Outcome | None:
        """What became of one job; None where it is to be sent again."""
        if became == b"kept":
            return Accepted(job.job_id)
        if became == b"full":
            return _full("the model's queue is full", "jobs.full")
        if became == b"tenant":
            return _full("you have as many jobs waiting as you may", "tenant.jobs_full")
        if became == b"filled":
            return full_results()
        if became == b"moved":
            return None
        own = self._shelf.records.open_header(header, job.model_name)
        if became == b"stale":
            self._shelf.drop("job.lost", job.model_name, job=own.job_id)
            await self._lose(own)
            return None
        return await self._existing(job, own, there)

    async def _existing(self, job: Job, own: Header, there: bytes) -> Outcome | None:
        """What a job is that is there under this id, or under this key."""
        try:
            found = self._shelf.records.open_header(there, job.model_name)
        except SealBroken as error:
            self._shelf.drop(error.reason, job.model_name, job=own.job_id)
            await self._lose(own)
            await self._unname(own)
            return None
        if found.job_id == own.job_id:
            if (found.tenant, found.digest) == (own.tenant, own.digest):
                return Accepted(job.job_id, existed=True)
            return AlreadyExists("another job has this id", reason="job.other")
        if (found.tenant, found.key_name) == (own.tenant, own.key_name):
            return Accepted(bytes.fromhex(found.job_id), existed=True)
        self._shelf.drop("key.moved", job.model_name, job=own.job_id)
        await self._unname(own)
        return None

    async def _lose(self, own: Header) -> None:
        await self._shelf.run(own.model_name, end_scripts.LOSE, 1, own.member)

    async def _unname(self, own: Header) -> None:
        if own.key_name:
            await self._shelf.delete(f"{self._shelf.key(own.model_name)}:key:{own.key_name}")

    async def _tails(self, model_name: str, jobs: Sequence[Job]) -> dict[str, Predecessor]:
        """The last job of each row that these jobs go into, by the row's name."""
        names = list(dict.fromkeys(name for job in jobs if (name := self._row(job))))
        for _ in range(_TRIES):
            if not names:
                return {}
            tails: dict[str, Predecessor] = {}
            lost: list[str] = []
            counts, packed = parts(await self._shelf.run(model_name, submit_scripts.TAILS, *names), 2)
            self._shelf.told(model_name, counts)
            for name, (job_id, header) in zip(names, parts(rows(packed, 2), len(names)), strict=True):
                try:
                    tails[name] = self._tail(model_name, name, job_id.decode("ascii", "replace"), header)
                except SealBroken as error:
                    self._shelf.drop(error.reason, model_name, row=name)
                    lost.append(f"{job_id.decode('ascii')} {name}")
            if not lost:
                return tails
            await self._shelf.run(model_name, end_scripts.LOSE, 1, *lost)
        raise Unavailable("the row cannot be read; try again", reason="row.busy")

    def _tail(self, model_name: str, row_name: str, job_id: str, sealed: bytes) -> Predecessor:
        if not job_id:
            return FIRST
        header = self._shelf.records.open_header(sealed, model_name)
        if (header.row_name, header.job_id) != (row_name, job_id):
            raise SealBroken(reason="row.forged")
        return Predecessor(job_id, header.not_after_ms)

    def _headers(self, jobs: Sequence[Job], tails: dict[str, Predecessor]) -> list[bytes]:
        headers: list[bytes] = []
        for job in jobs:
            row = self._row(job)
            headers.append(self._shelf.records.header(job, tails.get(row, FIRST) if row else FIRST))
            if row:
                tails[row] = Predecessor(job.job_id.hex(), job.not_after_ms)
        return headers

    def _row(self, job: Job) -> str:
        return self._shelf.records.name("row", job.model_name, job.tenant, job.order_key)


def _parts(jobs: Sequence[_Numbered]) -> Iterator[list[_Numbered]]:
    """Jobs as they go into one call each, bounded in number and bytes."""
    part: list[_Numbered] = []
    size = 0
    for each in jobs:
        length = len(each[1].request)
        if part and (len(part) >= MAX_BATCH or size + length > MAX_BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(each)
        size += length
    if part:
        yield part


def _full(message: str, reason: str) -> Overloaded:
    return Overloaded(message, reason=reason)
