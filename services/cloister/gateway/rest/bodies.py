"""The bodies of requests: bounded as they come and as they inflate, and counted by peer while they are held."""

from __future__ import annotations

import zlib
from typing import Final

from cloister.errors import InvalidRequest
from cloister.kit.grpc_http import Receive
from cloister.kit.incoming import Arrivals

PIECE_BYTES: Final = 1 << 20
_AUTOMATIC: Final = 47  # gzip or zlib, whichever it is
_TOO_LARGE: Final = "request.too_large"
CODINGS: Final = frozenset({"gzip", "deflate"})


class Body:
    """The body of one request.

    Args:
        receive: As ASGI has it.
        peer: Whose it counts as.
        arrivals: Counts it with those of all others.
        max_bytes: The most that it may have, and the most that it may inflate to.
    """

    def __init__(self, receive: Receive, peer: bytes, arrivals: Arrivals, max_bytes: int) -> None:
        self._receive = receive
        self._peer = peer
        self._arrivals = arrivals
        self._max_bytes = max_bytes
        self._held_bytes = 0

    async def read(self, length: str | None) -> bytes:
        """All of it.

        Args:
            length: What the header Content-Length says.

        Raises:
            InvalidRequest: It is too large.
            Overloaded: Too much is arriving.
            ConnectionResetError: The client has gone.
        """
        if length is not None and length.isdecimal() and int(length[:20]) > self._max_bytes:
            raise _too_large(self._max_bytes)
        pieces: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            piece = message.get("body", b"")
            self._hold(len(piece))
            pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def inflated(self, body: bytes) -> bytes:
        """What a body of a known coding says; takes long for a large one.

        Raises:
            InvalidRequest: It is not of that coding, or inflates to too much.
        """
        inflating = zlib.decompressobj(_AUTOMATIC)
        pieces: list[bytes] = []
        size = 0
        try:
            while not inflating.eof:
                piece = inflating.decompress(body, PIECE_BYTES)
                body = inflating.unconsumed_tail
                size += len(piece)
                if size > self._max_bytes:
                    raise _too_large(self._max_bytes)
                if not piece and not body:
                    raise InvalidRequest("the body ends within its content coding", reason="body.malformed")
                pieces.append(piece)
        except zlib.error:
            raise InvalidRequest("the body is not of its content coding", reason="body.malformed") from None
        if inflating.unused_data or body:
            raise InvalidRequest("something follows the end of the content coding", reason="body.malformed")
        return b"".join(pieces)

    def grown(self, body: bytes) -> bytes:
        """Count a body by its inflated size from now on; raises Overloaded if that is too much."""
        self._arrivals.add(self._peer, max(0, len(body) - self._held_bytes))
        self._held_bytes = max(self._held_bytes, len(body))
        return body

    def close(self) -> None:
        """It is held no longer."""
        self._arrivals.remove(self._peer, self._held_bytes)
        self._held_bytes = 0

    def _hold(self, size_bytes: int) -> None:
        if self._held_bytes + size_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._arrivals.add(self._peer, size_bytes)
        self._held_bytes += size_bytes


def _too_large(most: int) -> InvalidRequest:
    return InvalidRequest(f"the request is larger than {most} bytes", reason=_TOO_LARGE)
