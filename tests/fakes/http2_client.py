"""A client that speaks HTTP/2 frame by frame (RFC 9113), as no library would: what a hostile one sends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fakes.pki import MeshPki

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 1
END_HEADERS = 4
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(values: Mapping[int, int] | None = None) -> bytes:
    """A SETTINGS frame."""
    pairs = (values or {}).items()
    return frame(SETTINGS, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs))


def headers(method: str, more: Mapping[str, str] | None = None) -> bytes:
    """A request's header block, each field a literal that is not indexed (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": method,
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
        **(more or {}),
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def message(body: bytes, *, compressed: bool = False) -> bytes:
    """A gRPC message with its prefix."""
    return bytes([compressed]) + len(body).to_bytes(4, "big") + body


def call(method: str, body: bytes, stream: int) -> bytes:
    """The frames of a whole unary call."""
    return frame(HEADERS, headers(method), flags=END_HEADERS, stream=stream) + frame(
        DATA, message(body), flags=END_STREAM, stream=stream
    )


def _text(value: str) -> bytes:
    raw = value.encode("latin-1")
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, length = len(raw) - 127, b"\x7f"
    while rest >= 128:
        length, rest = length + bytes([rest & 127 | 128]), rest >> 7
    return length + bytes([rest]) + raw


def tls_context(pki: MeshPki, folder: Path, *, role: str, name: str, protocol: str = "h2") -> ssl.SSLContext:
    """TLS as somebody of the mesh."""
    files = pki.identity(role, name).write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.trust_roots)
    context.load_cert_chain(files.certificate, files.private_key)
    context.set_alpn_protocols([protocol])
    return context


@asynccontextmanager
async def connected(port: int, context: ssl.SSLContext, server_name: str) -> AsyncIterator[tuple[Reader, Writer]]:
    """A connection, torn down without a word at the end; within ten seconds."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=server_name)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def read_frame(reader: Reader) -> tuple[int, int, int, bytes] | None:
    """The next frame as (kind, flags, stream, payload), or None where the connection has ended."""
    try:
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
    except (OSError, asyncio.IncompleteReadError):
        return None
    return head[3], head[4], int.from_bytes(head[5:], "big"), payload


async def read_until(reader: Reader, *kinds: int) -> int | None:
    """The first frame of one of these kinds, or None where the connection ends before."""
    while (found := await read_frame(reader)) is not None:
        if found[0] in kinds:
            return found[0]
    return None
