"""One answer from the service, got strictly: no redirect, no proxy or address but the given, bounded in size and time.

The deadline is for the whole answer, so one that drips never outlives it. What may pass by itself is asked for again, a
few times and with jitter, and no sooner than the service says.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from cloister.errors import CloisterError, InvalidRequest, NotFound, Unavailable

BUSY: Final = "pcs.busy"

# 500 is not among them: a cache answers so for a request that it will never understand.
_PASSING: Final = frozenset({429, 502, 503, 504})
_GONE: Final = {
    400: "it does not understand the request",
    401: "it wants to know who asks",
    403: "it refuses the request",
    404: "it knows no such platform family",
    410: "it no longer has that evaluation number",
    461: "it knows no such platform family",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much patience there is.

    Attributes:
        deadline_s: For one answer, from connecting to its last byte.
        size_bytes: Of one answer.
        attempts: How often one is asked for, at most.
        wait_s: Longest wait before another attempt.
    """

    deadline_s: float = 20.0
    size_bytes: int = 256 * 1024
    attempts: int = 3
    wait_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer; names of headers are found in any case."""

    headers: Mapping[str, str]
    body: bytes


class Download:
    """Answers from one service, over connections that it keeps while it is used.

    Args:
        http: Made by `connected`.
        limits: How much patience there is.
        pause: How to wait, in seconds.
    """

    def __init__(self, http: httpx.AsyncClient, limits: Limits, pause: Callable[[float], Awaitable[None]]) -> None:
        self._http = http
        self._limits = limits
        self._pause = pause

    async def get(self, url: str) -> Answer:
        """The answer at `url`, whose host each error names.

        Raises:
            NotFound: The service does not have it (`pcs.unknown`).
            Unavailable: It cannot be had now (`pcs.unreachable`, `pcs.slow`, `pcs.busy`).
            InvalidRequest: Something else was answered (`pcs.redirected`, `pcs.too_large`, `pcs.malformed`).
        """
        for attempt in range(1, self._limits.attempts + 1):
            try:
                return await self._once(url)
            except _Again as again:
                wait_s = again.after_s if again.after_s is not None else _backoff(attempt)
                if attempt == self._limits.attempts or wait_s > self._limits.wait_s:
                    raise again.error from None
                await self._pause(wait_s)
        raise AssertionError("at least one attempt is made")

    async def _once(self, url: str) -> Answer:
        host = urlsplit(url).hostname
        try:
            async with asyncio.timeout(self._limits.deadline_s), self._http.stream("GET", url) as response:
                _check_status(response, host)
                return Answer(response.headers, await self._body(response, host))
        except TimeoutError:
            raise Unavailable(f"{host}: no whole answer in time", reason="pcs.slow") from None
        except (httpx.HTTPError, OSError) as error:  # broken TLS in the middle comes as OpenSSL's own error
            raise Unavailable(f"{host}: {_cause(error)}", reason="pcs.unreachable") from error

    async def _body(self, response: httpx.Response, host: str | None) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise InvalidRequest(f"{host}: the answer is compressed, which nobody asked for", reason="pcs.malformed")
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > self._limits.size_bytes:
                raise InvalidRequest(f"{host}: the answer is larger than any should be", reason="pcs.too_large")
        if "html" in response.headers.get("content-type", "") or body.lstrip()[:1] == b"<":
            raise InvalidRequest(f"{host}: the answer is a web page, as of a portal between", reason="pcs.malformed")
        return bytes(body)


def connected(ca_context: ssl.SSLContext, proxy: str = "") -> httpx.AsyncClient:
    """Connections that follow nothing, read no environment, and believe `ca_context`."""
    return httpx.AsyncClient(
        verify=ca_context,
        proxy=proxy or None,
        follow_redirects=False,
        trust_env=False,
        timeout=None,  # noqa: S113  # each answer has a deadline as a whole, which these do not add up to
        headers={"Accept-Encoding": "identity", "User-Agent": "cloister"},
    )


class _Again(Exception):
    """It may pass; `error` is what it comes to otherwise."""

    def __init__(self, error: CloisterError, after_s: float | None) -> None:
        super().__init__()
        self.error = error
        self.after_s = after_s


def _check_status(response: httpx.Response, host: str | None) -> None:
    status = response.status_code
    if status == 200:
        return
    asked = f"{host}: answer {status}"
    if number := re.sub(r"[^A-Za-z0-9-]", "", response.headers.get("request-id", ""))[:64]:
        asked += f" to request {number}"
    if 300 <= status < 400:
        raise InvalidRequest(f"{asked}: it points elsewhere, and is not followed", reason="pcs.redirected")
    if status in _PASSING:
        error = Unavailable(f"{asked}: it cannot answer now", reason=BUSY)
        raise _Again(error, _seconds(response.headers.get("retry-after", "")))
    if status in (404, 410, 461):
        raise NotFound(f"{asked}: {_GONE[status]}", reason="pcs.unknown")
    raise InvalidRequest(f"{asked}: {_GONE.get(status, 'it failed')}", reason="pcs.refused")


def _seconds(text: str) -> float | None:
    """What Retry-After asks for; a date counts as nothing, and the wait is ours."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _backoff(attempt: int) -> float:
    return float(2 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter


def _cause(error: Exception) -> str:
    """What went wrong, without addresses or paths that the library may repeat."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not believed ({seen.verify_message})"
        if isinstance(seen, ssl.SSLError):
            return "it does not speak TLS as it should"
        seen = seen.__cause__ or seen.__context__
    return "it cannot be reached" if isinstance(error, httpx.ConnectError) else "the connection broke"
