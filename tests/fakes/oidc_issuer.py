"""An issuer of tokens, as an OpenID provider is one: keys of several kinds, tokens by another library, real HTTPS.

Tokens are made by joserfc, so that what is read here was not written by the library that reads it.
"""

from __future__ import annotations

import json
import ssl
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from fakes.pki import MeshPki

ISSUER = "https://login.clinic.example"
AUDIENCE = "cloister"
ALGORITHMS = ("ES256", "ES384", "ES512", "EdDSA", "RS256", "PS256")


def new_key(algorithm: str, kid: str) -> Key:
    parameters = {"kid": kid}
    if algorithm == "EdDSA":
        return OKPKey.generate_key("Ed25519", parameters)
    if algorithm.startswith("ES"):
        curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
        return ECKey.generate_key(curve, parameters)
    return RSAKey.generate_key(2048, parameters)


@dataclass
class OidcIssuer:
    """Signs tokens.

    Attributes:
        algorithm: What it signs with.
        kid: Of its key.
        issuer: What it calls itself.
    """

    algorithm: str = "ES256"
    kid: str = "k1"
    issuer: str = ISSUER
    key: Key = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.key = new_key(self.algorithm, self.kid)

    def jwk(self) -> dict[str, Any]:
        return {**self.key.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def jwks(self) -> bytes:
        return jwks_of(self)

    def claims(self, now_s: float | None = None, **changes: Any) -> dict[str, Any]:
        """What a good token says; a member that is changed to None is left out."""
        now = int(time.time() if now_s is None else now_s)
        good = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600, "jti": "1"}
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(self, now_s: float | None = None, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """A good token but for what is changed."""
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "at+jwt", **(header or {})}
        given = {name: value for name, value in head.items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # issuers still say EdDSA for Ed25519 (RFC 9864)
            return jwt.encode(given, self.claims(now_s, **changes), self.key, algorithms=[self.algorithm])


def jwks_of(*issuers: OidcIssuer) -> bytes:
    return json.dumps({"keys": [issuer.jwk() for issuer in issuers]}).encode()


Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class KeysPage:
    """The address that an issuer's keys are asked for at.

    Attributes:
        body: What it answers.
        misbehaves: Answers in place of that.
        heard: Paths that it was asked for.
    """

    body: bytes
    misbehaves: Answer | None = None
    heard: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.heard.append(handler.path)
        if self.misbehaves is not None:
            self.misbehaves(handler)
        else:
            send(handler, 200, self.body)


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving_keys(page: KeysPage, tls: MeshPki, *, name: str = "127.0.0.1") -> Iterator[KeysPage]:
    """The page over HTTPS, on a port of this machine, in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page.answer(self)

        def log_message(self, *_args: Any) -> None:
            """Nothing on stderr."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_args: Any) -> None:
            """A client that goes away is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = _context(tls, name).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    page.url = f"https://127.0.0.1:{server.server_port}/keys"
    try:
        yield page
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
