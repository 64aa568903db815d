"""What there is of jobs in Redis, as far as it is believed (view_scripts.READ)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloister.errors import NotFound, SealBroken
from cloister.gateway.jobs.job import Record, State
from cloister.gateway.jobs.keeping import view_scripts
from cloister.gateway.jobs.keeping.records import SKEW_MS, End, Header, matches
from cloister.gateway.jobs.keeping.scripts import LARGE_BYTES
from cloister.gateway.jobs.keeping.shelf import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    OFF_LOOP_BYTES,
    Shelf,
    malformed,
    parts,
    rows,
)
from cloister.kit.redis import Word


@dataclass(frozen=True, slots=True)
class Seen:
    """What Redis has of a job, as far as it is believed."""

    header: Header
    end: End | None
    attempts: int
    held: bool
    response: bytes
    junk: bytes


class View:
    """Reads jobs."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def look(self, model_name: str, job_ids: Sequence[str], *, responses: bool) -> list[Seen | None]:
        """What there is of jobs; with responses, of the first of them, until those are as many bytes as go together."""
        found: list[Seen | None] = []
        while len(found) < len(job_ids):
            ids = job_ids[len(found) : len(found) + MAX_BATCH]
            words: tuple[Word, ...] = (MAX_BATCH_BYTES, int(responses), *ids)
            counts, packed = parts(await self._shelf.run(model_name, view_scripts.READ, *words), 2)
            self._shelf.told(model_name, counts)
            answers = rows(packed, 5)
            if not 1 <= len(answers) <= len(ids):
                raise malformed()
            found += [self._seen(model_name, job_id, row) for job_id, row in zip(ids, answers, strict=False)]
            if responses and len(answers) < len(ids):
                break
        return found

    def _seen(self, model_name: str, job_id: str, row: tuple[bytes, ...]) -> Seen | None:
        sealed, end, attempts, held, response = row
        if not sealed:
            return None
        try:
            header = self._shelf.records.open_header(sealed, model_name)
            if header.job_id != job_id:
                raise SealBroken(reason="job.moved")
        except SealBroken as error:
            self._shelf.drop(error.reason, model_name, job=job_id)
            return None
        believed = self.end(header, end)
        junk = end if believed is None else b""
        return Seen(header, believed, _number(attempts), bool(held), response, junk)

    async def read(
        self, model_name: str, tenant: str, job_ids: Sequence[bytes], *, responses: bool
    ) -> list[Record | None]:
        """See `JobStore`."""
        ids = [job_id.hex() for job_id in job_ids]
        found: list[Record | None] = []
        for seen in await self.look(model_name, ids, responses=responses):
            each = await self._whole(seen, tenant) if responses else seen
            if each is None or each.header.tenant != tenant:
                found.append(None)
            elif len(each.response) > OFF_LOOP_BYTES:
                found.append(await asyncio.to_thread(self._record, each, responses=responses))
            else:
                found.append(self._record(each, responses=responses))
        return found

    async def kept_bytes(self, model_name: str, tenant: str) -> int:
        """See `JobStore`."""
        found = await self._shelf.run(model_name, view_scripts.KEPT_BYTES, tenant)
        if not isinstance(found, int):
            raise malformed()
        return found

    async def _whole(self, seen: Seen | None, tenant: str) -> Seen | None:
        """With its response, where that is large."""
        if seen is None or seen.end is None or seen.end.size_bytes <= LARGE_BYTES or seen.header.tenant != tenant:
            return seen
        header = seen.header
        response = await self._shelf.value(header.model_name, "a", header.job_id, seen.end.size_bytes)
        return replace(seen, response=response)

    def _record(self, seen: Seen, *, responses: bool) -> Record:
        header, end = seen.header, seen.end
        job_id = bytes.fromhex(header.job_id)
        if end is None:
            state = State.RUNNING if seen.held else State.QUEUED
            return Record(job_id=job_id, state=state, attempts=seen.attempts, submitted_ms=header.submitted_ms)
        if not responses or end.state is not State.ANSWERED:
            return ended(header, end)
        if matches(seen.response, end):
            return ended(header, end, seen.response)
        record = ended(header, end)
        if not seen.response and self._shelf.now_ms() >= end.kept_until_ms - SKEW_MS:
            return replace(record, error=NotFound("the answer is not kept any more", reason="answer.expired"))
        self._shelf.drop("answer.lost", header.model_name, job=header.job_id)
        return replace(record, error=NotFound("the answer was lost", reason="answer.lost"))

    def end(self, header: Header, sealed: bytes) -> End | None:
        """An end, if it may be believed."""
        if not sealed:
            return None
        try:
            return self._shelf.records.open_end(header, sealed)
        except SealBroken as error:
            self._shelf.drop(error.reason, header.model_name, job=header.job_id)
            return None


def ended(header: Header, end: End, response: bytes = b"") -> Record:
    """What is told of a job that has ended."""
    return Record(
        job_id=bytes.fromhex(header.job_id),
        state=end.state,
        attempts=end.attempts,
        submitted_ms=header.submitted_ms,
        ended_ms=end.ended_ms,
        kept_until_ms=end.kept_until_ms,
        response=response,
        error=end.error,
    )


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else 0
