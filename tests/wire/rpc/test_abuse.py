"""Clients that are let in and then misbehave below gRPC: cut off, cheaply, and nobody else notices (G20, G21, G29)."""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from fakes.echo import EchoStub, Running, echo_server
from fakes.pki import MeshPki

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_END_HEADERS = 4


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(method: str) -> bytes:
    """A request's header block, each field a literal that is not indexed (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": method,
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b""
    for name, value in fields.items():
        block += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return block


@pytest.fixture
async def echo(pki: MeshPki) -> AsyncIterator[Running]:
    async with echo_server(pki) as running:
        yield running
        async with running.peer() as peer:
            assert (await peer.stub(EchoStub).Echo(StringValue(value="still"), timeout=5)).value == "still"


@asynccontextmanager
async def connected(
    echo: Running, folder: Path, protocol: str = "h2"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    files = echo.pki.identity("gateway", "g1").write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.trust_roots)
    context.load_cert_chain(files.certificate, files.private_key)
    context.set_alpn_protocols([protocol])
    name = f"verifier.{echo.pki.cluster}"
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.server.port, ssl=context, server_hostname=name)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def read_until(reader: asyncio.StreamReader, *kinds: int) -> int | None:
    """The first frame of one of these kinds, or None where the connection ends before."""
    try:
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] in kinds:
                return head[3]
    except (OSError, asyncio.IncompleteReadError):
        return None


async def test_a_flood_of_pings_ends_the_connection(echo: Running, tmp_path: Path) -> None:
    async with connected(echo, tmp_path) as (reader, writer):
        writer.write(_PREFACE + frame(_SETTINGS) + frame(_PING, bytes(8)) * 1000)
        assert await read_until(reader, _GOAWAY) in (_GOAWAY, None)
        assert await read_until(reader) is None


async def test_two_gigabytes_announced_are_refused_before_they_are_held(echo: Running, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with connected(echo, tmp_path) as (reader, writer):
        writer.write(_PREFACE + frame(_SETTINGS))
        writer.write(frame(_HEADERS, headers("/test.Echo/Raw"), flags=_END_HEADERS, stream=1))
        writer.write(frame(_DATA, b"\0" + (2**31 - 1).to_bytes(4, "big") + b"0123456789", stream=1))
        assert await read_until(reader, _HEADERS, _RST, _GOAWAY) in (_HEADERS, _RST, _GOAWAY)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


async def test_streams_opened_and_reset_at_once_do_no_harm(echo: Running, tmp_path: Path) -> None:
    block = headers("/test.Echo/Hold")
    async with connected(echo, tmp_path) as (_, writer):
        writer.write(_PREFACE + frame(_SETTINGS))
        for stream in range(1, 2001, 2):
            writer.write(
                frame(_HEADERS, block, flags=_END_HEADERS, stream=stream) + frame(_RST, bytes(4), stream=stream)
            )
        await writer.drain()
        async with echo.peer() as peer:
            assert (await peer.stub(EchoStub).Echo(StringValue(value="x"), timeout=5)).value == "x"


async def test_headers_without_end_are_cut(echo: Running, tmp_path: Path) -> None:
    async with connected(echo, tmp_path) as (reader, writer):
        writer.write(_PREFACE + frame(_SETTINGS) + frame(_HEADERS, headers("/test.Echo/Raw"), stream=1))
        field = b"\0" + b"\x01x" + b"\x7f\x80\x7f" + bytes(16255)  # a name and 16 255 bytes of value
        for _ in range(64):
            writer.write(frame(_CONTINUATION, field[:16384], stream=1))
        assert await read_until(reader, _HEADERS, _RST, _GOAWAY) in (_HEADERS, _RST, _GOAWAY, None)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(500), b"\0" * 5000])
async def test_what_is_not_http_2_is_hung_up_on(echo: Running, tmp_path: Path, said: bytes) -> None:
    async with connected(echo, tmp_path) as (reader, writer):
        writer.write(said)
        assert await read_until(reader) is None
