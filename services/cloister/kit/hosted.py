"""A server inside another program's HTTP server: it has the face of `Server`, and ASGI in place of a port.

The host program ends TLS; who the client is, it says by `grpc_http.PEER_HEADER`. Everything else, from roles and
deadlines to the words of a refusal, is the guard's, as behind a port of our own. What is not gRPC goes to another
protocol, if there is one, and is counted, looked after and drained as the calls are.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc

from cloister.errors import CloisterError, Overloaded, Unavailable
from cloister.kit import log
from cloister.kit.calls import Details, Guard
from cloister.kit.grpc_http import PEER_HEADER, HttpCall, Receive, Send
from cloister.kit.incoming import Arrivals
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Health
from cloister.kit.shares import itself
from cloister.rpc.identity import PeerIdentity

LOOK_S: Final = 0.1
LOOKS: Final = 100
"""Calls that are asked in one round whether their client is still there: a crowd of slow calls costs no more."""

GOING: Final = "this gateway is going; call another one"

_log = log.get_logger()
_PEER: Final = PEER_HEADER.encode()
H = TypeVar("H")
Scope = MutableMapping[str, Any]


class Exchange(Protocol):
    """One request and its answer, of a protocol that is not gRPC."""

    async def answer(self) -> None:
        """Answer it, with an error if need be."""

    async def refuse(self, error: CloisterError) -> None:
        """Answer before anything of it is read."""

    def look(self) -> None:
        """Ask whether the client is still there, and cancel the answer if it is not; returns at once."""


OtherProtocol = Callable[[Scope, Receive, Send], Exchange]
Identify = Callable[[Scope], Awaitable[PeerIdentity | CloisterError]]
"""Says who asks, or why that is nobody; the guard raises it where it would have looked at a certificate."""


class HostedServer:
    """Answers gRPC calls that come by ASGI.

    Args:
        guard: Stands before the handlers.
        lifecycle: `run` serves until this is stopping.
        max_message_bytes: Limit of one message towards us.
        max_arriving_bytes: Of requests that nobody has read yet; one peer may have half.
        max_concurrent: Calls under way; more are told RESOURCE_EXHAUSTED.
        grace_s: How long calls in flight may take to finish at the end.
        drain_pause_s: How long others have to notice NOT_SERVING before calls are turned away.
        identify: Says who asks, where a certificate alone does not.
        party: Whose share an identity's requests count as while they arrive.
        other: The protocol of whatever is not gRPC; without one it is told 415.

    Attributes:
        port: Where the host listens, if it is one of ours.
        speaks_grpc: Whether the host can: one of HTTP/1.1 alone sends no trailers.
    """

    def __init__(
        self,
        guard: Guard,
        lifecycle: Lifecycle,
        *,
        max_message_bytes: int,
        max_arriving_bytes: int,
        max_concurrent: int,
        grace_s: float,
        drain_pause_s: float = 0.5,
        identify: Identify | None = None,
        party: Callable[[str], str] = itself,
        other: OtherProtocol | None = None,
    ) -> None:
        self.health = Health(lifecycle)
        self.port = 0
        self.speaks_grpc = True
        self._guard = guard
        self._lifecycle = lifecycle
        self._max_message_bytes = max_message_bytes
        self._arrivals = Arrivals(max_arriving_bytes)
        self._max_concurrent = max_concurrent
        self._grace_s = grace_s
        self._pause_s = drain_pause_s
        self._identify = identify
        self._party = party
        self._other = other
        self._calls: dict[HttpCall | Exchange, None] = {}
        self._unnamed = 0  # calls of whom it is being asked who they are
        self._closed = False
        self._idle = asyncio.Event()
        self._started = False
        self.add(health_pb2_grpc.add_HealthServicer_to_server, self.health.servicer)

    def add(self, add_to_server: Callable[[H, Any], None], servicer: H) -> None:
        """Serve a servicer: `server.add(add_XServicer_to_server, servicer)`."""
        add_to_server(servicer, self._guard)

    def add_generic(self, handler: grpc.GenericRpcHandler) -> None:
        """Serve a generic handler, with or without serializers of its own."""
        self._guard.add_generic_rpc_handlers((handler,))

    async def start(self) -> None:
        """Begin to answer; `run` does it too."""
        if not self._started:
            self._started = True
            self._lifecycle.spawn(self._look(), "clients looked after")
            await self.health.started()

    async def run(self) -> None:
        """Answer until the lifecycle is stopping, then drain within the grace."""
        await self.start()
        await self._lifecycle.stopping.wait()
        await self.health.drain()
        _log.info("server.draining", grace_s=self._grace_s)
        await asyncio.sleep(self._pause_s)
        self._closed = True
        try:
            async with asyncio.timeout(self._grace_s):
                while self._calls:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            _log.warning("server.calls_left", calls=len(self._calls))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if self.speaks_grpc and scope["method"] == "POST" and _is_grpc(scope["headers"]):
            await self._call(scope, receive, send)
        elif self._other is not None:
            await self._exchange(self._other(scope, receive, send))
        else:
            await send({"type": "http.response.start", "status": 415, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer, identity = _header(scope, _PEER), None
        if self._identify is not None and not self._full:
            self._unnamed += 1
            try:
                identity = await self._identify(scope)
            finally:
                self._unnamed -= 1
            peer = self._party(identity.spiffe_id).encode() if isinstance(identity, PeerIdentity) else b""
        call = HttpCall(scope, receive, send, self._max_message_bytes, self._arrivals, peer, identity)
        if self._closed or not self._started:
            await call.refuse(grpc.StatusCode.UNAVAILABLE, GOING)
            return
        if self._full:
            await call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
            return
        method = scope["raw_path"] if not scope["query_string"] else b"?"
        with self._counted(call):
            details = Details(method.decode("latin-1"), call.invocation_metadata())
            await call.answer(self._guard.service(details))

    async def _exchange(self, exchange: Exchange) -> None:
        if self._closed or not self._started:
            await exchange.refuse(Unavailable(GOING))
        elif self._full:
            await exchange.refuse(Overloaded("too many requests are under way; try again in a moment"))
        else:
            with self._counted(exchange):
                await exchange.answer()

    @property
    def _full(self) -> bool:
        return len(self._calls) + self._unnamed >= self._max_concurrent

    @contextmanager
    def _counted(self, call: HttpCall | Exchange) -> Iterator[None]:
        self._calls[call] = None
        try:
            yield
        finally:
            del self._calls[call]
            if not self._calls:
                self._idle.set()

    async def _look(self) -> None:
        """Ask for calls in turn whether their client is still there."""
        while True:
            await asyncio.sleep(LOOK_S)
            for call in list(itertools.islice(self._calls, LOOKS)):
                del self._calls[call]
                self._calls[call] = None  # behind the others
                call.look()


def identified(context: Any) -> PeerIdentity:
    """Whom `Identify` has named for the call of this context; raises what it gave instead."""
    found: PeerIdentity | CloisterError = context.identity
    if isinstance(found, CloisterError):
        raise found
    return found


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")


def _is_grpc(headers: Any) -> bool:
    for name, value in headers:
        if name == b"content-type":
            return bool(value == b"application/grpc" or value.startswith((b"application/grpc+", b"application/grpc;")))
    return False
