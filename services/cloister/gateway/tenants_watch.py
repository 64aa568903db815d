"""The tenants file of a gateway, read again whenever its content changes. Each gateway process watches for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from cloister.errors import CloisterError
from cloister.gateway.tenant_file import TenantsFile
from cloister.kit.log import get_logger
from cloister.rpc.files import read_guarded

POLL_S: Final = 0.5
_log = get_logger()


class TenantsWatch:
    """Hands on what is in the file, at first and after each change.

    Args:
        path: Replaced whole by whoever writes it.
        cluster: Whose certificates may be in it.
        use: Told of each content that makes sense, and of its folder; may still refuse it.
    """

    def __init__(self, path: Path, cluster: str, use: Callable[[TenantsFile, Path], Awaitable[None]]) -> None:
        self._path = path
        self._cluster = cluster
        self._use = use
        self._seen = b""

    async def read(self) -> None:
        """Read it now, for the first time.

        Raises:
            NotReady: It is missing or too large, or others may write it.
            InvalidRequest: It makes no sense (`tenants.invalid`).
        """
        self._seen = await asyncio.to_thread(read_guarded, self._path)
        file = await asyncio.to_thread(TenantsFile.parse, self._seen, self._path, self._cluster)
        await self._use(file, self._path.parent)

    async def watching(self) -> None:
        """Look for changes for as long as the service runs; what makes no sense changes nothing, and is said once."""
        said = ""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._look()
            except CloisterError as error:
                if str(error) != said:
                    _log.warning("tenants.kept", file=str(self._path), error=error)
                said = str(error)
            else:
                said = ""

    async def _look(self) -> None:
        content = await asyncio.to_thread(read_guarded, self._path)
        if content != self._seen:
            file = await asyncio.to_thread(TenantsFile.parse, content, self._path, self._cluster)
            await self._use(file, self._path.parent)
            self._seen = content
            _log.info("tenants.changed", tenants=len(file.tenants))
