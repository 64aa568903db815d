"""How jobs end in Redis, and what is told of them (end_scripts)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cloister.errors import CloisterError, SealBroken, Unavailable
from cloister.gateway.jobs.job import Ending, Record, State, expired_job
from cloister.gateway.jobs.keeping import end_scripts
from cloister.gateway.jobs.keeping.records import SKEW_MS, Header
from cloister.gateway.jobs.keeping.shelf import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    OFF_LOOP_BYTES,
    Shelf,
    malformed,
    parts,
    rows,
)
from cloister.gateway.jobs.keeping.view import Seen, View
from cloister.kit.redis import Word

_EXPIRED_AFTER_MS: Final = 2_000
"""An answer that was on its way in time may still come in."""
_TRIES: Final = 16
_EXPIRED_AT_ONCE: Final = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is in its row, as Redis has it.

    Attributes:
        detour: Of the job.
        next_id: Of the job after it; empty for none.
        next_detour: That one's, once this job is taken out.
    """

    detour: bytes = b""
    next_id: str = ""
    next_detour: bytes = b""


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """How one job is to end.

    Attributes:
        entry: Of a claimed job.
        junk: The end that is there, and not to be believed.
        place: In its row, if it is not the first.
    """

    header: Header
    state: State
    attempts: int
    response: bytes = field(default=b"", repr=False)
    error: BaseException | None = None
    entry: str = ""
    junk: bytes = b""
    place: Place = NOWHERE


