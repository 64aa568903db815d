"""How runners take jobs from Redis, hold them, and give them back (claim_scripts)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cloister.errors import CloisterError, SealBroken
from cloister.gateway.jobs.job import Claimed, State, expired_job
from cloister.gateway.jobs.keeping import claim_scripts
from cloister.gateway.jobs.keeping.ends import Ends, Finish
from cloister.gateway.jobs.keeping.records import Header
from cloister.gateway.jobs.keeping.scripts import LARGE_BYTES
from cloister.gateway.jobs.keeping.shelf import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    OFF_LOOP_BYTES,
    PRIORITIES,
    Shelf,
    malformed,
    parts,
    rows,
    texts,
)
from cloister.kit.redis import Word

_CONSUMER: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# Of eight turns normal jobs come first in one and low ones in one, so that none of a tenant's waits for ever.
_NORMAL_FIRST: Final = ("normal", "high", "low")
_LOW_FIRST: Final = ("low", "normal", "high")
_TURNS: Final = (*(PRIORITIES,) * 3, _NORMAL_FIRST, *(PRIORITIES,) * 3, _LOW_FIRST)


@dataclass(slots=True)
class _Sorted:
    """What has become of entries that were taken."""

    given: list[Claimed] = field(default_factory=list)
    refused: list[Word] = field(default_factory=list)
    over: list[Finish] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


class Claims:
    """Jobs that one runner takes.

    Args:
        consumer: The runner's name, which it keeps when it starts again.
    """

    def __init__(self, shelf: Shelf, ends: Ends, consumer: str) -> None:
        if not _CONSUMER.fullmatch(consumer):
            raise ValueError("the name of a consumer is letters, digits, dots, dashes and underscores, 63 at most")
        self._shelf = shelf
        self._ends = ends
        self._consumer = consumer
        self._turns: dict[str, int] = {}
        self._cursors: dict[str, str] = {}

    async def recover(self, model_name: str, held: Sequence[Claimed]) -> int:
        """See `JobStore`."""
        kept = [each.entry_id for each in held]
        freed = await self._shelf.run(model_name, claim_scripts.RECOVER, self._consumer, *kept)
        if not isinstance(freed, int):
            raise malformed()
        return freed

    async def claim(self, model_name: str, most: int, block_ms: int, *, kept_bytes: int) -> list[Claimed]:
        """See `JobStore`."""
        ends_at_s = time.monotonic() + block_ms / 1000
        while True:
            turn = self._turns.get(model_name, 0)
            self._turns[model_name] = (turn + 1) % len(_TURNS)
            words = (self._consumer, min(most, MAX_BATCH), MAX_BATCH_BYTES, kept_bytes, *_TURNS[turn])
            counts, marks, packed = parts(await self._shelf.run(model_name, claim_scripts.CLAIM, *words), 3)
            self._shelf.told(model_name, counts)
            given = await self._given(model_name, packed)
            left_ms = int((ends_at_s - time.monotonic()) * 1000)
            if given or left_ms <= 0:
                return given
            if not packed:
                news, until_ms = _marks(marks, left_ms)
                await self._shelf.wait(model_name, "news", news, until_ms)

    async def reclaim(self, model_name: str, most: int, idle_ms: int) -> list[Claimed]:
        """See `JobStore`."""
        words = (self._consumer, min(most, MAX_BATCH), MAX_BATCH_BYTES, idle_ms, self._cursors.get(model_name, "0-0"))
        counts, mark, packed = parts(await self._shelf.run(model_name, claim_scripts.RECLAIM, *words), 3)
        self._shelf.told(model_name, counts)
        (self._cursors[model_name],) = parts(texts(mark), 1)
        return await self._given(model_name, packed)

    async def renew(self, model_name: str, claimed: Sequence[Claimed]) -> None:
        """See `JobStore`."""
        for part in _parts(claimed):
            entries = [each.entry_id for each in part]
            await self._shelf.run(model_name, claim_scripts.RENEW, self._consumer, *entries)

    async def give_back(self, model_name: str, claimed: Sequence[Claimed], *, counted: bool, pause_s: float) -> None:
        """See `JobStore`."""
        how = (0 if counted else -1, int(pause_s * 1000))
        for part in _parts(claimed):
            entries = [word for each in part for word in (each.entry_id, each.job.job_id.hex())]
            await self._shelf.run(model_name, claim_scripts.GIVE_BACK, self._consumer, *how, *entries)

    async def _given(self, model_name: str, packed: object) -> list[Claimed]:
        """Jobs that may be given out; the others are dropped, or ended."""
        found = rows(packed, 8)
        if not found:
            return []
        found = [await self._whole(model_name, row) for row in found]
        now_ms = self._shelf.now_ms()
        if sum(len(row[3]) for row in found) > OFF_LOOP_BYTES:
            split = await asyncio.to_thread(self._sorted, model_name, found, now_ms)
        else:
            split = self._sorted(model_name, found, now_ms)
        for reason in split.dropped:
            self._shelf.drop(reason, model_name)
        if split.refused:
            await self._shelf.run(model_name, claim_scripts.DROP, *split.refused)
        if split.over:
            await self._ends.finish(model_name, split.over, anew=False)
        return split.given

    async def _whole(self, model_name: str, row: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """With its request, where that is large."""
        entry, job_id, sealed, request, *rest = row
        if request:
            return row
        try:
            header = self._shelf.records.open_header(sealed, model_name)
        except SealBroken:
            return row
        if header.size_bytes <= LARGE_BYTES:
            return row
        return (
            entry,
            job_id,
            sealed,
            await self._shelf.value(model_name, "q", header.job_id, header.size_bytes),
            *rest,
        )

    def _sorted(self, model_name: str, found: Sequence[tuple[bytes, ...]], now_ms: int) -> _Sorted:
        split = _Sorted()
        for row in found:
            reference = row[0].decode("ascii", "replace")
            try:
                header = self._header(model_name, row, now_ms, split)
            except SealBroken as error:
                split.dropped.append(error.reason)
                split.refused.append(reference)
                continue
            self._sort(header, reference, row, now_ms, split)
        return split

    def _header(self, model_name: str, row: tuple[bytes, ...], now_ms: int, split: _Sorted) -> Header:
        """The header of a job whose turn it is; raises SealBroken for anything else."""
        _, job_id, sealed, _, _, end, detour, proof = row
        records = self._shelf.records
        header = records.open_header(sealed, model_name)
        if header.job_id != job_id.decode("ascii", "replace"):
            raise SealBroken(reason="job.moved")
        if end:
            try:
                records.open_end(header, end)
            except SealBroken as error:
                split.dropped.append(error.reason)
            else:
                raise SealBroken(reason="job.doubled")
        records.check_turn(header, detour, proof, now_ms)
        return header

    def _sort(self, header: Header, reference: str, row: tuple[bytes, ...], now_ms: int, split: _Sorted) -> None:
        """Give a job out, unless it is too late, or its request is another."""
        _, _, sealed, request, attempt, end, _, _ = row
        error: CloisterError
        try:
            job = header.job(request)
        except SealBroken as broken:
            split.dropped.append(broken.reason)
            error = broken
        else:
            if now_ms < header.not_after_ms:
                split.given.append(Claimed(job, reference, _attempt(attempt), sealed))
                return
            error = expired_job()
        over = Finish(
            header=header,
            state=State.DEAD,
            attempts=_attempt(attempt) - 1,
            error=error,
            entry=reference,
            junk=end,
        )
        split.over.append(over)


def _marks(marks: object, most_ms: int) -> tuple[str, int]:
    """The last news, and how long to wait for more: no longer than until something that was put off is due."""
    news, *due_ms = texts(marks)
    if not all(each.isdigit() for each in due_ms):
        raise malformed()
    return news, min([most_ms, *map(int, due_ms)])


def _attempt(text: bytes) -> int:
    if not text.isdigit():
        raise malformed()
    return max(1, int(text))


def _parts(claimed: Sequence[Claimed]) -> list[Sequence[Claimed]]:
    return [claimed[at : at + MAX_BATCH] for at in range(0, len(claimed), MAX_BATCH)]
