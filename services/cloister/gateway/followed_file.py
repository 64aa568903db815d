"""A file that a gateway follows: read again whenever its content changes. Each gateway process follows for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from cloister.errors import CloisterError
from cloister.kit.log import get_logger
from cloister.kit.watched_file import WatchedFile

POLL_S: Final = 0.5
_log = get_logger()


class FollowedFile:
    """Hands on what is in the file, at first and after each change.

    Args:
        path: Replaced whole by whoever writes it.
        subject: What it is about, in the events `<subject>.changed` and `<subject>.kept`.
        read: Reads it, off the loop; raises NotReady.
        use: Told of each content; may refuse it by raising. What it returns is said with the change.
    """

    def __init__(
        self,
        path: Path,
        subject: str,
        read: Callable[[Path], bytes],
        use: Callable[[bytes], Awaitable[Mapping[str, object]]],
    ) -> None:
        self._path = path
        self._subject = subject
        self._file = WatchedFile(partial(read, path))
        self._use = use

    async def read(self) -> None:
        """Read it now, for the first time; raises what `read` and `use` raise."""
        await self._changed()

    async def watching(self) -> None:
        """Look for changes for as long as the service runs; what makes no sense changes nothing, and is said once."""
        said = ""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._look()
            except CloisterError as error:
                if str(error) != said:
                    _log.warning(f"{self._subject}.kept", file=str(self._path), error=error)
                said = str(error)
            else:
                said = ""

    async def _look(self) -> None:
        details = await self._changed()
        if details is not None:
            _log.info(f"{self._subject}.changed", **details)

    async def _changed(self) -> Mapping[str, object] | None:
        content = await asyncio.to_thread(self._file.changed)
        if content is None:
            return None
        try:
            return await self._use(content)
        except BaseException:  # what was refused is offered again, since what spoke against it may pass
            self._file.unread()
            raise
