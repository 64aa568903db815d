"""The metrics page, over real HTTP."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from cloister.errors import NotReady
from cloister.kit import exporter as exporting
from cloister.kit.exporter import exporter
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.server import Health
from fakes.echo import EchoStub, echo_server
from fakes.pki import MeshPki


async def page(port: int, path: str = "/metrics") -> str:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
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


async def test_a_process_is_ready_while_all_of_its_servers_answer(pki: MeshPki) -> None:
    async with Lifecycle.running() as lifecycle, exporter(":0", Metrics().registry, lifecycle.ready) as port:
        assert "503" in await page(port, "/ready")  # nothing is served yet
        first, second = Health(lifecycle), Health(lifecycle)
        await first.started()
        assert "503" in await page(port, "/ready")
        await second.set("", True)
        assert "200" in await page(port, "/ready")
        await first.drain()
        assert "503" in await page(port, "/ready")
        await first.set("", True)
        lifecycle.stop()
        assert "503" in await page(port, "/ready")


async def test_a_process_whose_loop_is_held_up_does_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    async with exporter(":0", Metrics().registry) as port:
        assert "200" in await page(port, "/live")
        monkeypatch.setattr(exporting, "HELD_UP_S", -1.0)
        assert "503" in await page(port, "/live")


async def test_the_pages_answer_on_ipv6_too() -> None:
    async with exporter("[::1]:0", Metrics().registry) as port:
        assert port > 0
