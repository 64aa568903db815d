"""One gRPC call that an HTTP/2 server hands over by ASGI, with the face that `grpc.aio` gives a handler.

So the same guard and the same handlers serve calls of either server. Framing and trailers are those of
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md; what arrives and leaves is bounded by what was read and
taken, so HTTP/2's flow control reaches both ends. Nothing here runs a task of its own: the server's futures call back.

Of a client that has sent all it had to send, pyvoy does not say by itself that it has gone: it must be asked (`look`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote_to_bytes

import grpc
import grpc.aio

from cloister.errors import CloisterError, InvalidRequest
from cloister.kit.incoming import PREFIX_BYTES, Arrivals, Incoming
from cloister.rpc.identity import PeerIdentity

PEER_HEADER: Final = "x-cloister-peer"
"""The client's certificate, PEM, percent-encoded: set by the server that verified it, never by a client."""
MESSAGE_S: Final = 60.0
"""Longest that the rest of a message may take on a stream, while we wait for it."""
WRITE_AHEAD_BYTES: Final = 256 << 10
PIECE_BYTES: Final = 256 << 10
"""A large answer leaves in pieces, and the call is not done before a client has taken nearly all of them."""

_PEER: Final = PEER_HEADER.encode()
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S: Final[Mapping[bytes, float]] = {b"H": 3600, b"M": 60, b"S": 1, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_OK: Final = ((b"grpc-status", b"0"),)
_CONTENT_TYPE: Final = (b"content-type", b"application/grpc")

_NO_METADATA: Final = frozenset({b"host", b"te", b"content-type", _PEER})

T = TypeVar("T")
Metadata = Iterable[tuple[str, str | bytes]]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class HttpCall:
    """The server's side of one call.

    Args:
        scope: Of an ASGI HTTP connection.
        receive: Acts when it is called, before it is awaited.
        send: As ASGI has it.
        max_message_bytes: Larger ones are refused before they are held.
        arrivals: Counts what has come and has not been read.
        peer: Whose it counts as there.
        identity: Who calls, where the host or its credentials have said so.
    """

    def __init__(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
        max_message_bytes: int,
        arrivals: Arrivals,
        peer: bytes = b"",
        identity: PeerIdentity | CloisterError | None = None,
    ) -> None:
        self.identity = identity
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive
        self._send = send
        self._incoming = Incoming(peer, arrivals, max_message_bytes)
        self._reading_since_s = math.inf
        self._begun_s = self._began_s  # the message of which a part has come
        self._task = asyncio.current_task(self._loop)
        self._coming: asyncio.Future[Message] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._half_closed = self._gone = self._started = self._answered = False
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._flushing = False
        self._code: grpc.StatusCode | None = None
        self._trailing: Metadata = ()
        self._parse: Callable[[bytes], Any] | None = None
        self._serialize: Callable[[Any], bytes] | None = None

    async def answer(self, handler: Any) -> None:
        """Serve the call.

        Args:
            handler: A `grpc.RpcMethodHandler` of the shape stream-unary or stream-stream; None for an unknown method.
        """
        try:
            self._await_more()
            if handler is None:
                await self.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            elif handler.response_streaming:
                self._parse, self._serialize = handler.request_deserializer, handler.response_serializer
                await handler.stream_stream(self._requests(), self)
                await self._drained()
                await self._finish(_OK)
            else:
                self._parse = handler.request_deserializer
                await self._respond(await handler.stream_unary(self._requests(), self))
        except grpc.aio.AbortError:
            pass  # answered
        except asyncio.CancelledError:
            if not self._gone:
                raise
        finally:
            self._incoming.close()

    async def refuse(self, code: grpc.StatusCode, details: str) -> None:
        """End the call before anything of it is read."""
        with contextlib.suppress(grpc.aio.AbortError):
            await self.abort(code, details)

    def look(self) -> None:
        """Ask whether the client is still there, and cancel the call if it is not; returns at once.

        A message that has begun and does not end is given up, too.
        """
        if self._coming is None and self._half_closed and not self._answered and not self._gone:
            self._ask()
        waiting_since_s = max(self._reading_since_s, self._begun_s)
        if self._incoming.within_message and self._loop.time() - waiting_since_s > MESSAGE_S:
            self._incoming.refusal = (grpc.StatusCode.DEADLINE_EXCEEDED, "a message took too long to arrive")
            self._wake()

    # What handlers see; names and meaning are those of `grpc.aio.ServicerContext`.

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF` once the client has closed its half."""
        message = self._incoming.take()
        if message is None:
            message = await self._next()
            if message is None:
                return grpc.aio.EOF
        self._await_more()
        return message if self._parse is None else self._parse(message)

    async def write(self, message: Any) -> None:
        """Send a message; those of one turn of the loop leave together. Waits while too much has not left."""
        raw = message if self._serialize is None else self._serialize(message)
        self._unsent += (_prefix(raw), raw)
        self._unsent_bytes += len(raw) + PREFIX_BYTES
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._unsent_bytes > WRITE_AHEAD_BYTES:
            await self._drained()

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        """End the call with a status; raises `grpc.aio.AbortError`."""
        self._code = code
        message = quote(details, safe=_PRINTABLE).encode()
        status = ((b"grpc-status", str(code.value[0]).encode()), (b"grpc-message", message))
        self._trailing = trailing_metadata or self._trailing
        if self._unsent or self._flushing:
            await self._drained()
        await self._finish(status)
        raise grpc.aio.AbortError("the call was ended with a status")

    def code(self) -> grpc.StatusCode | None:
        """The status it was ended with."""
        return self._code

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline, or None where it has set none.

        Raises:
            InvalidRequest: The deadline is malformed.
        """
        value = self._header(b"grpc-timeout")
        if value is None:
            return None
        found = _TIMEOUT.fullmatch(value)
        if found is None:
            raise InvalidRequest("grpc-timeout is not a number and a unit")
        return self._began_s + int(found[1]) * _UNIT_S[found[2]] - self._loop.time()

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """The client's certificate, as `x509_pem_cert`."""
        value = self._header(_PEER)
        return {"x509_pem_cert": (_pem(value),)} if value else {}

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """What the client sent along."""
        return metadata_of(self._headers)

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Send this at the end."""
        self._trailing = trailing_metadata

    async def _requests(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    def _header(self, name: bytes) -> bytes | None:
        for known, value in self._headers:
            if known == name:
                return value
        return None

    # Towards us.

    async def _next(self) -> bytes | None:
        self._reading_since_s = self._loop.time()
        try:
            while (message := self._incoming.take()) is None:
                if self._incoming.refusal is not None:
                    await self.abort(*self._incoming.refusal)
                if self._half_closed:
                    return None
                self._await_more()
                await self._changed()
            return message
        finally:
            self._reading_since_s = math.inf

    def _await_more(self) -> None:
        """Have the next piece of the body announced to us, unless enough waits."""
        wanted = self._incoming.has_room or self._reading_since_s < math.inf
        if wanted and self._coming is None and not self._half_closed and not self._gone:
            self._ask()

    def _ask(self) -> None:
        # Of a request that ended with its headers, pyvoy gives no future, only something to await.
        self._coming = as_future(self._receive())
        self._coming.add_done_callback(self._arrived)

    def _arrived(self, coming: asyncio.Future[Message]) -> None:
        self._coming = None
        if coming.cancelled() or coming.exception() is not None or coming.result()["type"] == "http.disconnect":
            self._gone = True
            if not self._answered and self._task is not None:
                self._task.cancel()
        else:
            event = coming.result()
            if not self._incoming.within_message:
                self._begun_s = self._loop.time()
            self._incoming.feed(event.get("body", b""))
            self._half_closed |= not event.get("more_body", False)
            self._await_more()
        self._wake()

    # From us.

    def _flush(self) -> None:
        if not self._unsent or self._answered:
            self._flushing = False
            self._wake()
            return
        body = b"".join(self._unsent)
        self._unsent.clear()
        self._unsent_bytes = 0
        self._begin(trailers=True)
        sent = as_future(self._send({"type": "http.response.body", "body": body, "more_body": True}))
        sent.add_done_callback(self._flushed)

    def _flushed(self, sent: asyncio.Future[None]) -> None:
        if sent.cancelled() or sent.exception() is not None:
            self._gone = True
            self._flushing = False
            if self._task is not None:
                self._task.cancel()
            return
        self._flush()
        self._wake()

    def _begin(self, *, trailers: bool, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        if not self._started:
            self._started = True
            start = {
                "type": "http.response.start",
                "status": 200,
                "headers": [_CONTENT_TYPE, *headers],
                "trailers": trailers,
            }
            self._send(start)  # pyvoy acts when it is called; there is nothing to wait for

    async def _respond(self, raw: bytes) -> None:
        self._begin(trailers=True)
        body = _prefix(raw) + raw
        for start in range(0, len(body) - PIECE_BYTES, PIECE_BYTES):  # each waits until the one before has left
            await self._send(
                {"type": "http.response.body", "body": body[start : start + PIECE_BYTES], "more_body": True}
            )
        last = -(-len(body) // PIECE_BYTES) * PIECE_BYTES - PIECE_BYTES
        await self._send({"type": "http.response.body", "body": body[last:]})
        await self._trailers(_OK)

    async def _finish(self, status: Iterable[tuple[bytes, bytes]]) -> None:
        if self._gone or self._answered:
            return
        if not self._started:  # headers and trailers in one
            self._begin(trailers=False, headers=(*status, *_encoded(self._trailing)))
            self._answered = True
            await self._send({"type": "http.response.body", "body": b""})
            return
        await self._send({"type": "http.response.body", "body": b""})
        await self._trailers(status)

    async def _trailers(self, status: Iterable[tuple[bytes, bytes]]) -> None:
        self._answered = True
        headers = [*status, *_encoded(self._trailing)]
        await self._send({"type": "http.response.trailers", "headers": headers, "more_trailers": False})

    async def _drained(self) -> None:
        while self._flushing and not self._gone:
            await self._changed()

    async def _changed(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def metadata_of(headers: Iterable[tuple[bytes, bytes]]) -> Sequence[tuple[str, str | bytes]]:
    """What the client sent along, without what is HTTP's, gRPC's or ours; malformed binary values are left out."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name in _NO_METADATA or name.startswith(b"grpc-"):
            continue
        key = name.decode("ascii", "replace")
        if not key.endswith("-bin"):
            found.append((key, value.decode("latin-1")))
            continue
        try:
            found.append((key, base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)))
        except ValueError:
            continue
    return found


def _encoded(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    pairs = []
    for key, value in metadata:
        raw = value.encode("ascii") if isinstance(value, str) else value
        pairs.append((key.encode("ascii"), base64.b64encode(raw).rstrip(b"=") if key.endswith("-bin") else raw))
    return pairs


def as_future(awaitable: Awaitable[T]) -> asyncio.Future[T]:
    """What can be called back when it is done; pyvoy's own futures as they are."""
    return awaitable if isinstance(awaitable, asyncio.Future) else asyncio.ensure_future(_awaited(awaitable))


async def _awaited(awaitable: Awaitable[T]) -> T:
    """Of pyvoy's own awaitables `asyncio.ensure_future` makes nothing: they can be awaited, not iterated."""
    return await awaitable


def _prefix(raw: bytes) -> bytes:
    return b"\0" + len(raw).to_bytes(4, "big")


@functools.lru_cache(maxsize=1024)  # a client sends the same certificate with every request
def _pem(encoded: bytes) -> bytes:
    return unquote_to_bytes(encoded)
