"""What a link needs of the stream to its worker."""

from __future__ import annotations

from typing import Any, Protocol


class FrameStream(Protocol):
    """Both directions of the Link call, as serialised frames."""

    async def read(self) -> Any:
        """Return the next frame, or `grpc.aio.EOF` at the end."""

    async def write(self, frame: bytes) -> None:
        """Send one frame."""

    async def done_writing(self) -> None:
        """Close our half."""
