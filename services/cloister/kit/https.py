"""The HTTPS server for whatever is not gRPC: TLS 1.3 only, no client certificate, hypercorn below and limits around it.

Who answers is proven by the certificate; who asks is nobody in particular. What is served here is therefore public, or
brings its own proof of who may have it. The certificate follows its files: connections made after a change see the new
one, as with gRPC. Each request knows which certificate its listener shows by the ASGI TLS extension (`server_cert`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from starlette.types import ASGIApp

from cloister.errors import CloisterError, NotReady
from cloister.kit.config import settings_error
from cloister.kit.http_calls import HttpGuard
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.rpc import certificates
from cloister.rpc.files import read_public
from cloister.rpc.identity import TlsFiles, TlsIdentity

__all__ = ["HttpsLimits", "HttpsServer", "https_server"]

_BACKLOG: Final = 128
_MAX_HEAD_BYTES: Final = 16 << 10
_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsLimits:
    """What one listener puts up with.

    Attributes:
        max_concurrent: Requests under way; more are told 429.
        max_body_bytes: Of a request; more is told 413.
        request_s: Longest that a request may take, its body and its answer included.
        idle_s: Longest that a connection may be without a whole request head.
        handshake_s: Longest that TLS may take to begin.
        grace_s: How long requests under way may take to finish at the end.
    """

    max_concurrent: int = 64
    max_body_bytes: int = 1 << 20
    request_s: float = 30.0
    idle_s: float = 10.0
    handshake_s: float = 10.0
    grace_s: float = 5.0


@dataclass(frozen=True, slots=True)
class HttpsServer:
    """A listener that answers."""

    port: int


@asynccontextmanager
async def https_server(
    listen: str,
    identity: TlsIdentity,
    files: TlsFiles,
    app: ASGIApp,
    *,
    lifecycle: Lifecycle,
    limits: HttpsLimits | None = None,
) -> AsyncIterator[HttpsServer]:
    """Serve `app` while the block lasts; at its end no new request is taken, and those under way may finish.

    Args:
        listen: host:port; port 0 takes a free one.
        identity: Whose certificate is shown; says when it has changed.
        files: Where that identity is kept, for OpenSSL reads keys from files only.
        app: ASGI.
        lifecycle: Of the service; a listener that fails ends it.
        limits: The defaults if not given.

    Raises:
        InvalidRequest: `listen` is not an address; a mistake in the settings.
        NotReady: The address cannot be had, or the certificate not be read.
    """
    limits = limits or HttpsLimits()
    shown = await asyncio.to_thread(_Shown, files)
    listener = _bound(listen)
    port = int(listener.getsockname()[1])
    ending = asyncio.Event()
    guarded = HttpGuard(
        app,
        max_concurrent=limits.max_concurrent,
        max_body_bytes=limits.max_body_bytes,
        request_s=limits.request_s,
        server_cert=lambda: shown.certificate,
    )
    config = _config(shown.context, listener, limits)
    serving = lifecycle.spawn(
        serve(cast(ASGIFramework, guarded), config, shutdown_trigger=ending.wait, mode="asgi"), "https.serving"
    )
    following = lifecycle.spawn(shown.follow(identity), "https.certificate")
    try:
        _log.info("https.listening", port=port)
        yield HttpsServer(port)
    finally:
        ending.set()
        following.cancel()
        await asyncio.wait({serving}, timeout=limits.grace_s + 1)


class _Shown:
    """The certificate that new connections are shown."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self.context = _tls13()
        try:
            self._load()
        except (OSError, CloisterError) as error:
            raise NotReady(f"the certificate {files.certificate} cannot be served: {error}") from error

    async def follow(self, identity: TlsIdentity) -> None:
        """Show what the identity has become, each time it changes."""
        while True:
            await identity.changed(identity.generation)
            try:
                await asyncio.to_thread(self._load)
            except (OSError, CloisterError) as error:
                _log.warning("https.certificate_kept", error=error)

    def _load(self) -> None:
        first = certificates.load_certificate(read_public(self._files.certificate))
        # A context of its own first: half of a new pair must not reach the one in use.
        for context in (_tls13(), self.context):
            context.load_cert_chain(self._files.certificate, self._files.private_key)
        self.certificate = certificates.certificate_pem(first).decode()


class _HypercornConfig(Config):
    """Hypercorn's settings, with a TLS context of ours in place of one that it would make."""

    tls: ssl.SSLContext

    def create_ssl_context(self) -> ssl.SSLContext:
        return self.tls

    @property
    def ssl_enabled(self) -> bool:
        return True


def _config(context: ssl.SSLContext, listener: socket.socket, limits: HttpsLimits) -> Config:
    config = _HypercornConfig()
    config.tls = context
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = _BACKLOG
    config.errorlog = config.accesslog = None  # the guard logs, by the rules of the house
    config.include_server_header = False
    config.h11_max_incomplete_size = _MAX_HEAD_BYTES
    config.keep_alive_timeout = limits.idle_s
    config.read_timeout = limits.request_s  # type: ignore[assignment]  # hypercorn takes any number of seconds
    config.ssl_handshake_timeout = limits.handshake_s
    config.graceful_timeout = limits.grace_s
    return config


def _tls13() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nothing is resumed: every connection shows the certificate and proves its key
    context.set_alpn_protocols(["http/1.1"])
    return context


def _bound(listen: str) -> socket.socket:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise settings_error("https_listen", "must be host:port")
    host = host.strip("[]") or "127.0.0.1"
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
    except OSError as error:
        listener.close()
        raise NotReady(f"cannot listen on {listen}: {error.strerror}", reason="address.taken") from error
    return listener
