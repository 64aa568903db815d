"""A client's handle on one peer: `Peer`.

Stubs made by it follow our own certificate (the channel is built anew when the identity changes, and the old one is
closed once its last call has ended), refuse a call without a deadline, and raise the errors of the house. A peer that
has several addresses is reached at the next one when a call finds nobody at the present one. A stub sees an ordinary
`grpc.aio.Channel`; there are no interceptors behind it, because each costs a task per call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import grpc
import grpc.aio

from cloister.errors import CloisterError, InternalError, Unavailable
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import ROLES
from cloister.rpc.status import from_rpc_error, told_by_peer

MAX_MESSAGE_BYTES: Final = (64 << 20) + (1 << 20)
# The deadline of a stream that stays open: a link, a watch. After a day it is simply opened again.
STREAM_S: Final = 86_400.0

_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Named after a backoff, and really how long one attempt may take, TLS included. Much less than this, and a busy
    # machine or a far peer never gets connected.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A host that went without a word is found out when it has acknowledged nothing for the second of these, or, where
    # we only wait, that long after a ping; servers of ours take a ping each 10 s for an attack if it comes any sooner.
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.absolute_max_metadata_size", 32 << 10),
)

T = TypeVar("T")
S = TypeVar("S")


class Peer:
    """One peer, reached over mutual TLS.

    Args:
        address: host:port; or several, all of the same peer, also as one word with commas: the next is taken, round and
            round, when a call finds nobody at the present one, or nobody who answers in time. The call itself fails;
            whoever may repeat it then reaches the next.
        identity: Who we are.
        server_name: DNS name that the peer's certificate must carry: `<role>.<cluster>`.
        max_message_bytes: Limit in both directions.
        options: Further channel arguments; they come last.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        identity: TlsIdentity,
        server_name: str,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        options: Sequence[tuple[str, int | str]] = (),
    ) -> None:
        self._addresses = tuple(dict.fromkeys(address.split(",") if isinstance(address, str) else address))
        if not self._addresses:
            raise ValueError("a peer has at least one address")
        self.address = self._addresses[0]
        self._identity = identity
        self._role = next((label for label in server_name.split(".") if label in ROLES), "")
        self._options = (
            *_OPTIONS,
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.ssl_target_name_override", server_name),
            ("grpc.default_authority", server_name),
            *options,
        )
        self._closers: asyncio.TaskGroup | None = None
        self._line: _Line | None = None
        self._retired: set[_Line] = set()

    async def __aenter__(self) -> Self:
        self._closers = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closers, self._closers = self._closers, None
        lines, self._line = self._retired | ({self._line} if self._line is not None else set()), None
        self._retired = set()
        try:
            for line in lines:
                await line.channel.close()
        finally:
            if closers is not None:
                # Without the body's own exception: the group would wrap it, and nothing in it waits for the body.
                await closers.__aexit__(None, None, None)

    def stub(self, stub_class: Callable[[grpc.aio.Channel], S]) -> S:
        """A stub of a generated class, whose calls go through this peer.

        Beside gRPC's own options, those with one request and one answer take `trailers`: called with what came after
        the answer.
        """
        return stub_class(cast(grpc.aio.Channel, _Lines(self)))

    async def ready(self, timeout_s: float) -> None:
        """Wait until connected.

        Raises:
            Unavailable: Not within `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._current().channel.channel_ready()
        except TimeoutError as error:
            raise Unavailable(f"no connection to {self.named(self.address)}") from error

    def _current(self) -> _Line:
        line = self._line
        if line is not None and line.generation == self._identity.generation:
            return line
        if self._closers is None:
            raise closed()
        generation = self._identity.generation
        channel = grpc.aio.secure_channel(
            self.address,
            self._identity.channel_credentials(),
            options=self._options,
            compression=grpc.Compression.NoCompression,
        )
        self._line = _Line(channel, generation, self.address, self._close_later)
        if line is not None:
            self._retire(line)
        return self._line

    def named(self, address: str) -> str:
        """Who is at an address, for errors: `the verifier at host:port`."""
        return f"the {self._role} at {address}" if self._role else address

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of them, in the order in which they are tried."""
        return self._addresses

    def move_on(self) -> None:
        """The next call goes to the next address; those that are under way stay where they are."""
        if len(self._addresses) > 1:
            self.address = self._addresses[(self._addresses.index(self.address) + 1) % len(self._addresses)]
            line, self._line = self._line, None
            if line is not None:
                self._retire(line)

    def _lost(self, line: _Line) -> None:
        """Nobody answered on `line`: the next call goes to the next address."""
        if line is self._line:
            self.move_on()

    def _retire(self, line: _Line) -> None:
        self._retired.add(line)
        line.retire()

    def _close_later(self, line: _Line) -> None:
        if self._closers is not None:
            self._retired.discard(line)
            self._closers.create_task(line.channel.close())


