"""The metrics page, over real HTTP."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from cloister.errors import NotReady
from cloister.kit.exporter import exporter
from cloister.kit.metrics import Metrics
from fakes.echo import EchoStub, echo_server
from fakes.pki import MeshPki


async def page(port: int) -> str:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return text


async def test_calls_show_up_on_the_page(pki: MeshPki) -> None:
    metrics = Metrics()
    async with echo_server(pki, on_call=metrics.call_answered) as echo, echo.peer() as peer:
        await peer.stub(EchoStub).Echo(StringValue(), timeout=5)
    async with exporter(":0", metrics.registry) as port:
        text = await page(port)
        with pytest.raises(NotReady):
            async with exporter(f"127.0.0.1:{port}", metrics.registry):
                pass
    assert 'cloister_calls_total{code="OK",method="/test.Echo/Echo"} 1.0' in text
