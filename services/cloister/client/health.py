"""The standard health call (grpc.health.v1), which every service answers to any identity of the mesh.

Two messages of one field each are not worth a dependency: the request that asks for the whole server is empty, and an
answer is field 1 with the status as a varint (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import grpc.aio

from cloister.errors import CloisterError
from cloister.rpc.channel import Peer

METHOD: Final = "/grpc.health.v1.Health/Check"
SERVING: Final = b"\x08\x01"


class HealthStub:
    """As a generated stub would be, with bytes for messages."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.check: Callable[..., Awaitable[bytes]] = channel.unary_unary(METHOD)


async def is_serving(peer: Peer, timeout_s: float) -> bool:
    """Whether the peer answers within `timeout_s` that it is serving."""
    try:
        return await peer.stub(HealthStub).check(b"", timeout=timeout_s) == SERVING
    except (CloisterError, TimeoutError):
        return False
