"""Clients that are let in and then misbehave below gRPC: cut off, cheaply, and nobody else notices (G20, G21, G29)."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from cloister.errors import Unavailable
from fakes.echo import EchoStub, Running, echo_server
from fakes.http2_client import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST,
    Reader,
    Writer,
    connected,
    frame,
    headers,
    read_until,
    settings,
    tls_context,
)
from fakes.pki import MeshPki

Connect = Callable[[], AbstractAsyncContextManager[tuple[Reader, Writer]]]


@pytest.fixture
async def echo(pki: MeshPki) -> AsyncIterator[Running]:
    async with echo_server(pki) as running:
        yield running
        async with running.peer() as peer:
            assert (await peer.stub(EchoStub).Echo(StringValue(value="still"), timeout=5)).value == "still"


@pytest.fixture
def hostile(echo: Running, tmp_path: Path) -> Connect:
    """Connects as one who is let in."""
    context = tls_context(echo.pki, tmp_path, role="gateway", name="g1")
    return lambda: connected(echo.server.port, context, f"verifier.{echo.pki.cluster}")


@pytest.mark.attack("G20")
async def test_a_flood_of_pings_ends_the_connection(hostile: Connect) -> None:
    async with hostile() as (reader, writer):
        writer.write(PREFACE + settings() + frame(PING, bytes(8)) * 1000)
        assert await read_until(reader, GOAWAY) in (GOAWAY, None)
        assert await read_until(reader) is None


@pytest.mark.attack("G21")
async def test_two_gigabytes_announced_are_refused_before_they_are_held(hostile: Connect) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with hostile() as (reader, writer):
        writer.write(PREFACE + settings())
        writer.write(frame(HEADERS, headers("/test.Echo/Raw"), flags=END_HEADERS, stream=1))
        writer.write(frame(DATA, b"\0" + (2**31 - 1).to_bytes(4, "big") + b"0123456789", stream=1))
        assert await read_until(reader, HEADERS, RST, GOAWAY) in (HEADERS, RST, GOAWAY)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


@pytest.mark.attack("G20")
async def test_streams_opened_and_reset_at_once_do_no_harm(hostile: Connect, echo: Running) -> None:
    block = headers("/test.Echo/Hold")
    async with hostile() as (_, writer):
        writer.write(PREFACE + settings())
        for stream in range(1, 2001, 2):
            writer.write(frame(HEADERS, block, flags=END_HEADERS, stream=stream) + frame(RST, bytes(4), stream=stream))
        await writer.drain()
        async with echo.peer() as peer:
            assert (await peer.stub(EchoStub).Echo(StringValue(value="x"), timeout=5)).value == "x"


@pytest.mark.attack("G20")
async def test_headers_without_end_are_cut(hostile: Connect) -> None:
    async with hostile() as (reader, writer):
        writer.write(PREFACE + settings() + frame(HEADERS, headers("/test.Echo/Raw"), stream=1))
        field = b"\0" + b"\x01x" + b"\x7f\x80\x7f" + bytes(16255)  # a name and 16 255 bytes of value
        for _ in range(64):
            writer.write(frame(CONTINUATION, field[:16384], stream=1))
        assert await read_until(reader, HEADERS, RST, GOAWAY) in (HEADERS, RST, GOAWAY, None)


@pytest.mark.attack("G29")
@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(500), b"\0" * 5000])
async def test_what_is_not_http_2_is_hung_up_on(hostile: Connect, said: bytes) -> None:
    async with hostile() as (reader, writer):
        writer.write(said)
        assert await read_until(reader) is None


@pytest.mark.attack("G19")
async def test_a_handshake_that_does_not_go_on_is_hung_up_on(pki: MeshPki) -> None:
    async with echo_server(pki, handshake_s=0.2) as echo, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.server.port)
        writer.write(b"\x16\x03\x01\x02\x00\x01")  # a ClientHello begins, and no more of it comes
        assert await reader.read() == b""
        writer.close()


@pytest.mark.attack("G19")
async def test_connections_over_the_limit_are_closed_and_those_within_live_on(pki: MeshPki) -> None:
    async with echo_server(pki, max_connections=5) as echo, echo.peer() as peer, asyncio.timeout(20):
        stub = peer.stub(EchoStub)
        await stub.Echo(StringValue(value="x"), timeout=5)
        idle = [await asyncio.open_connection("127.0.0.1", echo.server.port) for _ in range(4)]
        with pytest.raises(Unavailable):
            async with echo.peer() as late:
                await late.stub(EchoStub).Echo(StringValue(value="x"), timeout=1)
        assert (await stub.Echo(StringValue(value="y"), timeout=5)).value == "y"
        for _, writer in idle:
            writer.transport.abort()
        async with echo.peer() as later:
            await later.ready(15)  # the server may not have seen yet that they have gone
            assert (await later.stub(EchoStub).Echo(StringValue(value="z"), timeout=5)).value == "z"
