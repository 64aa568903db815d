"""Certificates change while calls are under way: none fails, and the new one is really used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from cloister.rpc.identity import TlsIdentity, spki_sha256
from fakes.echo import EchoStub, Running, echo_server
from fakes.pki import MeshPki


@pytest.fixture
async def echo(pki: MeshPki) -> AsyncIterator[Running]:
    async with echo_server(pki) as running:
        yield running


async def test_a_loop_of_calls_does_not_notice_either_side_rotating(echo: Running, pki: MeshPki) -> None:
    mine = pki.identity("gateway", "g1").held()
    seen: set[bytes] = set()
    done = asyncio.Event()

    async def calling(stub: EchoStub) -> int:
        count = 0
        while not done.is_set():
            assert (await stub.Echo(StringValue(value="x"), timeout=10)).value == "x"
            count += 1
        return count

    async with echo.peer(mine) as peer:
        stub = peer.stub(EchoStub)
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(calling(stub)) for _ in range(4)]
            for _ in range(5):
                fresh = pki.identity("gateway", "g1")
                mine.replace(fresh.certificate, fresh.private_key)
                seen.add(spki_sha256(fresh.certificate))
                renewed = pki.identity("verifier", "v1")
                echo.identity.replace(renewed.certificate, renewed.private_key)
                await stub.Echo(StringValue(), timeout=10)
            done.set()
    assert sum(task.result() for task in loops) > 0
    await echo.calls.ended(echo.servicer.calls)
    assert all(call.code == "OK" for call in echo.calls)
    assert seen == {call.peer.spki_sha256 for call in echo.calls if call.peer} & seen


async def test_a_server_presents_its_new_certificate_at_the_next_handshake(echo: Running, pki: MeshPki) -> None:
    other = MeshPki(pki.cluster)  # its certificates are not believed by our clients
    stranger = other.identity("verifier", "v1")
    async with echo.peer() as before, echo.peer() as after:
        await before.stub(EchoStub).Echo(StringValue(), timeout=5)
        echo.identity.replace(stranger.certificate, stranger.private_key)
        with pytest.raises(Exception, match=r"(?i)handshake|socket closed|verif"):
            await after.stub(EchoStub).Echo(StringValue(), timeout=5)
        await before.stub(EchoStub).Echo(StringValue(), timeout=5)


async def test_a_call_in_flight_ends_on_the_old_channel_which_then_closes(echo: Running, pki: MeshPki) -> None:
    mine = pki.identity("gateway", "g1").held()
    async with echo.peer(mine) as peer, asyncio.TaskGroup() as group:
        stub = peer.stub(EchoStub)
        held = group.create_task(stub.Hold(StringValue(value="x"), timeout=10))
        chat = stub.Chat(timeout=10)
        await chat.write(StringValue(value="a"))
        await echo.servicer.holding.wait()
        old = peer._line
        fresh = pki.identity("gateway", "g1")
        mine.replace(fresh.certificate, fresh.private_key)
        await stub.Echo(StringValue(), timeout=5)
        assert peer._line is not old
        assert old is not None
        echo.servicer.release.set()
        assert (await held).value == "x"
        assert (await chat.read()).value == "a"
        await chat.write(StringValue(value="still here"))
        assert (await chat.read()).value == "still here"
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert old.idle
    assert old.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_closing_a_peer_ends_what_is_left_on_its_old_channels(echo: Running, pki: MeshPki) -> None:
    mine = pki.identity("gateway", "g1").held()
    async with echo.peer(mine) as peer:
        chat = peer.stub(EchoStub).Chat(timeout=10)
        await chat.write(StringValue(value="a"))
        old = peer._line
        fresh = pki.identity("gateway", "g1")
        mine.replace(fresh.certificate, fresh.private_key)
        await peer.stub(EchoStub).Echo(StringValue(), timeout=5)
    assert old is not None
    assert old.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    assert chat.done()


async def test_an_identity_on_disk_is_watched(pki: MeshPki, tmp_path: Path) -> None:
    first, second = pki.identity("gateway", "g1"), pki.identity("gateway", "g1")
    files = first.write(tmp_path)
    async with TlsIdentity.watching(files, poll_s=0.01) as identity:
        assert (identity.generation, identity.certificate) == (1, first.certificate)
        for path, content in ((files.certificate, second.certificate), (files.private_key, second.private_key)):
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(content)
            fresh.replace(path)
        async with asyncio.timeout(5):
            await identity.changed(1)
        assert (identity.generation, identity.certificate) == (2, second.certificate)
