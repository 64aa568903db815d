"""What a refused request may hold: nobody need be known to be refused."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from cloister.errors import Unauthenticated
from cloister.gateway.rest.exchange import RestExchange
from cloister.kit.grpc_http import Message
from cloister.kit.hosted import Scope


class _Asked:
    """A request whose body never comes, and what it is told."""

    def __init__(self, passing: asyncio.Semaphore) -> None:
        self.told: list[MutableMapping[str, Any]] = []
        self.sends = asyncio.Event()
        scope = {"type": "http", "method": "POST", "raw_path": b"/", "headers": [(b"content-length", b"10")]}
        self._exchange = RestExchange(_nobody, passing, scope, self._receive, self._send)

    async def answered(self) -> int:
        await self._exchange.answer()
        return int(self.told[0]["status"])

    async def _receive(self) -> Message:
        await self.sends.wait()
        return {"type": "http.request", "body": b"0123456789", "more_body": False}

    async def _send(self, message: Message) -> None:
        self.told.append(message)


async def _nobody(_scope: Scope, _receive: Any, _send: Any) -> None:
    raise Unauthenticated("nobody")


@pytest.mark.attack("G19")
async def test_who_is_refused_and_never_sends_the_rest_holds_few_turns() -> None:
    passing = asyncio.Semaphore(2)
    slow = [_Asked(passing) for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(each.answered()) for each in slow]
        await asyncio.sleep(0)
        for _ in range(20):
            assert await _Asked(passing).answered() == 401
        assert not any(each.told for each in slow)
        for each in slow:
            each.sends.set()
    assert [task.result() for task in waiting] == [401, 401]
    late = _Asked(passing)
    late.sends.set()
    assert await late.answered() == 401
