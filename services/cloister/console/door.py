"""Who may look, and what a browser may do with what it is given: around every request of the console.

On the loopback interface whoever came by the one-time link, remembered by a cookie; elsewhere who shows a client
certificate of an operator or auditor. A page of somebody else's in the same browser gets nothing: the Host must be
ours (DNS rebinding), requests that other sites start are refused (`Sec-Fetch-Site`), the cookie is `SameSite=Strict`,
nothing may frame us, and since every method but GET and HEAD is refused and GET changes nothing but who is let in,
there is nothing to forge.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister.console.sessions import SESSION_S, Sessions
from cloister.errors import CloisterError, NotAllowed, Unauthenticated
from cloister.kit.log import get_logger
from cloister.rpc.identity import PeerIdentity

ENTER: Final = "/enter"
ROLES: Final = frozenset({"auditor", "operator"})
_METHODS: Final = frozenset({"GET", "HEAD"})
_NAVIGATION: Final = (b"navigate", b"document")
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), usb=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
)
LOCKED: Final = (
    "This console opens by its one-time link. 'cloister console' prints the present one; each opens one browser.\n"
)
_log = get_logger()


class Door:
    """An ASGI app that only lets in who may look.

    Args:
        app: What is behind it.
        hosts: `host:port` as a browser may name us.
        sessions: Who came by a link; None where certificates say who somebody is.
        identify: Names the client by its certificate, in PEM; raises for one that is nobody here.
        wall_s: Unix time.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        sessions: Sessions | None = None,
        identify: Callable[[str], PeerIdentity] | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._hosts = {host.encode() for host in hosts}
        self._sessions = sessions
        self._identify = identify
        self._wall_s = wall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        answering = _with_headers(send)
        if self._sessions is not None and scope["path"] == ENTER and self._is_ours(scope, headers):
            await self._enter(scope, answering)
            return
        try:
            self._admit(scope, headers)
        except CloisterError as error:
            await _say(answering, HTTPStatus.FORBIDDEN, str(error))
            return
        await self._app(scope, receive, answering)

    def _is_ours(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        return headers.get(b"host") in self._hosts and scope["method"] in _METHODS

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if scope["method"] not in _METHODS:
            raise NotAllowed("the console is there to look, and changes nothing")
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            raise NotAllowed("the console is not known by this name: open it by the address that it printed")
        site = headers.get(b"sec-fetch-site", b"none")
        navigates = (headers.get(b"sec-fetch-mode"), headers.get(b"sec-fetch-dest")) == _NAVIGATION
        if site not in (b"none", b"same-origin") and not navigates:
            raise NotAllowed("another site asked for this")
        if self._sessions is not None:
            if not self._sessions.knows(_cookie(headers.get(b"cookie", b""), _name(hosts[0]))):
                raise Unauthenticated(LOCKED.strip())
        elif self._identify is not None:
            self._check_role(scope)

    def _check_role(self, scope: Scope) -> None:
        shown = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain") or ()
        if not shown or self._identify is None:
            raise Unauthenticated("show the client certificate of an operator or auditor of this mesh")
        peer = self._identify(shown[0])
        if peer.role not in ROLES:
            raise NotAllowed(f"the console is for operators and auditors, and this is the certificate of a {peer.role}")
        if peer.expires_at <= self._wall_s():  # TLS looked at the dates when the connection began
            raise Unauthenticated("this certificate has expired")

    async def _enter(self, scope: Scope, send: Send) -> None:
        link = parse_qs(scope["query_string"].decode("ascii", "replace")).get("link", [""])[0]
        cookie = self._sessions.enter(link) if self._sessions is not None and scope["method"] == "GET" else None
        if cookie is None:
            _log.warning("console.not_entered")
            await _say(send, HTTPStatus.FORBIDDEN, f"This link has been used, or never was one. {LOCKED}")
            return
        _log.info("console.entered")
        name = _name(dict(scope["headers"])[b"host"])
        kept = f"{name}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SESSION_S:.0f}"
        headers = [(b"location", b"/"), (b"set-cookie", kept.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": HTTPStatus.SEE_OTHER, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _name(host: bytes) -> str:
    """Cookies know hosts and not ports: each console of a machine has its own."""
    return f"cloister-console-{host.rpartition(b':')[2].decode('ascii', 'replace')}"


def _cookie(header: bytes, name: str) -> str:
    try:
        found = SimpleCookie(header.decode("latin-1")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _with_headers(send: Send) -> Send:
    async def answering(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in given)]
        await send(message)

    return answering


async def _say(send: Send, status: HTTPStatus, words: str) -> None:
    body = words.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
