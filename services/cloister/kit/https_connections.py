"""The connections of the HTTPS listener: each bounded in number, size and time, whatever its peer is up to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, cast

import h11
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import AppWrapper, ASGIFramework, LifespanState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp, Receive, Scope, Send

from cloister.kit.http_calls import Passing, has_body
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger

_MAX_HEAD_BYTES: Final = 16 << 10
_MAX_HEADERS: Final = 64
_GOODBYE_S: Final = 1.0  # how long a peer may take to answer that TLS ends; many never do
_SHORT_S: Final = 0.1  # before a connection is taken again when the machine had no room for one
_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsLimits:
    """What one listener puts up with.

    Attributes:
        max_connections: Open at a time, those that have yet to begin TLS included; more are cut.
        max_concurrent: Requests under way; more are told 429.
        max_body_bytes: Of a request; more is told 413.
        request_s: Longest that a request may take, its body and its answer included.
        idle_s: Longest that a connection may be without a whole request head.
        handshake_s: Longest that TLS may take to begin.
        write_s: Longest that a peer may take to read a piece of its answer.
        grace_s: How long requests under way may take to finish at the end.
    """

    max_connections: int = 256
    max_concurrent: int = 64
    max_body_bytes: int = 1 << 20
    request_s: float = 30.0
    idle_s: float = 10.0
    handshake_s: float = 10.0
    write_s: float = 10.0
    grace_s: float = 5.0


class Shown(Protocol):
    """What new connections are shown: a context for them, None for plain HTTP, and its certificate in PEM."""

    @property
    def context(self) -> ssl.SSLContext | None:
        """As it is now."""

    @property
    def certificate(self) -> str:
        """The same."""


class HttpsConnections:
    """Hypercorn's side of each connection, so many at a time.

    Of hypercorn we take what speaks HTTP, and not its server: that one bounds neither connections nor their end. Nor do
    we take asyncio's, which tells of a connection when TLS has begun: who never begins would be counted by nobody.
    """

    def __init__(self, app: ASGIApp, limits: HttpsLimits, shown: Shown, lifecycle: Lifecycle) -> None:
        self._app = app
        self._config = _config(limits)
        self._limits = limits
        self._shown = shown
        self._lifecycle = lifecycle
        self._worker = WorkerContext(None)
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter | None] = {}

    async def accepting(self, listener: socket.socket) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, _ = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is left, say; the peer waits in the backlog
                _log.warning("https.not_accepted", error=error)
                await asyncio.sleep(_SHORT_S)
                continue
            if len(self._open) >= self._limits.max_connections:
                peer.close()
                continue
            task = self._lifecycle.spawn(self._serve(peer), "https.connection")
            self._open[task] = None
            task.add_done_callback(self._open.pop)

    async def _serve(self, peer: socket.socket) -> None:
        """Serve one connection until it ends; whatever it comes to, the service goes on."""
        certificate = self._shown.certificate
        try:
            reader, writer = await self._begun(peer)
        except (OSError, TimeoutError):
            return
        task = asyncio.current_task()
        if task is not None:
            self._open[task] = writer
        app = _told(self._app, certificate, writer)
        try:
            await _Connection(
                app, asyncio.get_running_loop(), self._config, self._worker, LifespanState(), reader, writer
            ).within(self._limits)
        except OSError:  # it broke off, or did not say goodbye
            pass
        except Exception as error:  # of hypercorn's making; there is nobody to tell
            _log.warning("https.connection_failed", error=error, exc_info=error)

    async def _begun(self, peer: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection once TLS has begun."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        context = self._shown.context
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            peer,
            ssl=context,
            ssl_handshake_timeout=self._limits.handshake_s if context else None,
            ssl_shutdown_timeout=_GOODBYE_S if context else None,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def drain(self, grace_s: float) -> None:
        """Let requests under way finish, close what is idle, and cut what is left when the grace is over."""
        await self._worker.terminated.set()
        for patience_s in (grace_s, _GOODBYE_S):
            if self._open:
                await asyncio.wait(set(self._open), timeout=patience_s)
            for task, writer in self._open.items():
                if writer is None:
                    task.cancel()
                else:
                    writer.transport.abort()


class _Connection(TCPServer):
    """One connection: HTTP/1.1 and nothing that it could become, and no endless wait for its peer."""

    _limits: HttpsLimits

    async def within(self, limits: HttpsLimits) -> None:
        """Serve it."""
        self._limits = limits
        await self.run()

    async def protocol_send(self, event: Event) -> None:
        """Send a piece; a peer that does not take it in time is cut."""
        try:
            async with asyncio.timeout(self._limits.write_s):
                await super().protocol_send(event)
        except TimeoutError:
            self.writer.transport.abort()

    async def _read_data(self) -> None:
        http = self.protocol.protocol  # without what switches to HTTP/2 around it
        if isinstance(http, H11Protocol):
            http._check_protocol = partial(_check, http)  # type: ignore[method-assign]  # which looks for HTTP/2
        try:
            while not self.reader.at_eof():
                async with asyncio.timeout(self._limits.request_s):
                    data = await self.reader.read(MAX_RECV)
                # Waits for the request before, and for room in the queue of a body that nobody reads.
                async with asyncio.timeout(self._limits.request_s + self._limits.write_s):
                    await http.handle(RawData(data))
        except (OSError, TimeoutError):
            pass
        await http.handle(Closed())


async def _check(http: H11Protocol, request: h11.Request) -> None:
    """Refuse what h11 takes and others could read otherwise, or what would make another protocol of the connection."""
    names = [name for name, _ in request.headers]
    two_lengths = b"content-length" in names and b"transfer-encoding" in names
    if two_lengths or b"upgrade" in names or len(names) > _MAX_HEADERS:
        await http._send_error_response(400)
        raise ConnectionAbortedError


def _told(app: ASGIApp, certificate: str, writer: asyncio.StreamWriter) -> AppWrapper:
    """The app, told of one connection's certificates by the ASGI TLS extension; what is left of bodies passes."""
    over: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    shown = over.getpeercert(binary_form=True) if over is not None else None
    tls = {"server_cert": certificate, "client_cert_chain": [ssl.DER_cert_to_PEM_cert(shown)] if shown else []}

    async def telling(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})["tls"] = tls
        passing = Passing(send, receive if scope["type"] == "http" and has_body(scope) else None)
        await app(scope, receive, passing)

    return wrap_app(cast(ASGIFramework, telling), 0, "asgi")


def _config(limits: HttpsLimits) -> Config:
    config = Config()
    config.errorlog = config.accesslog = None  # the guard logs, by the rules of the house
    config.include_server_header = False
    config.h11_max_incomplete_size = _MAX_HEAD_BYTES
    config.keep_alive_timeout = limits.idle_s
    config.read_timeout = limits.request_s  # type: ignore[assignment]  # hypercorn takes any number of seconds
    return config
