"""The end of a server: health says so, calls in flight finish, nothing outlives the grace."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cloister import errors
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Server
from fakes.echo import EchoStub, Running, echo_server
from fakes.pki import MeshPki

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def asked(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def until_it_fails(stub: EchoStub) -> None:
    while True:
        await stub.Echo(StringValue(), timeout=5)


async def stopping_once_it_holds(echo: Running) -> None:
    await echo.servicer.holding.wait()
    echo.lifecycle.stop()


async def test_health_answers_any_role_and_says_what_the_service_says(pki: MeshPki) -> None:
    async with echo_server(pki) as echo, echo.peer(pki.identity("enrol", "e1").held()) as peer:
        stub = peer.stub(health_pb2_grpc.HealthStub)
        assert (await stub.Check(asked(), timeout=5)).status == _SERVING
        with pytest.raises(errors.NotFound):
            await stub.Check(asked("model"), timeout=5)
        await echo.server.health.set("model", False)
        assert (await stub.Check(asked("model"), timeout=5)).status == _NOT_SERVING
        await echo.server.health.set("model", True)
        assert (await stub.Check(asked("model"), timeout=5)).status == _SERVING
        with pytest.raises(errors.NotAllowed):
            await stub.Watch(asked(), timeout=5).read()


async def test_a_server_that_is_gone_says_nothing_about_whether_the_process_is_ready(pki: MeshPki) -> None:
    async with Lifecycle.running() as lifecycle:
        for _ in range(2):
            identity = pki.identity("verifier", "v1").held()
            async with Server.mtls("127.0.0.1:0", identity, lifecycle=lifecycle, roles={}) as server:
                await server.start()
                assert lifecycle.ready()
                await server.health.drain()
                assert not lifecycle.ready()


async def test_calls_in_flight_finish_and_new_ones_are_turned_away(pki: MeshPki) -> None:
    async with (
        echo_server(pki, grace_s=5.0, drain_pause_s=0.2) as echo,
        echo.peer() as peer,
        echo.peer() as late,
        asyncio.TaskGroup() as group,
    ):
        running = group.create_task(echo.server.run())
        held = group.create_task(peer.stub(EchoStub).Hold(StringValue(value="x"), timeout=10))
        await echo.servicer.holding.wait()
        health = late.stub(health_pb2_grpc.HealthStub)
        assert (await health.Check(asked(), timeout=5)).status == _SERVING
        echo.lifecycle.stop()
        await asyncio.sleep(0)
        assert (await health.Check(asked(), timeout=5)).status == _NOT_SERVING
        with pytest.raises(errors.Unavailable):
            await until_it_fails(late.stub(EchoStub))
        assert not running.done()
        echo.servicer.release.set()
        assert (await held).value == "x"
        async with asyncio.timeout(4):
            await running


async def test_a_call_that_does_not_finish_is_cut_at_the_end_of_the_grace(pki: MeshPki) -> None:
    async with echo_server(pki, grace_s=0.1) as echo, echo.peer() as peer, asyncio.TaskGroup() as group:
        running = group.create_task(echo.server.run())
        group.create_task(stopping_once_it_holds(echo))
        async with asyncio.timeout(5):
            with pytest.raises(errors.Unavailable):
                await peer.stub(EchoStub).Hold(StringValue(), timeout=30)
            await running


async def test_a_port_is_not_shared(pki: MeshPki) -> None:
    identity = pki.identity("verifier", "v2").held()
    async with echo_server(pki) as echo, Lifecycle.running() as lifecycle:
        with pytest.raises(errors.NotReady, match="cannot listen"):
            async with Server.mtls(echo.address, identity, lifecycle=lifecycle, roles={}):
                pass


async def test_a_server_that_would_speak_tls_1_2_does_not_start(pki: MeshPki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_SSL_CIPHER_SUITES")
    async with Lifecycle.running() as lifecycle:
        with pytest.raises(errors.NotReady, match=r"TLS 1\.2"):
            async with Server.mtls("127.0.0.1:0", pki.identity("verifier", "v1").held(), lifecycle=lifecycle, roles={}):
                pass


async def test_a_role_that_does_not_exist_is_a_mistake_in_the_table(pki: MeshPki) -> None:
    async with Lifecycle.running() as lifecycle:
        with pytest.raises(ValueError, match="does not exist"):
            async with Server.mtls(
                "127.0.0.1:0", pki.identity("verifier", "v1").held(), lifecycle=lifecycle, roles={"a.B": {"gatway"}}
            ):
                pass
