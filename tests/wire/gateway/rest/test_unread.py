"""Answers that their client does not read, which as JSON are several times as large as what a worker said."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from fakes.gateway_parts import A
from fakes.pki import MeshPki
from fakes.running_rest import ENGINES, RestRig, running_rest

ELEMENTS = 3 << 20
"""Bytes of raw contents; as JSON four times that."""
MEMORY_BYTES = 4 * ELEMENTS
"""Half of it is what one peer may leave unread: more than the contents, less than their JSON."""


@pytest.mark.attack("G25")
@pytest.mark.parametrize("engine", ENGINES)
async def test_an_answer_counts_by_its_size_on_the_wire_until_it_is_read(tmp_path: Path, engine: str) -> None:
    async with running_rest(tmp_path, MeshPki(), engine, memory_bytes=MEMORY_BYTES, max_message_bytes=5 << 20) as rest:
        await rest.worker(A)
        ann = await rest.client()
        assert (await ann.get("/v2")).status_code == 200
        deaf = await _deaf(rest)
        deaf.write(_request())
        refused = await _answered(ann, 429)
        assert refused.json()["reason"] == "answers.unread"
        deaf.transport.abort()
        await _answered(ann, 200)


async def _answered(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """The first answer of this status, within a while."""
    for _ in range(1000):
        answer = await client.get("/v2")
        if answer.status_code == status:
            return answer
        await asyncio.sleep(0.01)
    raise AssertionError(f"no answer of status {status}")


async def _deaf(rest: RestRig) -> asyncio.StreamWriter:
    """A connection that takes a few bytes of what comes."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    taken.setblocking(False)
    await asyncio.get_running_loop().sock_connect(taken, ("127.0.0.1", rest.port))
    context = rest.tls()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _, writer = await asyncio.open_connection(sock=taken, ssl=context, server_hostname="127.0.0.1", limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of a socket reads
    return writer


def _request() -> bytes:
    given = {"name": "x", "datatype": "UINT8", "shape": [ELEMENTS], "parameters": {"binary_data_size": ELEMENTS}}
    said = json.dumps({"inputs": [given]}).encode()
    head = (
        "POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\n"
        f"inference-header-content-length: {len(said)}\r\ncontent-length: {len(said) + ELEMENTS}\r\n\r\n"
    )
    return head.encode() + said + b"\xff" * ELEMENTS
