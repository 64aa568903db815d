"""What waits in all, and what nobody will answer (view_scripts.COUNT, DEAD)."""

from __future__ import annotations

import re
from typing import Final

from cloister.errors import InvalidRequest, NotReady, SealBroken
from cloister.gateway.jobs.job import QueueCounts, Record
from cloister.gateway.jobs.keeping import view_scripts
from cloister.gateway.jobs.keeping.shelf import Shelf, malformed, parts, rows
from cloister.gateway.jobs.keeping.view import ended
from cloister.gateway.routing import NAME

MOST_LETTERS: Final = 1000
_RETIRED_AFTER_MS: Final = 3_600_000
_POINT: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


class Census:
    """Counts jobs, and lists dead letters."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def check_key(self) -> None:
        """Check that what is in this Redis was written under our shared key.

        Raises:
            NotReady: It was another: this gateway would drop all jobs as forged (`shared_key.other`).
        """
        ours = self._shelf.records.key_id
        theirs = await self._shelf.run_on(self._shelf.key_mark, view_scripts.MARK, ours)
        if theirs != ours.encode():
            raise NotReady(
                "the jobs in this Redis were kept under another shared_key: give all gateways the same; to begin anew "
                f"without those jobs, delete the keys '{self._shelf.key_mark.removesuffix('key')}*'",
                reason="shared_key.other",
            )

    async def queues(self) -> list[QueueCounts]:
        """See `JobStore`."""
        found: list[QueueCounts] = []
        for name, at in rows(await self._shelf.run_on(self._shelf.registry, view_scripts.MODELS), 2):
            model_name = name.decode("ascii", "replace")
            if not NAME.fullmatch(model_name):
                continue
            counts = await self._count(model_name)
            if counts.waiting or counts.running or counts.dead:
                found.append(counts)
            elif _ms(at) < self._shelf.now_ms() - _RETIRED_AFTER_MS:
                await self._retire(model_name, at)
        return sorted(found, key=lambda each: each.model_name)

    async def _count(self, model_name: str) -> QueueCounts:
        counts = parts(await self._shelf.run(model_name, view_scripts.COUNT), 5)
        if not all(isinstance(each, int) for each in counts):
            raise malformed()
        jobs, size_bytes, running, oldest_ms, dead = (max(0, each) for each in counts)
        return QueueCounts(
            model_name=model_name,
            waiting=max(0, jobs - running),
            running=running,
            size_bytes=size_bytes,
            oldest_s=oldest_ms / 1000,
            dead=dead,
        )

    async def _retire(self, model_name: str, at: bytes) -> None:
        if await self._shelf.run(model_name, view_scripts.RETIRE):
            await self._shelf.run_on(self._shelf.registry, view_scripts.UNREGISTER, model_name, at)

    async def dead_letters(self, model_name: str, after: str, most: int) -> tuple[str, list[tuple[str, Record]]]:
        """See `JobStore`."""
        if after and not _POINT.fullmatch(after):
            raise InvalidRequest("that is no place in the list of dead letters", reason="letters.after_invalid")
        most = min(most, MOST_LETTERS)
        packed = await self._shelf.run(model_name, view_scripts.DEAD, f"({after}" if after else "-", most)
        letters: list[tuple[str, Record]] = []
        found = rows(packed, 3)
        for _, sealed, sealed_end in found:
            try:
                header = self._shelf.records.open_header(sealed, model_name)
                end = self._shelf.records.open_end(header, sealed_end)
            except SealBroken as error:
                self._shelf.drop(error.reason, model_name)
            else:
                letters.append((header.tenant, ended(header, end)))
        return (found[-1][0].decode("ascii", "replace") if len(found) == most else ""), letters


def _ms(score: bytes) -> float:
    try:
        return float(score)
    except ValueError as error:
        raise malformed() from error
