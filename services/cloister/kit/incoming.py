"""What has arrived of requests and has not been read: whole messages out of bytes in any pieces, counted by peer.

A message is cut out when it is asked for, not when it arrives: a chunk of a hundred thousand empty messages costs as
much as one. What waits counts against its peer until it is read, so that nobody fills our memory with beginnings.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import grpc

from cloister.errors import Overloaded

AHEAD_BYTES: Final = 256 << 10
"""More than this is left to flow control, as long as nobody waits for a message."""
PREFIX_BYTES: Final = 5

Refusal = tuple[grpc.StatusCode, str]


class Arrivals:
    """Counts the bytes of all calls that nobody has read yet.

    Args:
        most_bytes: In all; one peer may have half.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._by_peer: dict[bytes, int] = {}
        self._bytes = 0

    def add(self, peer: bytes, size_bytes: int) -> None:
        """Count what has come.

        Raises:
            Overloaded: It is too much; nothing is counted.
        """
        held = self._by_peer.get(peer, 0) + size_bytes
        if held > self._most_bytes // 2 or self._bytes + size_bytes > self._most_bytes:
            raise Overloaded("too much is arriving at a time", reason="arrivals.full")
        self._by_peer[peer] = held
        self._bytes += size_bytes

    def remove(self, peer: bytes, size_bytes: int) -> None:
        """Count what has been read, or will not be."""
        self._bytes -= size_bytes
        left = self._by_peer.pop(peer, 0) - size_bytes
        if left > 0:
            self._by_peer[peer] = left


class Incoming:
    """The requests of one call.

    Args:
        peer: Whose they are, by whatever tells peers apart.
        arrivals: Counts them with those of all others.
        max_message_bytes: Larger messages are refused before they are held.

    Attributes:
        refusal: Why nothing more is taken, once that is so.
    """

    def __init__(self, peer: bytes, arrivals: Arrivals, max_message_bytes: int) -> None:
        self.refusal: Refusal | None = None
        self._peer = peer
        self._arrivals = arrivals
        self._max_message_bytes = max_message_bytes
        self._messages: deque[bytes] = deque()
        self._rest = bytearray()  # behind them
        self._held_bytes = 0
        self._closed = False

    @property
    def has_room(self) -> bool:
        """Whether to take more although nobody waits for it."""
        return self._held_bytes < AHEAD_BYTES and self.refusal is None

    @property
    def within_message(self) -> bool:
        """Whether the beginning of a message has come, and its end has not."""
        return bool(self._rest)

    def feed(self, chunk: bytes) -> None:
        """Take what has come."""
        if self.refusal is not None or self._closed:
            return
        size = len(chunk)
        try:
            self._arrivals.add(self._peer, size)
        except Overloaded as error:
            self._refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            return
        self._held_bytes += size
        if not self._rest and size >= PREFIX_BYTES and self._length(chunk) == size - PREFIX_BYTES:
            self._messages.append(chunk[PREFIX_BYTES:])  # nearly always: one whole message, copied once
        else:
            self._rest += chunk

    def take(self) -> bytes | None:
        """The next whole message, if there is one."""
        message = self._messages.popleft() if self._messages else self._cut()
        if message is not None:
            self._count_out(len(message) + PREFIX_BYTES)
        return message

    def close(self) -> None:
        """The call has ended, and whatever is left of it is forgotten."""
        self._closed = True
        self._forget()

    def _cut(self) -> bytes | None:
        if self.refusal is not None or len(self._rest) < PREFIX_BYTES:
            return None
        stop = PREFIX_BYTES + self._length(self._rest)
        if self.refusal is not None or stop > len(self._rest):
            return None
        message = bytes(memoryview(self._rest)[PREFIX_BYTES:stop])
        del self._rest[:stop]  # moves the beginning, not the bytes
        return message

    def _length(self, data: bytes | bytearray) -> int:
        length = int.from_bytes(data[1:PREFIX_BYTES], "big")
        if data[0]:
            self._refuse(grpc.StatusCode.UNIMPLEMENTED, "compressed messages are not taken")
        elif length > self._max_message_bytes:
            text = f"Received message larger than max ({length} vs. {self._max_message_bytes})"
            self._refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        return length if self.refusal is None else 0

    def _refuse(self, code: grpc.StatusCode, details: str) -> None:
        self.refusal = (code, details)

    def _forget(self) -> None:
        self._messages.clear()
        self._rest = bytearray()
        self._count_out(self._held_bytes)

    def _count_out(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
        self._arrivals.remove(self._peer, size_bytes)
