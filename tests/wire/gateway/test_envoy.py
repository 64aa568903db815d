"""The gateway inside Envoy: who gets in, who one is taken for, and how it ends, with the real Envoy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from cloister.api.v1.gateway_pb2 import GetStatusRequest
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.errors import InvalidRequest, NotAllowed, Unauthenticated, Unavailable
from cloister.kit.grpc_http import PEER_HEADER
from cloister.rpc.channel import Peer
from fakes.gateway_parts import infer_request
from fakes.pki import MeshPki, Pems
from fakes.running_gateway import RawStub, Rig, ask, running_gateway
from fakes.strangers import REFUSED_BY_TLS, REFUSED_BY_US, Presenting, speaks_http2
from fakes.worker_link import FakeWorker

WORKER = "a" * 32
LIMIT = 8 << 20
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway(folder, MeshPki(), front="envoy", max_message_bytes=LIMIT) as made:
        await made.worker(WORKER, slots=16)
        yield made


@pytest.fixture
def worker(rig: Rig) -> FakeWorker:
    rig.workers[WORKER].seen.clear()
    rig.workers[WORKER].cancelled.clear()
    rig.workers[WORKER].open_gate.set()
    return rig.workers[WORKER]


def reached(rig: Rig, pems: Pems) -> Peer:
    """The gateway, by somebody who shows whatever it is given."""
    return Peer(f"127.0.0.1:{rig.port}", Presenting(pems, rig.pki.roots_pem), f"gateway.{rig.pki.cluster}")


@pytest.mark.attack("G17")
async def test_tls_1_3_with_a_certificate_and_nothing_less(rig: Rig, tmp_path: Path) -> None:
    ann = rig.pki.identity("client", "ann")
    assert await speaks_http2(rig.port, rig.pki, "gateway", ann, tmp_path)
    assert not await speaks_http2(rig.port, rig.pki, "gateway", ann, tmp_path, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert not await speaks_http2(rig.port, rig.pki, "gateway", None, tmp_path)


@pytest.mark.attack("G17")
@pytest.mark.attack("G18")
@pytest.mark.parametrize("wrong", [*REFUSED_BY_TLS, *REFUSED_BY_US])
async def test_a_stranger_is_not_answered(rig: Rig, worker: FakeWorker, wrong: str) -> None:
    make = REFUSED_BY_TLS.get(wrong) or REFUSED_BY_US[wrong]
    async with reached(rig, make(rig.pki)) as peer:
        with pytest.raises((Unavailable, Unauthenticated, NotAllowed)):
            await peer.stub(RawStub).infer(infer_request(), timeout=5)
    assert not worker.seen


@pytest.mark.attack("G23")
async def test_a_client_cannot_send_the_header_that_says_who_it_is(rig: Rig, worker: FakeWorker) -> None:
    olga = quote(rig.pki.identity("operator", "olga").certificate.decode())
    claims = ((PEER_HEADER, olga), ("x-forwarded-client-cert", f"Cert={olga}"))
    peer = await rig.peer("client", "ann")
    with pytest.raises(NotAllowed):
        await peer.stub(GatewayStub).GetStatus(GetStatusRequest(), timeout=5, metadata=claims)
    await peer.stub(RawStub).infer(infer_request(), timeout=5, metadata=claims)
    assert [call.tenant for call in worker.seen] == [f"spiffe://{rig.pki.cluster}/client/ann"]


async def test_a_certificate_that_ends_on_an_open_connection_ends_its_calls(rig: Rig, worker: FakeWorker) -> None:
    lived = timedelta(hours=1) - timedelta(seconds=9)
    brief = rig.pki.identity("client", "brief", now=rig.pki.now - lived, life=timedelta(hours=1))
    async with reached(rig, brief) as peer:
        stub = peer.stub(RawStub)
        await stub.infer(infer_request(), timeout=5)
        with pytest.raises(Unauthenticated, match="expired"):
            await _asking(stub)


async def _asking(stub: RawStub) -> None:
    async with asyncio.timeout(40):
        while True:
            await stub.infer(infer_request(), timeout=5)
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("size_bytes", [0, 1, 300_000, 3 << 20])
async def test_answers_of_any_size_come_back_whole(rig: Rig, worker: FakeWorker, size_bytes: int) -> None:
    tensor = bytes(range(256)) * (size_bytes // 256) + bytes(size_bytes % 256)
    answer = await ask(await rig.raw(), infer_request(tensor=tensor))
    assert answer.raw_output_contents[0] == tensor


@pytest.mark.attack("G21")
async def test_a_message_over_the_limit_is_refused_and_one_at_it_is_not(rig: Rig, worker: FakeWorker) -> None:
    stub = await rig.raw()
    frame = len(infer_request(tensor=bytes(1 << 22))) - (1 << 22)
    largest = infer_request(tensor=bytes(LIMIT - frame))
    assert len(largest) <= LIMIT
    await ask(stub, largest)
    with pytest.raises(InvalidRequest) as caught:
        await ask(stub, infer_request(tensor=bytes(LIMIT)))
    assert caught.value.reason == "message.too_large"
    assert len(worker.seen) == 1


@pytest.mark.attack("G24")
async def test_a_client_that_leaves_while_its_answer_is_made_gives_its_slot_back(rig: Rig, worker: FakeWorker) -> None:
    worker.open_gate.clear()
    stub = await rig.raw("leaver")
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(ask(stub)) for _ in range(5)]
        await worker.given(5)
        for call in calls:
            call.cancel()
    async with asyncio.timeout(10):
        while len(worker.cancelled) < 5:  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.02)
    worker.open_gate.set()
    await rig.until(lambda status: all(not each.slots_used for each in status.workers))


async def test_many_requests_of_a_stream_are_answered_in_order(rig: Rig, worker: FakeWorker) -> None:
    call: Any = (await rig.raw()).stream(timeout=30)
    sizes = [1, 70_000, 5, 200_000, 0] * 40
    async with asyncio.TaskGroup() as group:
        group.create_task(_send(call, sizes))
        async with asyncio.timeout(30):
            for at in range(len(sizes)):
                item = await call.read()
                assert f"request {at}".encode() in item
    assert len(worker.seen) == len(sizes)


async def _send(call: Any, sizes: list[int]) -> None:
    for at, size in enumerate(sizes):
        await call.write(infer_request(identifier=f"request {at}", tensor=bytes(size)))
    await call.done_writing()


async def test_a_new_certificate_is_shown_at_the_next_handshake(tmp_path: Path) -> None:
    pki = MeshPki()
    async with running_gateway(tmp_path, pki, front="envoy") as rig:
        await rig.worker(WORKER)
        await ask(await rig.raw())
        before = await _shown(rig, tmp_path)
        renewed = pki.identity("gateway", "main", ips=("127.0.0.1",))
        for name, content in (("certificate.pem", renewed.certificate), ("key.pem", renewed.private_key)):
            fresh = tmp_path / "tls" / f".{name}"
            fresh.touch(mode=0o600)
            fresh.write_bytes(content)
            fresh.rename(tmp_path / "tls" / name)
        async with asyncio.timeout(40):
            while await _shown(rig, tmp_path) == before:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        await ask(await rig.raw("bob"))


async def _shown(rig: Rig, folder: Path) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=rig.pki.roots_pem.decode())
    files = rig.pki.identity("client", "ann").write(folder / "ann")
    context.load_cert_chain(files.certificate, files.private_key)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(
        "127.0.0.1", rig.port, ssl=context, server_hostname=f"gateway.{rig.pki.cluster}"
    )
    try:
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return shown
    finally:
        writer.transport.abort()
