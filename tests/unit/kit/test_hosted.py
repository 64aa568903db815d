"""What a hosted server holds of callers before it knows who they are."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from cloister.errors import CloisterError, Unauthenticated
from cloister.kit.calls import Guard, RoleTable
from cloister.kit.hosted import HostedServer, Scope, identified
from cloister.kit.lifecycle import Lifecycle

MOST = 2


class _Door:
    """Says that nobody is anybody, once it is told to."""

    def __init__(self) -> None:
        self.opens = asyncio.Event()
        self.asked = 0

    async def identify(self, _scope: Scope) -> CloisterError:
        self.asked += 1
        await self.opens.wait()
        return Unauthenticated("nobody")


async def _status(server: HostedServer) -> str:
    """The gRPC status that a call is answered with."""
    told: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    def send(message: MutableMapping[str, Any]) -> asyncio.Future[None]:  # acts when it is called, as pyvoy's does
        told.append(message)
        sent = asyncio.get_running_loop().create_future()
        sent.set_result(None)
        return sent

    headers = [(b"content-type", b"application/grpc")]
    path = b"/grpc.health.v1.Health/Check"
    await server(
        {"type": "http", "method": "POST", "raw_path": path, "query_string": b"", "headers": headers}, receive, send
    )
    return str(dict(told[0]["headers"])[b"grpc-status"].decode())


@pytest.mark.attack("E08")
async def test_callers_of_whom_it_is_being_asked_who_they_are_count_as_calls_under_way() -> None:
    door = _Door()
    async with Lifecycle.running() as lifecycle:
        server = HostedServer(
            Guard(
                "a.b", RoleTable({"grpc.health.v1.Health": {"client"}}), max_call_s=5, receive_s=5, identify=identified
            ),
            lifecycle,
            max_message_bytes=1000,
            max_arriving_bytes=1000,
            max_concurrent=MOST,
            grace_s=0,
            identify=door.identify,
        )
        await server.start()
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(_status(server)) for _ in range(MOST)]
            await asyncio.sleep(0)
            assert [await _status(server) for _ in range(5)] == ["8"] * 5
            assert door.asked == MOST
            door.opens.set()
        assert [task.result() for task in waiting] == ["16"] * MOST
        assert await _status(server) == "16"
        lifecycle.stop()
