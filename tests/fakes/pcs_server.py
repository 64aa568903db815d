"""Intel's collateral service, or a cache of it, on this machine: paths, headers and encodings as theirs.

It serves the collateral that it is given, and can misbehave on every route at once. It runs in a thread of its own, so
a test may block.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import socketserver
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from cloister.appraisal.collateral import Collateral
from cloister.appraisal.family import family_of_collateral
from fakes.pki import MeshPki

ROOT_CRL_ROUTE = "/IntelSGXRootCA.der"
DRIP_S = 0.02

Misbehaviour = Callable[["Handler"], None]


@dataclass
class PcsServer:
    """A service that answers.

    Attributes:
        collaterals: QuoteCollateralV3 JSON; where families share a part, the first has it.
        cache: Whether it is a PCCS: revocation lists in hex, the root's beside the rest, and an older header.
        misbehaves: Answers in place of everything else.
        heard: Paths and queries that it was asked for.
    """

    collaterals: Sequence[bytes]
    cache: bool = False
    misbehaves: Misbehaviour | None = None
    heard: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def root_crl_url(self) -> str:
        """Where Intel's own service has the root's revocation list: on another host than the rest."""
        return "" if self.cache else f"{self.url}{ROOT_CRL_ROUTE}"

    def answer(self, handler: Handler) -> None:
        address = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        route = address.path.removeprefix("/sgx/certification/v4/").removeprefix("/tdx/certification/v4/")
        found = self._found(address.path.split("/")[1], query)
        if self.misbehaves is not None:
            self.misbehaves(handler)
        elif address.path == ROOT_CRL_ROUTE and not self.cache:
            handler.send(200, bytes.fromhex(found["root_ca_crl"]))
        elif not found or address.path == f"/{route}":
            handler.send(404, b"No cache data for this platform.")
        else:
            self._answer(handler, route, found, query)

    def _answer(self, handler: Handler, route: str, found: dict[str, str], query: dict[str, str]) -> None:
        prefix = "SGX-" if self.cache else ""
        if route == "tcb":
            chain = {f"{prefix}TCB-Info-Issuer-Chain": quote(found["tcb_info_issuer_chain"])}
            handler.send(200, _signed("tcbInfo", found["tcb_info"], found["tcb_info_signature"]), **chain)
        elif route == "qe/identity":
            chain = {"SGX-Enclave-Identity-Issuer-Chain": quote(found["qe_identity_issuer_chain"])}
            handler.send(200, _signed("enclaveIdentity", found["qe_identity"], found["qe_identity_signature"]), **chain)
        elif route == "pckcrl":
            chain = {"SGX-PCK-CRL-Issuer-Chain": quote(found["pck_crl_issuer_chain"])}
            handler.send(200, self._crl(found["pck_crl"], query.get("encoding", "pem")), **chain)
        elif route == "rootcacrl" and self.cache:
            handler.send(200, found["root_ca_crl"].upper().encode())
        else:
            handler.send(404, b"")

    def _crl(self, der_hex: str, encoding: str) -> bytes:
        if self.cache:
            return der_hex.upper().encode()
        der = bytes.fromhex(der_hex)
        body = base64.encodebytes(der)
        return der if encoding == "der" else b"-----BEGIN X509 CRL-----\n" + body + b"-----END X509 CRL-----\n"

    def _found(self, tee: str, query: dict[str, str]) -> dict[str, str]:
        """What fits the query, of the TEE in the path: all lists of CAs are under `sgx`, whatever the TEE."""
        for raw in self.collaterals:
            family = family_of_collateral(Collateral.parse(raw))
            if query.get("fmspc", family.fmspc.hex()) != family.fmspc.hex() or query.get("ca", family.ca) != family.ca:
                continue
            if ("fmspc" in query or "update" in query) and family.tee != tee:
                continue
            found: dict[str, str] = json.loads(raw)
            return found
        return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self.server.service.heard.append(self.path)
        self.server.service.answer(self)

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Request-ID", "0123456789abcdef")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Nothing on stderr."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, service: PcsServer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.service = service

    def handle_error(self, *_args: Any) -> None:
        """A client that goes away, as from a server that drips, is no error."""


class _Tunnel(socketserver.StreamRequestHandler):
    """A proxy's answer to CONNECT: bytes both ways, until either end is done."""

    def handle(self) -> None:
        target = self.rfile.readline().decode().split()[1]
        while self.rfile.readline().strip():
            pass
        self.server.heard.append(target)  # type: ignore[attr-defined]  # of `_Proxy`
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as beyond:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(beyond, self.connection), daemon=True)
            back.start()
            _pump(self.connection, beyond)
            back.join()


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.heard: list[str] = []

    def handle_error(self, *_args: Any) -> None:
        """An end that goes away is no error."""


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxying() -> Iterator[tuple[str, list[str]]]:
    """A proxy: its address, and to whom it was asked to connect."""
    with _Proxy() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server.heard
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving(service: PcsServer, tls: MeshPki | None = None, *, name: str = "127.0.0.1") -> Iterator[PcsServer]:
    """The service on a port of this machine, with a certificate for `name` where there is a PKI."""
    server = _Server(service)
    if tls is not None:
        server.socket = _context(tls, name).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    service.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _context(tls: MeshPki, name: str) -> ssl.SSLContext:
    ips = [name] if name[0].isdigit() else []
    pems = tls.identity("gateway", "main", dns=[] if ips else [name], ips=ips)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        files = pems.write(Path(folder))
        context.load_cert_chain(files.certificate, files.private_key)
    return context


def _signed(name: str, document: str, signature: str) -> bytes:
    return f'{{"{name}":{document},"signature":"{signature}"}}'.encode()


# Ways to misbehave


def garbage(handler: Handler) -> None:
    handler.send(200, b"\x00\xff garbage")


def web_page(handler: Handler) -> None:
    handler.send(200, b"<!doctype html><title>Please sign in</title>", **{"Content-Type": "text/html; charset=utf-8"})


def oversize(handler: Handler) -> None:
    handler.send(200, b"0" * (1 << 20))


def endless(handler: Handler) -> None:
    """No length is announced, and it does not end."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(b"1000\r\n" + b"0" * 4096 + b"\r\n")


def drip(handler: Handler) -> None:
    """A byte now and then, so that no wait for the next byte is long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(DRIP_S)


def drip_headers(handler: Handler) -> None:
    """Headers that never come to an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for n in range(1000):
        handler.wfile.write(f"X-{n}: 0\r\n".encode())
        handler.wfile.flush()
        time.sleep(DRIP_S)


DRIPS = (drip, drip_headers)


def compressed(handler: Handler) -> None:
    handler.send(200, gzip.compress(b"0" * (1 << 20)), **{"Content-Encoding": "gzip"})


def hangs_up(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


def breaks_tls(handler: Handler) -> None:
    """Somebody on the way puts bytes of their own into the connection, which takes no key."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    os.write(handler.connection.fileno(), b"\x17\x03\x03\x00\x40" + bytes(64))
    handler.close_connection = True


def redirects(url: str, status: int = 302) -> Misbehaviour:
    def answer(handler: Handler) -> None:
        handler.send(status, b"", Location=url)

    return answer


def answers(status: int, **headers: str) -> Misbehaviour:
    def answer(handler: Handler) -> None:
        handler.send(status, b"no", **headers)

    return answer
