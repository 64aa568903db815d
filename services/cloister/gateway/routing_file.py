"""The routing file of a gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cloister.gateway.followed_file import FollowedFile
from cloister.gateway.routing import Routing
from cloister.rpc.files import read_public


def routing_file(path: Path, route: Callable[[Routing], None]) -> FollowedFile:
    """Have `route` told of each routing that the file holds; what makes no sense is `routing.invalid`."""

    async def use(content: bytes) -> Mapping[str, object]:
        route(Routing.parse(content))
        return {}

    return FollowedFile(path, "routing", read_public, use)
