"""Clients with a good certificate and bad HTTP/2, against a whole gateway: bounded, and nobody else notices."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from cloister.errors import Overloaded
from cloister.gateway import stream as answer_stream
from fakes.gateway_parts import infer_request
from fakes.http2_client import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    RST,
    SETTINGS,
    WINDOW_UPDATE,
    Reader,
    Writer,
    call,
    connected,
    frame,
    headers,
    message,
    read_frame,
    read_until,
    settings,
    tls_context,
)
from fakes.pki import MeshPki
from fakes.running_gateway import RawStub, Rig, ask, running_gateway
from fakes.worker_link import FakeWorker

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
WORKER = "a" * 32
SHARE = 8
pytestmark = pytest.mark.asyncio(loop_scope="module")

Connect = Callable[[], AbstractAsyncContextManager[tuple[Reader, Writer]]]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["grpc", "envoy"])
async def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder, limits = tmp_path_factory.mktemp("gateway"), {"max_concurrent_per_peer": SHARE, "memory_bytes": 16 << 20}
    async with running_gateway(folder, MeshPki(), front=request.param, **limits) as made:
        await made.worker(WORKER, slots=16)
        yield made


@pytest.fixture
def worker(rig: Rig) -> FakeWorker:
    rig.workers[WORKER].seen.clear()
    return rig.workers[WORKER]


@pytest_asyncio.fixture(loop_scope="module")
async def good(rig: Rig, worker: FakeWorker) -> AsyncIterator[RawStub]:
    """A client that is served before the abuse, and after it."""
    stub = await rig.raw("good")
    await ask(stub)
    yield stub
    await ask(stub)


@pytest.fixture
def hostile(rig: Rig, tmp_path: Path) -> Connect:
    """Connects as the client mallory."""
    context = tls_context(rig.pki, tmp_path / "mallory", role="client", name="mallory")
    return lambda: connected(rig.port, context, f"gateway.{rig.pki.cluster}")


def resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.attack("G20")
async def test_who_shuts_its_window_uses_up_its_own_share_and_gets_it_back(
    rig: Rig, good: RawStub, worker: FakeWorker, hostile: Connect
) -> None:
    mallory = await rig.raw("mallory")
    async with hostile() as (_, writer):
        writer.write(PREFACE + settings({INITIAL_WINDOW_SIZE: 0}))
        for stream in range(1, 2 * SHARE, 2):
            writer.write(call(INFER, infer_request(), stream))
        await worker.given(1 + SHARE)
        await rig.until(lambda status: all(not each.slots_used for each in status.workers))
        if not rig.behind_envoy:  # which gives up on answers that are not taken, and bounds what they hold
            with pytest.raises(Overloaded, match="calls of this client are open"):
                await ask(mallory)
        await ask(good)
    async with asyncio.timeout(10):
        while True:  # the connection is gone; gRPC tells the calls' tasks soon
            try:
                await ask(mallory)
                break
            except Overloaded:
                await asyncio.sleep(0.01)


@pytest.mark.attack("G20")
async def test_unread_answers_are_bounded_in_bytes(
    rig: Rig, good: RawStub, worker: FakeWorker, hostile: Connect
) -> None:
    mallory, large = await rig.raw("mallory"), infer_request(tensor=bytes(3 << 20))
    async with hostile() as (reader, writer):
        writer.write(PREFACE + settings({INITIAL_WINDOW_SIZE: 0}))
        sender = _Sender(reader, writer)
        for stream in (1, 3, 5):
            await sender.send(large, stream)
            await worker.given(1 + (stream + 1) // 2)
            await rig.until(lambda status: all(not each.slots_used for each in status.workers))
        with pytest.raises(Overloaded, match="answers that it does not read"):
            await ask(mallory)
        await ask(good)


class _Sender:
    """Sends requests of any size, as fast as the server's windows let it."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer
        self._initial = self._connection = 65_535
        self._rooms: dict[int, int] = {}

    async def send(self, body: bytes, stream: int) -> None:
        self._writer.write(frame(HEADERS, headers(INFER), flags=END_HEADERS, stream=stream))
        self._rooms[stream], rest = self._initial, message(body)
        while rest:
            size = min(self._connection, self._rooms[stream], 16_384, len(rest))
            if size <= 0:
                await self._learn()
                continue
            piece, rest = rest[:size], rest[size:]
            self._connection -= size
            self._rooms[stream] -= size
            self._writer.write(frame(DATA, piece, flags=not rest, stream=stream))

    async def _learn(self) -> None:
        found = await read_frame(self._reader)
        assert found is not None
        kind, flags, stream, payload = found
        if kind == WINDOW_UPDATE and not stream:
            self._connection += int.from_bytes(payload, "big")
        elif kind == WINDOW_UPDATE:
            self._rooms[stream] += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags:
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at : at + 2], "big") == INITIAL_WINDOW_SIZE:
                    more = int.from_bytes(payload[at + 2 : at + 6], "big") - self._initial
                    self._initial += more
                    self._rooms = {known: room + more for known, room in self._rooms.items()}
            self._writer.write(frame(SETTINGS, flags=ACK))


