"""HashiCorp Vault on this machine, as far as Transit and three ways to log in go: over HTTPS, and as strict as it is.

Paths, members, statuses and messages are those of its public API documentation and of its answers. It keeps its keys,
counts versions, and refuses what Vault refuses: unknown or expired tokens, paths that a policy does not name, versions
out of bounds, base64 that is none, context for a key that is not derived. It can misbehave in place of any answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fakes.pki import MeshPki

NAMESPACE = "hospital/keys"
ROLE_ID, SECRET_ID = "role-of-the-provisioner", "its-secret"
KUBERNETES_ROLE, JWT = "provisioner", "the.service.account"
PLAIN_TOKEN = "hvs.written-into-a-file"
NOT_FOUND = 404, {"errors": []}

Answer = tuple[int, dict[str, Any]]
Misbehaviour = Callable[["Handler"], None]


def refusal(status: int, *errors: str) -> Answer:
    return status, {"errors": list(errors)}


@dataclass
class TransitKey:
    """One key: its versions by number, each with when it was made and what it is."""

    type: str = "aes256-gcm96"
    derived: bool = False
    convergent: bool = False
    exportable: bool = False
    least_to_open: int = 1
    least_to_wrap: int = 0
    versions: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def latest(self) -> int:
        return max(self.versions)

    def rotate(self, made_at: int) -> None:
        self.versions[len(self.versions) + 1] = (made_at, secrets.token_bytes(32))

    def cipher(self, version: int, context: bytes) -> AESGCM:
        key = self.versions[version][1]
        return AESGCM(hmac.new(key, context, hashlib.sha256).digest() if self.derived else key)


@dataclass
class TransitServer:
    """What there is in it, and how it behaves.

    Attributes:
        keys: By name.
        tokens: Each with the seconds that it has left; zero or fewer, and it is unknown.
        allowed: Which operations the policy of every token lets through.
        sealed: Whether it answers 503 to everything.
        misbehaves: Answers in place of everything else.
        heard: Method and path of each request.
    """

    keys: dict[str, TransitKey] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=lambda: {PLAIN_TOKEN: 3600})
    allowed: set[str] = field(default_factory=lambda: {"keys", "encrypt", "decrypt"})
    sealed: bool = False
    namespace: str = ""
    lease_s: int = 3600
    misbehaves: Misbehaviour | None = None
    heard: list[str] = field(default_factory=list)
    url: str = ""
    made_at: int = 1_700_000_000

    def __post_init__(self) -> None:
        self.keys["cloister"] = TransitKey()
        self.rotate()

    def rotate(self, name: str = "cloister") -> None:
        """As `vault write -f transit/keys/NAME/rotate`."""
        self.made_at += 1
        self.keys[name].rotate(self.made_at)

    def make_anew(self, name: str = "cloister") -> None:
        """As deleting a key and making one of the same name."""
        self.keys[name] = TransitKey()
        self.rotate(name)

    def end_tokens(self) -> None:
        """As a restart of a development server, or an operator who revokes them all."""
        self.tokens.clear()

    def answer(self, handler: Handler, body: dict[str, Any]) -> Answer:
        if self.sealed:
            return refusal(503, "Vault is sealed")
        if handler.headers.get("X-Vault-Request") != "true":
            return refusal(412, "required Vault header missing")
        if (handler.headers.get("X-Vault-Namespace") or "").strip("/") != self.namespace:
            return NOT_FOUND
        path = handler.path.removeprefix("/v1/")
        if handler.command == "POST" and path in ("auth/approle/login", "auth/kubernetes/login"):
            return self._log_in(path.split("/")[1], body)
        token = handler.headers.get("X-Vault-Token", "")
        if self.tokens.get(token, 0) <= 0:
            return refusal(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
        return self._with_token(handler.command, path, token, body)

    def _log_in(self, method: str, body: dict[str, Any]) -> Answer:
        if method == "approle" and (body.get("role_id"), body.get("secret_id")) != (ROLE_ID, SECRET_ID):
            return refusal(400, "invalid role or secret ID")
        if method == "kubernetes" and body.get("role") != KUBERNETES_ROLE:
            return refusal(400, f'invalid role name "{body.get("role")}"')
        if method == "kubernetes" and body.get("jwt") != JWT:
            return refusal(403, "permission denied")
        token = f"hvs.{secrets.token_hex(8)}"
        self.tokens[token] = self.lease_s
        return 200, {"data": None, "auth": self._auth(token)}

    def _auth(self, token: str) -> dict[str, Any]:
        return {"client_token": token, "lease_duration": self.tokens[token], "renewable": True, "policies": ["default"]}

    def _with_token(self, command: str, path: str, token: str, body: dict[str, Any]) -> Answer:
        if (command, path) == ("GET", "auth/token/lookup-self"):
            return 200, {"data": {"id": token, "ttl": self.tokens[token], "renewable": True}}
        if (command, path) == ("POST", "auth/token/renew-self"):
            self.tokens[token] = self.lease_s
            return 200, {"data": None, "auth": self._auth(token)}
        found = re.fullmatch(r"transit/(keys|encrypt|decrypt)/([a-z0-9-]+)", path)
        if found is None:
            return refusal(404, f'no handler for route "{path}". route entry not found.')
        if command != ("GET" if found[1] == "keys" else "POST"):
            return refusal(405, "unsupported operation")
        if found[1] not in self.allowed:
            return refusal(403, "1 error occurred:\n\t* permission denied\n\n")
        return getattr(self, f"_{found[1]}")(found[2], body)  # type: ignore[no-any-return]

    def _keys(self, name: str, _body: dict[str, Any]) -> Answer:
        key = self.keys.get(name)
        if key is None:
            return NOT_FOUND
        opened = {number: made for number, (made, _) in key.versions.items() if number >= key.least_to_open}
        return 200, {
            "data": {
                "name": name,
                "type": key.type,
                "derived": key.derived,
                "convergent_encryption": key.convergent,
                "exportable": key.exportable,
                "allow_plaintext_backup": False,
                "latest_version": key.latest,
                "min_decryption_version": key.least_to_open,
                "min_encryption_version": key.least_to_wrap,
                "keys": {str(number): _when(made, key) for number, made in opened.items()},
            }
        }

    def _encrypt(self, name: str, body: dict[str, Any]) -> Answer:
        key = self.keys.get(name)
        if key is None:
            return refusal(400, "encryption key not found")
        version = body.get("key_version", 0) or key.latest
        if version > key.latest:
            return refusal(400, "requested version for encryption is higher than the latest key version")
        if version < key.least_to_wrap:
            return refusal(400, "requested version for encryption is less than the minimum encryption key version")
        try:
            plaintext, aad, context = (_decoded(body, part) for part in ("plaintext", "associated_data", "context"))
        except binascii.Error as error:
            return refusal(400, str(error))
        if key.derived != bool(context):
            return refusal(400, "missing 'context' for key derivation; the key was created using a derived key")
        nonce = secrets.token_bytes(12)
        sealed = nonce + key.cipher(version, context).encrypt(nonce, plaintext, aad)
        text = base64.b64encode(sealed).decode()
        return 200, {"data": {"ciphertext": f"vault:v{version}:{text}", "key_version": version}}

    def _decrypt(self, name: str, body: dict[str, Any]) -> Answer:
        key = self.keys.get(name)
        if key is None:
            return refusal(400, "encryption key not found")
        found = re.fullmatch(r"vault:v(\d+):(.*)", str(body.get("ciphertext", "")))
        if found is None:
            return refusal(400, "invalid ciphertext: no prefix")
        version = int(found[1])
        if version > key.latest:
            return refusal(400, "invalid ciphertext: version is too new")
        if version < key.least_to_open:
            return refusal(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            sealed = base64.b64decode(found[2], validate=True)
            aad, context = (_decoded(body, part) for part in ("associated_data", "context"))
            plaintext = key.cipher(version, context).decrypt(sealed[:12], sealed[12:], aad)
        except binascii.Error:
            return refusal(400, "invalid ciphertext: could not decode base64")
        except (InvalidTag, ValueError):
            return refusal(400, "invalid ciphertext: unable to decrypt")
        return 200, {"data": {"plaintext": base64.b64encode(plaintext).decode()}}


def _when(made_at: int, key: TransitKey) -> Any:
    """When a version was made, in the two forms that Vault has for it."""
    return {"creation_time": f"2026-01-01T00:00:{made_at % 60:02}.123456789Z"} if key.derived else made_at


def _decoded(body: dict[str, Any], name: str) -> bytes:
    return base64.b64decode(body.get(name, ""), validate=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one segment
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        transit = self.server.transit
        transit.heard.append(f"{self.command} {self.path}")
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if transit.misbehaves is not None:
            transit.misbehaves(self)
        else:
            self.send(*transit.answer(self, json.loads(raw) if raw else {}))

    def send(self, status: int, body: dict[str, Any]) -> None:
        self.send_raw(status, json.dumps(body).encode())

    def send_raw(self, status: int, content: bytes, *, claimed: int | None = None, **headers: str) -> None:
        """An answer of any kind; it may claim another length than it has, and then breaks off."""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content) if claimed is None else claimed))
        self.end_headers()
        self.wfile.write(content)
        if claimed is not None:
            self.close_connection = True

    def log_message(self, *_args: Any) -> None:
        """Nothing on stderr."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, transit: TransitServer, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.transit = transit
        self._connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def end(self) -> None:
        """End it, and every connection."""
        self.shutdown()
        self.server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_args: Any) -> None:
        """A client that goes away is no error."""


@contextmanager
def serving(transit: TransitServer, pki: MeshPki, folder: Path, *, port: int = 0) -> Iterator[TransitServer]:
    """It on a port of this machine, with a certificate of the PKI."""
    files = pki.identity("gateway", "vault", ips=("127.0.0.1",)).write(folder / "vault-tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    server = _Server(transit, port)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    transit.url = f"https://127.0.0.1:{server.server_port}"
    try:
        yield transit
    finally:
        server.end()
        thread.join()
