"""Around every HTTP request: limits, one log line, and errors as JSON with the reasons of the house.

    {"error": {"reason": "nonce.invalid", "message": "..."}}

What is no error of ours is 500 with a fixed text and the request's id; the rest is in our log. Queries, headers and
bodies are never logged.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister import errors
from cloister.errors import CloisterError, InvalidRequest, Overloaded
from cloister.kit.log import get_logger
from cloister.rpc.status import http_status_of

_TOO_LARGE: Final = "request.too_large"
_ROUTING: Final = {404: "path.unknown", 405: "method.not_allowed"}
_SHOWN_PATH: Final = 80
_log = get_logger()


class HttpGuard:
    """An ASGI app with the limits of its listener around it.

    Args:
        app: Answers.
        max_concurrent: Requests under way.
        max_body_bytes: Of a request.
        request_s: Longest that one may take.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_concurrent: int,
        max_body_bytes: int,
        request_s: float,
    ) -> None:
        self._app = app
        self._max_concurrent = max_concurrent
        self._max_body_bytes = max_body_bytes
        self._request_s = request_s
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _Answer(send))
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        began, error = time.monotonic(), None
        scope["app"] = self._app  # has Starlette's routes raise what they do not serve, in place of answering as text
        self._under_way += 1
        try:
            self._check_load()
            async with asyncio.timeout(self._request_s):
                await self._app(scope, _Bounded(receive, self._max_body_bytes), answer)
        except Exception as raised:  # what nobody foresaw is answered too, and logged
            error = raised
            await answer.fail(raised)
        finally:
            self._under_way -= 1
            _report(scope, answer, time.monotonic() - began, error)

    def _check_load(self) -> None:
        if self._under_way > self._max_concurrent:
            raise Overloaded("too many requests are under way; try again in a moment")


class _Bounded:
    """`receive`, up to a size."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise InvalidRequest("the request is too large", reason=_TOO_LARGE)
        return message


class Passing:
    """`send`, which lets what is left of a request pass with the end of its answer.

    Hypercorn puts a body into a small queue, and at the end says so there: where nobody takes anything out, as of a GET
    with a body, it would wait for room for ever.

    Args:
        send: As ASGI has it.
        body: What the request is received by, if it has a body.
    """

    def __init__(self, send: Send, body: Receive | None) -> None:
        self._send = send
        self._body = body

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        if self._body is None or message["type"] != "http.response.body" or message.get("more_body"):
            await self._send(message)
            return
        async with asyncio.TaskGroup() as group:
            passing = group.create_task(_passed(self._body))
            await self._send(message)
            passing.cancel()


class _Answer:
    """`send`, which remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.request_id = secrets.token_hex(8)
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Say what went wrong, unless an answer has begun: then the connection ends in the middle of it."""
        if self.status:
            return
        status, content = failure(error, self.request_id)
        body = json.dumps(content).encode() + b"\n"
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if isinstance(error, Overloaded):
            headers.append((b"retry-after", b"1"))
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


async def _passed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def has_body(scope: Scope) -> bool:
    """Whether a request brings a body."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def failure(error: Exception, request_id: str) -> tuple[int, dict[str, Any]]:
    """Status and content for an error; of one that is not ours, nothing but the request's id."""
    status = http_status_of(error)
    reason, message = errors.InternalError.default_reason, f"something broke; request {request_id} in the log"
    if isinstance(error, HTTPException):
        status, message = error.status_code, "there is nothing here, or not by this method"
        reason = _ROUTING.get(status, InvalidRequest.default_reason)
    elif isinstance(error, CloisterError) and status != 500:
        reason, message = error.reason, str(error)
    elif isinstance(error, TimeoutError):
        reason, message = "deadline.exceeded", "it took too long"
    return status, {"error": {"reason": reason, "message": message}}


def _report(scope: Scope, answer: _Answer, took_s: float, error: Exception | None) -> None:
    """One line for each request."""
    told: dict[str, Any] = {
        "method": scope["method"][:16],
        "path": scope["path"][:_SHOWN_PATH],
        "status": answer.status,
        "took_ms": round(took_s * 1000, 1),
    }
    if error is None:
        _log.info("http.answered", **told)
    elif isinstance(error, CloisterError | TimeoutError | HTTPException):
        _log.info("http.refused", **told, reason=failure(error, "")[1]["error"]["reason"])
    else:
        _log.error("http.failed", **told, request_id=answer.request_id, error=error, exc_info=error)
