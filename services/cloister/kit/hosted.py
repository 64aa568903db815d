"""A server inside another program's HTTP/2 server: it has the face of `Server`, and ASGI in place of a port.

The host program ends TLS; who the client is, it says by `grpc_http.PEER_HEADER`. Everything else, from roles and
deadlines to the words of a refusal, is the guard's, as behind a port of our own.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc

from cloister.kit import log
from cloister.kit.calls import Guard
from cloister.kit.grpc_http import HttpCall, Receive, Send
from cloister.kit.incoming import Arrivals
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Health

LOOK_S: Final = 0.1
LOOKS: Final = 100
"""Calls that are asked in one round whether their client is still there: a crowd of slow calls costs no more."""

_log = log.get_logger()
H = TypeVar("H")


@dataclass(slots=True)
class _Details:
    """As `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: Any


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
    ) -> None:
        self.health = Health()
        self._guard = guard
        self._lifecycle = lifecycle
        self._max_message_bytes = max_message_bytes
        self._arrivals = Arrivals(max_arriving_bytes)
        self._max_concurrent = max_concurrent
        self._grace_s = grace_s
        self._pause_s = drain_pause_s
        self._calls: dict[HttpCall, None] = {}
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

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["method"] != "POST" or not _is_grpc(scope["headers"]):
            await send({"type": "http.response.start", "status": 415, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        call = HttpCall(scope, receive, send, self._max_message_bytes, self._arrivals)
        if self._closed or not self._started:
            await call.refuse(grpc.StatusCode.UNAVAILABLE, "this gateway is going; call another one")
            return
        if len(self._calls) >= self._max_concurrent:
            await call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
            return
        method = scope["raw_path"] if not scope["query_string"] else b"?"
        self._calls[call] = None
        try:
            details = _Details(method.decode("latin-1"), call.invocation_metadata())
            await call.answer(self._guard.service(details))
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


def _is_grpc(headers: Any) -> bool:
    for name, value in headers:
        if name == b"content-type":
            return bool(value == b"application/grpc" or value.startswith((b"application/grpc+", b"application/grpc;")))
    return False
