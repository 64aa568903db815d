"""One HTTP request and its answer: errors in the protocol's form, headers of every answer, clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from cloister.errors import CloisterError, InternalError, InvalidRequest, NotFound, Overloaded, Unauthenticated
from cloister.kit.grpc_http import PIECE_BYTES, Message, Receive, Send, as_future
from cloister.kit.hosted import Scope
from cloister.kit.http_calls import has_body
from cloister.kit.log import get_logger
from cloister.rpc.status import http_status_of, reason_of, told_as

EXCHANGE: Final = "cloister.exchange"
"""Where a request's scope has it."""
_EVERYWHERE: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)
PASSED_BYTES: Final = 128 << 20
PASSED_S: Final = 2.0
PASSING: Final = 32
"""Refused requests whose rest is let pass at a time: nobody need be known to be refused, and each holds a turn."""
_NOWHERE: Final = "there is nothing at this path; /openapi.json says what there is"
_log = get_logger()


class RestExchange:
    """See `kit.hosted.Exchange`.

    Args:
        app: Starlette's routes.
        passing: Of all exchanges of a server, one for each of `PASSING`.
        scope: Of an ASGI HTTP connection.
        receive: As ASGI has it.
        send: As ASGI has it.
    """

    def __init__(self, app: ASGIApp, passing: asyncio.Semaphore, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._app = app
        self._passing = passing
        self._receive = receive
        self._send = send
        self._task = asyncio.current_task()
        self._coming: asyncio.Future[Message] | None = None
        self._watched = self._gone = self._begun = self._received = False

    async def answer(self) -> None:
        """Answer the request, with an error if need be."""
        # With "app", Starlette's routes raise what they do not serve, in place of answering as text.
        scope = {**self.scope, EXCHANGE: self, "app": self._app}
        try:
            if (
                b"%" in scope["raw_path"]
            ):  # no name of ours needs it, and whoever stands before us may read it otherwise
                raise NotFound(_NOWHERE, reason="path.unknown")
            await self._app(scope, self.receive, self._sent)
        except ConnectionResetError:
            pass  # nobody is there
        except asyncio.CancelledError:
            if not self._gone:
                raise
        except Exception as error:
            await self._fail(error)
        finally:
            self._watched = False
            if isinstance(self._coming, asyncio.Task):  # pyvoy sets its own futures, whoever has cancelled them
                self._coming.cancel()

    async def refuse(self, error: CloisterError) -> None:
        """Answer before anything of the request is read."""
        await self._fail(error)

    async def receive(self) -> Message:
        """The next piece of the request."""
        message = await self._receive()
        self._received = self._received or not message.get("more_body", False)
        return message

    def watch(self) -> None:
        """The request has been read: from now on a client that leaves ends it."""
        self._watched = True

    def look(self) -> None:
        """Ask whether the client is still there, and cancel the answer if it is not."""
        if self._watched and self._coming is None:
            self._coming = as_future(self._receive())
            self._coming.add_done_callback(self._heard)

    def _heard(self, coming: asyncio.Future[Message]) -> None:
        self._coming = None
        if coming.cancelled() or not self._watched:
            return
        if coming.exception() is not None or coming.result()["type"] == "http.disconnect":
            self._gone = True
            if self._task is not None:
                self._task.cancel()

    async def _fail(self, error: Exception) -> None:
        """Say what went wrong, unless an answer has begun: then it ends in the middle."""
        if self._begun:
            _log.error("rest.cut_off", error=error, exc_info=error)
            return
        allowed = ""
        if isinstance(error, HTTPException):
            allowed = (error.headers or {}).get("Allow", "")
            error = _routed(error, allowed)
        told = told_as(error, request_id=(request := secrets.token_hex(8)))
        if told is not error and isinstance(told, InternalError):
            _log.error("rest.broken", request=request, error=error, exc_info=error)
        if not self._passing.locked():
            async with self._passing:
                await self._pass()
        response = error_response(told)
        if allowed:
            response.headers["allow"] = allowed
        await response(dict(self.scope), self.receive, self._sent)

    async def _pass(self) -> None:
        """Let what is left of a refused request pass, for a while: who still sends would not read the answer."""
        left_bytes = PASSED_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PASSED_S):
                while not self._received and left_bytes > 0 and has_body(self.scope) and not _asks_first(self.scope):
                    left_bytes -= len((await self.receive()).get("body", b""))

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            await self._send({**message, "headers": [*message["headers"], *_EVERYWHERE]})
            return
        body = message.get("body", b"") if self.scope["method"] != "HEAD" else b""
        for start in range(0, len(body) - PIECE_BYTES, PIECE_BYTES):  # each waits until the one before has left
            piece = body[start : start + PIECE_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        self._watched = False
        last = max(0, -(-len(body) // PIECE_BYTES) - 1) * PIECE_BYTES
        await self._send({"type": "http.response.body", "body": body[last:], "more_body": False})


def _asks_first(scope: Scope) -> bool:
    """Whether a client sends its body only once it is told to go on."""
    return any(name == b"expect" for name, _ in scope["headers"])


def error_response(error: BaseException) -> Response:
    """The protocol's form of an error, with the reason of the house beside its text."""
    headers: dict[str, str] = {}
    if isinstance(error, Overloaded):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    text = msgspec.json.encode({"error": str(error), "reason": reason_of(error)})
    return Response(text, http_status_of(error), headers, "application/json")


def _routed(error: HTTPException, allowed: str) -> CloisterError:
    """What Starlette's routes raise."""
    if error.status_code == 405:
        return InvalidRequest(f"this path takes {allowed}", reason="method.not_allowed")
    return NotFound(_NOWHERE, reason="path.unknown")
