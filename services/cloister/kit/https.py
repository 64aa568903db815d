"""The HTTPS server for whatever is not gRPC: TLS 1.3 and HTTP/1.1 only, hypercorn below and limits around it.

Who answers is proven by the certificate. Who asks is nobody in particular, or whoever the client certificate names that
a listener may take; a request knows both by the ASGI TLS extension (`server_cert`, `client_cert_chain`). HTTP/2 is not
spoken: hypercorn bounds neither the streams that a client resets nor what it makes us hold. The certificate follows its
files: connections made after a change see the new one, as with gRPC.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from starlette.types import ASGIApp

from cloister.errors import CloisterError, NotReady
from cloister.kit.config import settings_error
from cloister.kit.http_calls import HttpGuard
from cloister.kit.https_connections import HttpsConnections, HttpsLimits
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.rpc import certificates
from cloister.rpc.files import read_public
from cloister.rpc.identity import TlsFiles, TlsIdentity

__all__ = ["HttpsLimits", "HttpsServer", "https_listener", "https_server", "loopback_server"]

_BACKLOG: Final = 128
_log = get_logger()


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
    clients: bool = False,
) -> AsyncIterator[HttpsServer]:
    """Serve `app` while the block lasts; at its end no new request is taken, and those under way may finish.

    The app is given no lifespan: what it needs is entered where it is made.

    Args:
        listen: host:port; port 0 takes a free one.
        identity: Whose certificate is shown; says when it has changed.
        files: Where that identity is kept, for OpenSSL reads keys from files only.
        app: ASGI.
        lifecycle: Of the service; keeps the certificate up to date.
        limits: The defaults if not given.
        clients: As `https_listener`.

    Raises:
        InvalidRequest: `listen` is not an address; a mistake in the settings.
        NotReady: The address cannot be had, or the certificate not be read.
    """
    limits = limits or HttpsLimits()
    guarded = _guarded(app, limits)
    serving = https_listener(listen, identity, files, guarded, lifecycle=lifecycle, limits=limits, clients=clients)
    async with serving as listener:
        yield listener


@asynccontextmanager
async def loopback_server(
    listen: str, app: ASGIApp, *, lifecycle: Lifecycle, limits: HttpsLimits | None = None
) -> AsyncIterator[HttpsServer]:
    """The same without TLS, for an address that only this machine reaches; the app sees to it who may ask.

    Raises:
        InvalidRequest: `listen` is no loopback address.
        NotReady: The address cannot be had.
    """
    if not _is_loopback(listen):
        raise settings_error("listen", "plain HTTP is for the loopback interface alone")
    limits = limits or HttpsLimits()
    connections = HttpsConnections(_guarded(app, limits), limits, _Plain(), lifecycle)
    async with _listening(_bound(listen, shared_port=False), connections, limits, lifecycle) as listener:
        yield listener


def _guarded(app: ASGIApp, limits: HttpsLimits) -> HttpGuard:
    return HttpGuard(
        app, max_concurrent=limits.max_concurrent, max_body_bytes=limits.max_body_bytes, request_s=limits.request_s
    )


@asynccontextmanager
async def https_listener(
    listen: str,
    identity: TlsIdentity,
    files: TlsFiles,
    app: ASGIApp,
    *,
    lifecycle: Lifecycle,
    limits: HttpsLimits,
    clients: bool = False,
    shared_port: bool = False,
) -> AsyncIterator[HttpsServer]:
    """Serve `app` with nothing before it: of the limits, those of connections are kept here, the rest are the app's.

    Args:
        listen: As `https_server`, as are the next five.
        identity: See `listen`.
        files: See `listen`.
        app: See `listen`.
        lifecycle: See `listen`.
        limits: See `listen`.
        clients: Whether clients may show a certificate, which is then verified against the roots in `files`.
        shared_port: Whether other processes of ours listen there too: only for one that has a `Place`.

    Raises:
        InvalidRequest: As `https_server`.
        NotReady: As `https_server`.
    """
    generation = identity.generation
    shown = await asyncio.to_thread(_Shown, files, clients=clients)
    connections = HttpsConnections(app, limits, shown, lifecycle)
    listener = _bound(listen, shared_port=shared_port)
    following = lifecycle.spawn(shown.follow(identity, generation), "https.certificate")
    try:
        async with _listening(listener, connections, limits, lifecycle) as server:
            yield server
    finally:
        following.cancel()


@asynccontextmanager
async def _listening(
    listener: socket.socket, connections: HttpsConnections, limits: HttpsLimits, lifecycle: Lifecycle
) -> AsyncIterator[HttpsServer]:
    accepting = lifecycle.spawn(connections.accepting(listener), "https.accepting")
    try:
        port = int(listener.getsockname()[1])
        _log.info("https.listening", port=port)
        yield HttpsServer(port)
    finally:
        accepting.cancel()
        await asyncio.wait({accepting})
        listener.close()
        await connections.drain(limits.grace_s)


class _Plain:
    """Nothing is shown to who connects without TLS."""

    context = None
    certificate = ""


class _Shown:
    """The certificate that new connections are shown."""

    def __init__(self, files: TlsFiles, *, clients: bool) -> None:
        self._files = files
        self._clients = clients
        self.context = _tls13()
        try:
            self._load()
        except (OSError, CloisterError) as error:
            raise NotReady(
                f"the certificate {files.certificate} cannot be served: {error}", reason="certificate.unusable"
            ) from error

    async def follow(self, identity: TlsIdentity, generation: int) -> None:
        """Show what the identity has become, each time it changes after `generation`."""
        while True:
            await identity.changed(generation)
            generation = identity.generation
            try:
                await asyncio.to_thread(self._load)
            except (OSError, CloisterError) as error:
                _log.warning("https.certificate_kept", error=error)

    def _load(self) -> None:
        first = certificates.load_certificate(read_public(self._files.certificate))
        # A context of its own: half of a new pair must not reach the one in use, and roots can only be added to one.
        context = _tls13()
        context.load_cert_chain(self._files.certificate, self._files.private_key)
        if self._clients:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(self._files.trust_roots)
        self.context = context
        self.certificate = certificates.certificate_pem(first).decode()


def _tls13() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nothing is resumed: every connection shows the certificate and proves its key
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(listen: str, *, shared_port: bool) -> socket.socket:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise settings_error("https_listen", "must be host:port")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared_port))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an answer waits 40 ms for an ACK
        listener.bind((host, int(port)))
        listener.setblocking(False)
        listener.listen(_BACKLOG)  # from here on nobody is turned away, though answers may take a moment
    except OSError as error:
        listener.close()
        raise NotReady(f"cannot listen on {listen}: {error.strerror}", reason="address.taken") from error
    return listener
