"""Messages that are small and say that they are not: refused before memory is spent on them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from cloister.errors import CloisterError
from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import server_name
from fakes.gateway_parts import A, infer_request
from fakes.http2_client import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST,
    connected,
    frame,
    headers,
    message,
    read_until,
    settings,
    tls_context,
)
from fakes.running_gateway import RawStub, Rig, ask

METHOD = "/inference.GRPCInferenceService/ModelInfer"
UNPACKED_BYTES = 48 << 20
GROWTH_BYTES = 12 << 20
COMPRESSORS = {"gzip": gzip.compress, "deflate": zlib.compress}


def memory_bytes(field: str) -> int:
    """Of this process, as Linux has it: `VmRSS` now, `VmHWM` at most since `watched` began."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


@contextmanager
def watched() -> Iterator[list[int]]:
    """How much this process grew at most, once the block has ended."""
    Path("/proc/self/clear_refs").write_text("5")
    before, grown = memory_bytes("VmRSS"), list[int]()
    yield grown
    grown.append(memory_bytes("VmHWM") - before)


def test_the_measure_sees_memory_that_was_given_back() -> None:
    with watched() as grown:
        bytearray(UNPACKED_BYTES)
    assert grown[0] > UNPACKED_BYTES - GROWTH_BYTES


async def send(rig: Rig, folder: Path, body: bytes, **more: str) -> int | None:
    """A call that brings this message; returns the kind of frame that answers."""
    context = tls_context(rig.pki, folder, role="client", name="ann")
    async with connected(rig.port, context, server_name(rig.pki.cluster, "gateway")) as (reader, writer):
        writer.write(PREFACE + settings())
        writer.write(frame(HEADERS, headers(METHOD, more), flags=END_HEADERS, stream=1))
        for at in range(0, len(body), 16384):
            writer.write(frame(DATA, body[at : at + 16384], stream=1))
        writer.write(frame(DATA, flags=END_STREAM, stream=1))
        return await read_until(reader, HEADERS, RST, GOAWAY)


@pytest.mark.attack("G21")
@pytest.mark.parametrize("encoding", COMPRESSORS)
@pytest.mark.parametrize("said", [True, False])
async def test_a_compressed_bomb_is_not_unpacked(rig: Rig, tmp_path: Path, encoding: str, said: bool) -> None:
    worker = await rig.worker(A)
    bomb = COMPRESSORS[encoding](bytes(UNPACKED_BYTES))
    assert len(bomb) < UNPACKED_BYTES // 900
    with watched() as grown:
        more = {"grpc-encoding": encoding} if said else {}
        assert await send(rig, tmp_path, message(bomb, compressed=True), **more) in (HEADERS, RST, GOAWAY)
    assert grown[0] < GROWTH_BYTES
    assert not worker.seen
    await ask(await rig.raw())


@pytest.mark.attack("G21")
async def test_a_message_that_announces_two_gigabytes_costs_nothing(rig: Rig, tmp_path: Path) -> None:
    await rig.worker(A)
    with watched() as grown:
        prefix = b"\0" + (2**31 - 1).to_bytes(4, "big")
        assert await send(rig, tmp_path, prefix + b"0123456789") in (HEADERS, RST, GOAWAY)
    assert grown[0] < GROWTH_BYTES
    await ask(await rig.raw())


@pytest.mark.attack("G21")
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_client_that_compresses_is_told_that_this_is_not_done(rig: Rig, compression: grpc.Compression) -> None:
    worker = await rig.worker(A)
    pems = rig.pki.identity("client", "ann")
    allowed = (("grpc.compression_enabled_algorithms_bitset", 7),)
    gateway = Peer(f"127.0.0.1:{rig.port}", pems.held(), server_name(rig.pki.cluster, "gateway"), options=allowed)
    async with gateway as peer:
        stub = peer.stub(RawStub)
        with pytest.raises(CloisterError, match="ompress"):
            await stub.infer(infer_request(tensor=bytes(1000)), timeout=5, compression=compression)
        await stub.infer(infer_request(tensor=bytes(1000)), timeout=5)
    assert len(worker.seen) == 1
