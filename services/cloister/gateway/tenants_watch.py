"""The tenants file of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from cloister.gateway.followed_file import FollowedFile
from cloister.gateway.tenant_file import TenantsFile
from cloister.rpc.files import read_guarded


def tenants_watch(path: Path, cluster: str, adopt: Callable[[TenantsFile, Path], Awaitable[None]]) -> FollowedFile:
    """Have `adopt` told of each content, and of the file's folder; it may still refuse it.

    Args:
        path: Not to be written by others.
        cluster: Whose certificates may be in it.
        adopt: See above; a content that makes no sense is `tenants.invalid`.
    """

    async def use(content: bytes) -> Mapping[str, object]:
        file = await asyncio.to_thread(TenantsFile.parse, content, path, cluster)
        await adopt(file, path.parent)
        return {"tenants": len(file.tenants)}

    return FollowedFile(path, "tenants", read_guarded, use)
