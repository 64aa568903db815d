"""What there is of jobs in Redis, as far as it is believed (view_scripts.READ)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
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
    """What Redis has of a job, as far as it is believed.

    Attributes:
        response: If it is short; held against the end by whoever wants it.
    """

    header: Header
    end: End | None
    attempts: int
    held: bool
    response_bytes: int
    response: bytes
    junk: bytes


class View:
    """Reads jobs."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def look(self, model_name: str, job_ids: Sequence[str], *, responses: bool) -> list[Seen | None]:
        """What there is of jobs; where responses are wanted, of the first of them, as many as those go together of."""
        found: list[Seen | None] = []
        while len(found) < len(job_ids):
            ids = job_ids[len(found) : len(found) + MAX_BATCH]
            words: tuple[Word, ...] = (MAX_BATCH_BYTES, int(responses), *ids)
            counts, packed = parts(await self._shelf.run(model_name, view_scripts.READ, *words), 2)
            self._shelf.told(model_name, counts)
            answers = rows(packed, 6)
            if not 1 <= len(answers) <= len(ids):
                raise malformed()
            found += [self._seen(model_name, job_id, row) for job_id, row in zip(ids, answers, strict=False)]
            if responses and len(answers) < len(ids):
                break
        return found

    def _seen(self, model_name: str, job_id: str, row: tuple[bytes, ...]) -> Seen | None:
        sealed, end, attempts, held, size, response = row
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
        return Seen(header, believed, _number(attempts), bool(held), _number(size), response, junk)

    async def read(
        self, model_name: str, tenant: str, job_ids: Sequence[bytes], *, responses: bool
    ) -> list[Record | None]:
        """See `JobStore`."""
        ids = [job_id.hex() for job_id in job_ids]
        looked = await self.look(model_name, ids, responses=responses)
        own = [each if each is not None and each.header.tenant == tenant else None for each in looked]
        given = await self._responses(model_name, own) if responses else None
        if given is not None and sum(map(len, given.values())) > OFF_LOOP_BYTES:
            return await asyncio.to_thread(self._records, own, given)
        return self._records(own, given)

    async def kept_bytes(self, model_name: str, tenant: str) -> int:
        """See `JobStore`."""
        found = await self._shelf.run(model_name, view_scripts.KEPT_BYTES, tenant)
        if not isinstance(found, int):
            raise malformed()
        return found

    async def _responses(self, model_name: str, seen: Sequence[Seen | None]) -> dict[str, bytes]:
        """Responses by id, of the length that jobs ended with: together, but each large one by itself."""
        sizes = {
            each.header.job_id: each.end.size_bytes
            for each in seen
            if each is not None and each.end is not None and 0 < each.response_bytes == each.end.size_bytes
        }
        short = {each.header.job_id: each.response for each in seen if each is not None and each.response}
        given = {job_id: short[job_id] for job_id in sizes.keys() & short.keys()}
        small = [job_id for job_id, size_bytes in sizes.items() if size_bytes <= LARGE_BYTES and job_id not in given]
        given |= await self._shelf.answers(model_name, small, sum(sizes[job_id] for job_id in small))
        for job_id, size_bytes in sizes.items():
            if size_bytes > LARGE_BYTES:
                given[job_id] = await self._shelf.value(model_name, "a", job_id, size_bytes)
        return given

    def _records(self, seen: Sequence[Seen | None], given: Mapping[str, bytes] | None) -> list[Record | None]:
        return [None if each is None else self._record(each, given) for each in seen]

    def _record(self, seen: Seen, given: Mapping[str, bytes] | None) -> Record:
        header, end = seen.header, seen.end
        if end is None:
            job_id, state = bytes.fromhex(header.job_id), State.RUNNING if seen.held else State.QUEUED
            return Record(job_id=job_id, state=state, attempts=seen.attempts, submitted_ms=header.submitted_ms)
        if given is None or end.state is not State.ANSWERED:
            return ended(header, end)
        response = given.get(header.job_id, b"")
        if matches(response, end):
            return ended(header, end, response)
        record = ended(header, end)
        if not response and self._shelf.now_ms() >= end.kept_until_ms - SKEW_MS:
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
