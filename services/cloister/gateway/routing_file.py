"""The routing file of a gateway, read again whenever its content changes. Each gateway process watches for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cloister.errors import CloisterError
from cloister.gateway.routing import Routing
from cloister.kit.log import get_logger
from cloister.rpc.files import read_public

POLL_S: Final = 0.5
_log = get_logger()


class RoutingFile:
    """Hands on what is in the file, at first and after each change.

    Args:
        path: Replaced whole by whoever writes it.
        use: Told of each content that makes sense.
    """

    def __init__(self, path: Path, use: Callable[[Routing], None]) -> None:
        self._path = path
        self._use = use
        self._seen = b""

    async def read(self) -> None:
        """Read it now, for the first time.

        Raises:
            NotReady: It is missing or too large.
            InvalidRequest: It makes no sense (`routing.invalid`).
        """
        self._seen = await asyncio.to_thread(read_public, self._path)
        self._use(Routing.parse(self._seen))

    async def watching(self) -> None:
        """Look for changes for as long as the service runs; what makes no sense changes nothing, and is said once."""
        said = ""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._look()
            except CloisterError as error:
                if str(error) != said:
                    _log.warning("routing.kept", file=str(self._path), error=error)
                said = str(error)
            else:
                said = ""

    async def _look(self) -> None:
        content = await asyncio.to_thread(read_public, self._path)
        if content != self._seen:
            self._use(Routing.parse(content))
            self._seen = content
            _log.info("routing.changed")