class _Line:
    """One channel and how many calls are under way on it."""

    __slots__ = ("_close", "_retired", "_under_way", "address", "channel", "generation", "made")

    def __init__(
        self, channel: grpc.aio.Channel, generation: int, address: str, close: Callable[[_Line], None]
    ) -> None:
        self.channel = channel
        self.generation = generation
        self.address = address
        self.made: dict[tuple[str, str], Any] = {}
        self._close = close
        self._under_way = 0
        self._retired = False

    @property
    def idle(self) -> bool:
        """No call is under way."""
        return self._under_way == 0

    def begin(self, call: Any) -> None:
        self._under_way += 1
        call.add_done_callback(self._ended)

    def retire(self) -> None:
        self._retired = True
        if self._under_way == 0:
            self._close(self)

    def _ended(self, _call: object) -> None:
        self._under_way -= 1
        if self._retired and self._under_way == 0:
            self._close(self)


class _Lines:
    """What a generated stub takes for a channel."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Awaitable[Any]]:
        start = self._starter("unary_unary", method, args, kwargs)

        async def call(
            request: Any,
            *,
            timeout: float | None = None,  # noqa: ASYNC109
            trailers: Callable[[Iterable[tuple[str, str | bytes]]], None] | None = None,
            **rest: Any,
        ) -> Any:
            started, line = start(request, timeout=timeout, **rest)
            try:
                answer = await started
                if trailers is not None:
                    trailers(await started.trailing_metadata())
            except grpc.RpcError as error:
                raise self._translated(error, line) from error
            except asyncio.CancelledError:
                if _told_to_end():
                    raise
                raise closed() from None  # the channel was closed, which gRPC tells as if we had been cancelled
            return _readable(answer)

        return call

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return self._streaming("stream_unary", method, args, kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return self._streaming("unary_stream", method, args, kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return self._streaming("stream_stream", method, args, kwargs)

    def _streaming(self, shape: str, method: str, args: Any, kwargs: Any) -> Callable[..., Any]:
        start = self._starter(shape, method, args, kwargs)

        def call(*request: Any, timeout: float | None = None, **rest: Any) -> _Stream:
            started, line = start(*request, timeout=timeout, **rest)
            return _Stream(started, lambda error: self._translated(error, line))

        return call

    def _translated(self, error: grpc.RpcError, line: _Line) -> CloisterError | TimeoutError:
        """The error of the house; of a connection that is lost or was never made, it says which."""
        found = from_rpc_error(error)
        if isinstance(found, (Unavailable, TimeoutError)):
            self._peer._lost(line)
        if not isinstance(found, Unavailable) or found.reason != Unavailable.default_reason or told_by_peer(error):
            return found
        return Unavailable(f"cannot reach {self._peer.named(line.address)}: {found}", reason=found.reason)

    def _starter(self, shape: str, method: str, args: Any, kwargs: Any) -> Callable[..., tuple[Any, _Line]]:
        key = (shape, method)
        peer = self._peer

        def start(*request: Any, timeout: float | None, **rest: Any) -> tuple[Any, _Line]:
            if timeout is None:
                raise ValueError(f"{method} was called without a deadline")
            line = peer._current()
            multi = line.made.get(key)
            if multi is None:
                multi = line.made[key] = getattr(line.channel, shape)(method, *args, **kwargs)
            call = multi(*request, timeout=timeout, **rest)
            line.begin(call)
            return call, line

        return start


class _Stream:
    """A streaming call whose errors are ours. What is not named here is passed through.

    Each method translates for itself: a context manager that did it would cost more than all else here, once for every
    message.
    """

    def __init__(self, call: Any, translated: Callable[[grpc.RpcError], CloisterError | TimeoutError]) -> None:
        self._call = call
        self._translated = translated
        self._messages: AsyncIterator[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._messages is None:
            self._messages = aiter(self._call)
        return await self._ours(anext(self._messages))

    def __await__(self) -> Any:
        return self._ours(self._call).__await__()

    async def read(self) -> Any:
        try:
            return _readable(await self._call.read())
        except grpc.RpcError as error:
            raise self._translated(error) from error
        except asyncio.InvalidStateError as error:
            raise _ended() from error

    async def write(self, message: Any) -> None:
        try:
            await self._call.write(message)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        except asyncio.InvalidStateError as error:
            raise _ended() from error

    async def done_writing(self) -> None:
        await self._ours(self._call.done_writing(), readable=False)

    async def wait_for_connection(self) -> None:
        await self._ours(self._call.wait_for_connection(), readable=False)

    async def _ours(self, work: Awaitable[Any], *, readable: bool = True) -> Any:
        try:
            found = await work
            return _readable(found) if readable else found
        except grpc.RpcError as error:
            raise self._translated(error) from error
        except asyncio.InvalidStateError as error:
            raise _ended() from error


def closed() -> Unavailable:
    """What a call ends with whose peer or client is closed: before it began, or before there was an answer."""
    return Unavailable("the connection is closed", reason="peer.closed")


def _told_to_end() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _ended() -> Unavailable:
    return Unavailable("the stream has ended", reason="stream.ended")


def _readable(message: T) -> T:
    """A message that came; gRPC hands on None for bytes that do not parse."""
    if message is None:
        raise InternalError("the peer's answer does not parse", reason="answer.malformed")
    return message