class Ends:
    """Ends jobs."""

    def __init__(self, shelf: Shelf, view: View) -> None:
        self._shelf = shelf
        self._view = view

    async def settle(self, model_name: str, endings: Sequence[Ending]) -> None:
        """See `JobStore`."""
        finishes = [
            Finish(
                header=self._shelf.records.open_header(each.claimed.header, model_name),
                state=State.DEAD if each.error is not None else State.ANSWERED,
                attempts=each.claimed.attempt,
                response=each.response,
                error=each.error,
                entry=each.claimed.entry_id,
            )
            for each in endings
        ]
        await self.finish(model_name, finishes, anew=True)

    async def finish(self, model_name: str, finishes: Sequence[Finish], *, anew: bool) -> None:
        """End jobs that have not ended; with `anew` also those of which Redis knows nothing any more."""
        for part in _parts(finishes):
            left = part if anew else await self._placed(model_name, part)
            for _ in range(_TRIES):
                left = await self._placed(model_name, await self._send(model_name, left, anew=anew))
                if not left:
                    break
            else:
                raise Unavailable("the row changes all the time; try again", reason="row.busy")

    async def _send(self, model_name: str, part: list[Finish], *, anew: bool) -> list[Finish]:
        """One call of the script; returns what is to be sent again."""
        if sum(len(each.response) for each in part) > OFF_LOOP_BYTES:
            words = await asyncio.to_thread(self._words, part)
        else:
            words = self._words(part)
        counts, packed = parts(await self._shelf.run(model_name, end_scripts.SETTLE, int(anew), *words), 2)
        self._shelf.told(model_name, counts)
        answers = rows(packed, 2)
        if len(answers) != len(part):
            raise malformed()
        again: list[Finish] = []
        for each, (became, held) in zip(part, answers, strict=True):
            if became == b"moved":
                again.append(each)
            elif became == b"ended" and self._view.end(each.header, held) is None:
                again.append(replace(each, junk=held))
        return again

    def _words(self, part: Sequence[Finish]) -> list[Word]:
        words: list[Word] = []
        records, now_ms = self._shelf.records, self._shelf.now_ms()
        for each in part:
            header = each.header
            end = records.end(
                header, each.state, now_ms=now_ms, attempts=each.attempts, response=each.response, error=each.error
            )
            kept_ms = header.result_ttl_s * 1000
            record_ms = max(kept_ms, header.not_after_ms - now_ms + SKEW_MS)
            words += (header.sealed, end, each.response, each.entry, each.junk, each.state.value, record_ms, kept_ms)
            words += self._row(each) if header.row_name else (b"", b"", b"", b"")
        return words

    def _row(self, each: Finish) -> tuple[Word, ...]:
        """What the next of the row is told: that this one has ended; or, not being the first, what precedes it now."""
        proof = self._shelf.records.proof(each.header, each.header.job_id)
        return proof, each.place.detour, each.place.next_id, each.place.next_detour

    async def _placed(self, model_name: str, part: list[Finish]) -> list[Finish]:
        """With their places in rows as they are now."""
        words = [word for each in part if each.header.row_name for word in (each.header.row_name, each.header.job_id)]
        if not words:
            return part
        counts, packed = parts(await self._shelf.run(model_name, end_scripts.NEXT, *words), 2)
        self._shelf.told(model_name, counts)
        places = iter(parts(rows(packed, 4), len(words) // 2))
        return [replace(each, place=self._place(each, next(places))) if each.header.row_name else each for each in part]

    def _place(self, each: Finish, row: tuple[bytes, ...]) -> Place:
        detour, next_id, next_sealed, next_detour = row
        place = Place(detour, next_id.decode("ascii", "replace"))
        records = self._shelf.records
        try:
            before = records.predecessor(each.header, detour)
            after = records.open_header(next_sealed, each.header.model_name)
            if records.predecessor(after, next_detour).job_id != each.header.job_id:
                raise SealBroken(reason="row.forged")
        except SealBroken as error:
            if next_id:
                self._shelf.drop(error.reason, each.header.model_name, job=each.header.job_id)
            return place
        return replace(place, next_detour=records.detour(after, before))

    async def cancel(self, model_name: str, tenant: str, job_ids: Sequence[bytes]) -> list[Record | None]:
        """See `JobStore`."""
        found = await self._view.look(model_name, [job_id.hex() for job_id in job_ids], responses=False)
        own = [each for each in found if each is not None and each.end is None and each.header.tenant == tenant]
        await self.finish(model_name, [_finish(each, State.CANCELLED, None) for each in own], anew=False)
        return await self._view.read(model_name, tenant, job_ids, responses=False)

    async def forget(self, model_name: str, tenant: str, job_ids: Sequence[bytes]) -> None:
        """See `JobStore`."""
        for at in range(0, len(job_ids), MAX_BATCH):
            ids = [job_id.hex() for job_id in job_ids[at : at + MAX_BATCH]]
            await self._shelf.run(model_name, end_scripts.FORGET, tenant, *ids)

    async def expire(self, model_name: str) -> int:
        """See `JobStore`."""
        expired = 0
        await self._shelf.run(model_name, end_scripts.TRIM, self._shelf.now_ms() - end_scripts.DEAD_MS)
        while expired < _EXPIRED_AT_ONCE:
            due_ms = self._shelf.now_ms() - _EXPIRED_AFTER_MS
            counts, packed = parts(await self._shelf.run(model_name, end_scripts.OVERDUE, due_ms, MAX_BATCH), 2)
            self._shelf.told(model_name, counts)
            members = [row[0].decode("ascii", "replace") for row in rows(packed, 1)]
            if not members:
                break
            await self._expire(model_name, members, due_ms)
            expired += len(members)
        await self._shelf.run(model_name, end_scripts.RECOUNT)
        return expired

    async def _expire(self, model_name: str, members: Sequence[str], due_ms: int) -> None:
        """End jobs that are due; put right what Redis says of the others."""
        found = await self._view.look(model_name, [member.partition(" ")[0] for member in members], responses=False)
        believed: list[Finish] = []
        early: list[Word] = []
        lost: list[str] = []
        over: list[str] = []
        for member, seen in zip(members, found, strict=True):
            if seen is None:
                lost.append(member)
            elif seen.end is not None or seen.header.member != member:
                over.append(member)
            elif seen.header.not_after_ms > due_ms:
                early += (seen.header.not_after_ms, member)
            else:
                believed.append(_finish(seen, State.DEAD, expired_job()))
        await self.finish(model_name, believed, anew=False)
        if lost:
            self._shelf.drop("job.lost", model_name, len(lost))
            await self._shelf.run(model_name, end_scripts.LOSE, 1, *lost)
        if over:
            self._shelf.drop("job.doubled", model_name, len(over))
            await self._shelf.run(model_name, end_scripts.LOSE, 0, *over)
        if early:
            self._shelf.drop("job.early", model_name, len(early) // 2)
            await self._shelf.run(model_name, end_scripts.CORRECT, *early)


def _finish(seen: Seen, state: State, error: CloisterError | None) -> Finish:
    return Finish(header=seen.header, state=state, attempts=seen.attempts, error=error, junk=seen.junk)


def _parts(finishes: Sequence[Finish]) -> Iterator[list[Finish]]:
    """Ends as they go into one call each, bounded in number and bytes."""
    part: list[Finish] = []
    size = 0
    for each in finishes:
        if part and (len(part) >= MAX_BATCH or size + len(each.response) > MAX_BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(each)
        size += len(each.response)
    if part:
        yield part
