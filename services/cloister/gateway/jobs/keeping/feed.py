"""The feed of ends of one model: hints that something has ended (view_scripts.FOLLOW)."""

from __future__ import annotations

import re
from typing import Final

from cloister.errors import InvalidRequest, Unavailable
from cloister.gateway.jobs.job import JOB_ID_BYTES
from cloister.gateway.jobs.keeping import view_scripts
from cloister.gateway.jobs.keeping.shelf import Shelf, malformed, parts

_PAGES: Final = 64
_POINT: Final = re.compile(r"\$|[0-9]{1,20}-[0-9]{1,20}")


class Feed:
    """Tells which jobs have ended."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def ended_after(self, model_name: str, after: str, block_ms: int) -> tuple[str, list[bytes]]:
        """See `JobStore`."""
        if not _POINT.fullmatch(after):
            raise InvalidRequest("that is no point of the feed", reason="feed.point_invalid")
        point, ids = await self._look(model_name, after)
        if ids or point != after or block_ms <= 0:
            return point, ids
        await self._shelf.wait(model_name, "feed", after, block_ms)
        return await self._look(model_name, after)

    async def _look(self, model_name: str, after: str) -> tuple[str, list[bytes]]:
        missed, point, text = parts(await self._shelf.run(model_name, view_scripts.FOLLOW, after, _PAGES), 3)
        if not isinstance(point, bytes) or not isinstance(text, bytes):
            raise malformed()
        if missed:
            raise Unavailable("ends of jobs were missed; read the jobs", reason="jobs.feed_trimmed")
        ids = self._ids(model_name, text)
        return point.decode("ascii", "replace"), ids

    def _ids(self, model_name: str, text: bytes) -> list[bytes]:
        try:
            together = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            self._shelf.drop("feed.junk", model_name)
            return []
        return [together[at : at + JOB_ID_BYTES] for at in range(0, len(text) // 2, JOB_ID_BYTES)]