@pytest.mark.attack("G20")
async def test_a_window_of_one_byte_gets_its_answer_byte_by_byte(
    good: RawStub, worker: FakeWorker, hostile: Connect
) -> None:
    async with hostile() as (reader, writer):
        writer.write(PREFACE + settings({INITIAL_WINDOW_SIZE: 1}) + call(INFER, infer_request(), 1))
        sizes: list[int] = []
        while len(sizes) < 20:
            found = await read_frame(reader)
            assert found is not None
            if found[0] == DATA:
                sizes.append(len(found[3]))
                writer.write(frame(WINDOW_UPDATE, (1).to_bytes(4, "big"), stream=1))
        assert set(sizes) == {1}
        await ask(good)


@pytest.mark.attack("G20")
async def test_a_stream_whose_window_is_shut_gives_its_slots_back(
    rig: Rig, good: RawStub, worker: FakeWorker, hostile: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_stream, "WRITE_S", 0.2)
    async with hostile() as (_, writer):
        writer.write(PREFACE + settings({INITIAL_WINDOW_SIZE: 0}))
        writer.write(frame(HEADERS, headers(STREAM), flags=END_HEADERS, stream=1))
        writer.write(frame(DATA, message(infer_request()) * 5, stream=1))
        await worker.given(6)
        await rig.until(lambda status: all(not each.slots_used for each in status.workers) and not status.queued)
        await ask(good)


@pytest.mark.attack("G20")
async def test_requests_that_are_reset_as_soon_as_they_are_sent_leave_nothing_behind(
    rig: Rig, good: RawStub, hostile: Connect
) -> None:
    await _storm(hostile, 200)  # whatever is allocated once
    before = resident_bytes()
    await _storm(hostile, 2000)
    await rig.until(lambda status: all(not each.slots_used for each in status.workers) and not status.queued)
    assert resident_bytes() - before < 64 << 20


async def _storm(hostile: Connect, count: int) -> None:
    body, size = infer_request(tensor=bytes(1000)), 0
    async with hostile() as (_, writer):
        writer.write(PREFACE + settings())
        for stream in range(1, 2 * count, 2):
            writer.write(call(INFER, body, stream) + frame(RST, (8).to_bytes(4, "big"), stream=stream))
            size += len(body)
            if writer.transport.is_closing():
                return  # it was cut off, as it may be
        try:
            await writer.drain()
        except OSError:
            return
        assert size
        await asyncio.sleep(0.05)


@pytest.mark.attack("G20")
async def test_a_flood_of_settings_costs_no_memory(good: RawStub, hostile: Connect) -> None:
    before = resident_bytes()
    async with hostile() as (_, writer):
        writer.write(PREFACE)
        for _ in range(200):
            if writer.transport.is_closing():
                break
            writer.write(settings({INITIAL_WINDOW_SIZE: 65_535}) * 100)
            await ask(good)
        assert resident_bytes() - before < 32 << 20


@pytest.mark.attack("G20")
async def test_headers_that_unpack_to_megabytes_are_refused(good: RawStub, hostile: Connect) -> None:
    before = resident_bytes()
    stored = b"\x40\x01x" + b"\x7f" + _length(3000 - 127) + b"v" * 3000  # into the dynamic table, as its entry 62
    async with hostile() as (reader, writer):
        writer.write(PREFACE + settings())
        writer.write(frame(HEADERS, headers(INFER) + stored + b"\xbe" * 8000, stream=1))
        for _ in range(3):
            writer.write(frame(CONTINUATION, b"\xbe" * 16_000, stream=1))
        writer.write(frame(CONTINUATION, b"", flags=END_HEADERS, stream=1))
        assert await read_until(reader, HEADERS, RST, GOAWAY) in (HEADERS, RST, GOAWAY, None)
    assert resident_bytes() - before < 32 << 20


def _length(rest: int) -> bytes:
    encoded = b""
    while rest >= 128:
        encoded, rest = encoded + bytes([rest & 127 | 128]), rest >> 7
    return encoded + bytes([rest])


@pytest.mark.attack("G19")
async def test_a_thousand_connections_that_drip_leave_others_their_gateway(
    rig: Rig, good: RawStub, hostile: Connect
) -> None:
    dripping = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(1000)]
    try:
        async with hostile() as (_, writer):
            writer.write(PREFACE + settings() + frame(HEADERS, headers(INFER)[:10], stream=1))
            for _, half_open in dripping:
                half_open.write(b"\x16")
            for at in range(20):
                writer.write(frame(CONTINUATION, headers(INFER)[10 + at : 11 + at], stream=1))
                await ask(good)
            late = await rig.raw("late")
            await ask(late)
    finally:
        for _, half_open in dripping:
            half_open.transport.abort()
