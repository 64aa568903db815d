"""Every request is bounded, logged once, and answered: with what was asked for, or with the reason why not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister import errors
from cloister.errors import CloisterError, NotReady, Overloaded
from cloister.kit.http_calls import HttpGuard, failure
from cloister.rpc.status import HTTP_STATUSES, code_of


def guarded(app: ASGIApp, **limits: Any) -> HttpGuard:
    bounds = {"max_concurrent": 4, "max_body_bytes": 100, "request_s": 5.0, **limits}
    return HttpGuard(app, **bounds)


async def asked(app: ASGIApp, body: bytes = b"", path: str = "/x") -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
    """Status, JSON and headers of one GET."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"nonce=secret"}
    await app(scope, receive, send)
    start, *rest = sent
    content = b"".join(part.get("body", b"") for part in rest)
    return start["status"], json.loads(content or b"{}"), dict(start["headers"])


def raising(error: Exception) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    return app


async def reading(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def subclasses(kind: type[CloisterError]) -> set[type[CloisterError]]:
    """Those that errors.py has: others come and go with what else is imported."""
    found = {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))
    return {each for each in found if each.__module__ == errors.__name__}


def test_every_error_of_the_house_has_a_status() -> None:
    for kind in subclasses(CloisterError) - {CloisterError, errors.InternalError}:
        assert failure(kind("why"), "id")[0] == HTTP_STATUSES[code_of(kind("why"))]


async def test_an_error_of_ours_is_told_by_its_reason() -> None:
    status, content, headers = await asked(guarded(raising(NotReady("no enclave", reason="enclave.absent"))))
    assert (status, content) == (409, {"error": {"reason": "enclave.absent", "message": "no enclave"}})
    assert headers[b"cache-control"] == b"no-store"


async def test_of_any_other_error_nothing_is_told() -> None:
    status, content, _ = await asked(guarded(raising(ValueError("a secret"))))
    assert (status, content["error"]["reason"]) == (500, "internal")
    assert "secret" not in json.dumps(content)


async def test_a_query_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    await asked(guarded(reading))
    assert "secret" not in capsys.readouterr().out


async def test_a_body_is_read_up_to_its_limit() -> None:
    assert (await asked(guarded(reading), b"x" * 100))[0] == 200
    status, content, _ = await asked(guarded(reading), b"x" * 101)
    assert (status, content["error"]["reason"]) == (413, "request.too_large")


async def test_too_many_at_once_are_told_to_come_back() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await release.wait()
        await reading(scope, receive, send)

    app = guarded(waiting, max_concurrent=1)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(asked(app))
        await entered.wait()
        status, content, headers = await asked(app)
        release.set()
    assert (status, content["error"]["reason"]) == (429, Overloaded.default_reason)
    assert headers[b"retry-after"] == b"1"
    assert first.result()[0] == 200
    assert (await asked(app))[0] == 200


async def test_one_that_takes_too_long_is_ended() -> None:
    async def forever(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    status, content, _ = await asked(guarded(forever, request_s=0.01))
    assert (status, content["error"]["reason"]) == (504, "deadline.exceeded")


async def test_an_answer_that_has_begun_is_not_followed_by_another() -> None:
    async def breaking(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    assert (await asked(guarded(breaking)))[0] == 200


async def test_web_sockets_are_closed() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    nothing: Callable[[], Any] = asyncio.Event().wait
    await guarded(reading)({"type": "websocket", "path": "/"}, nothing, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
