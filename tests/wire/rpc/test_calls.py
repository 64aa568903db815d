"""Every call shape through a real server over real mutual TLS, and what a peer is told when something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from cloister import errors
from cloister.client.reaching import settled
from cloister.rpc.channel import Peer
from fakes.echo import EchoStub, Running, echo_server
from fakes.pki import MeshPki


@pytest.fixture
async def echo(pki: MeshPki) -> AsyncIterator[Running]:
    async with echo_server(pki) as running:
        yield running


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def test_unary(echo: Running) -> None:
    async with echo.peer() as peer:
        assert (await peer.stub(EchoStub).Echo(text("hello"), timeout=5)).value == "hello"


async def test_the_peer_is_who_its_certificate_says(echo: Running, pki: MeshPki) -> None:
    async with echo.peer(pki.identity("worker", "ab" * 16).held()) as peer:
        answer = await peer.stub(EchoStub).Who(text(""), timeout=5)
    assert answer.value == f"spiffe://{pki.cluster}/worker/{'ab' * 16}"


async def test_unary_to_stream(echo: Running) -> None:
    async with echo.peer() as peer:
        got = [message.value async for message in peer.stub(EchoStub).Repeat(text("3"), timeout=5)]
    assert got == ["0", "1", "2"]


async def test_stream_to_unary(echo: Running) -> None:
    async def numbers() -> AsyncIterator[StringValue]:
        for number in range(4):
            yield text(str(number))

    async with echo.peer() as peer:
        assert (await peer.stub(EchoStub).Total(numbers(), timeout=5)).value == "6"


async def test_stream_to_stream(echo: Running) -> None:
    async with echo.peer() as peer:
        chat = peer.stub(EchoStub).Chat(timeout=5)
        await chat.write(text("a"))
        assert (await chat.read()).value == "a"
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF


async def test_bytes_pass_through_a_generic_handler_untouched(echo: Running) -> None:
    async with echo.peer() as peer:
        assert await peer.stub(EchoStub).Raw(b"\x00\xff\x01", timeout=5) == b"\x01\xff\x00"


@pytest.mark.parametrize(
    "kind",
    [
        errors.InvalidRequest,
        errors.Unauthenticated,
        errors.NotAllowed,
        errors.KeyRefused,
        errors.NotFound,
        errors.AlreadyExists,
        errors.NotReady,
        errors.ChallengeExpired,
        errors.Overloaded,
        errors.Unavailable,
        errors.InternalError,
    ],
)
async def test_the_caller_raises_what_the_server_raised(echo: Running, kind: type[errors.CloisterError]) -> None:
    async with echo.peer() as peer:
        with pytest.raises(kind, match="because ümläut") as caught:
            await peer.stub(EchoStub).Fail(text(f"{kind.__name__}:because ümläut"), timeout=5)
    assert type(caught.value) is kind
    assert caught.value.reason == kind.default_reason


async def test_step_and_reason_travel(echo: Running) -> None:
    async with echo.peer() as peer:
        with pytest.raises(errors.EvidenceRejected, match="old") as caught:
            await peer.stub(EchoStub).Fail(text("EvidenceRejected:old"), timeout=5)
    assert (caught.value.step, caught.value.reason) == (6, "evidence.out_of_date")


async def test_a_seal_says_nothing_but_that_it_is_broken(echo: Running) -> None:
    async with echo.peer() as peer:
        with pytest.raises(errors.SealBroken, match=r"^the sealed message could not be opened$"):
            await peer.stub(EchoStub).Fail(text("SealBroken:tag at byte 7"), timeout=5)


@pytest.mark.parametrize("fault", ["ValueError:s3cret", "Type:s3cret"])
async def test_an_unknown_error_says_only_where_to_look(echo: Running, fault: str) -> None:
    async with echo.peer() as peer:
        with pytest.raises(errors.InternalError) as caught:
            await peer.stub(EchoStub).Fail(text(fault), timeout=5)
    call = await echo.calls.ended(1)
    assert str(caught.value) == f"internal error; request {call.request_id}"
    assert call.code == "INTERNAL"


async def test_a_timeout_in_a_handler_is_a_timeout(echo: Running) -> None:
    async with echo.peer() as peer:
        with pytest.raises(TimeoutError):
            await peer.stub(EchoStub).Fail(text("TimeoutError:upstream"), timeout=5)


async def test_an_abort_of_the_handlers_own_passes(echo: Running) -> None:
    async with echo.peer() as peer:
        with pytest.raises(errors.InternalError, match="gone"):
            await peer.stub(EchoStub).Fail(text("Abort:gone"), timeout=5)
    assert (await echo.calls.ended(1)).code == "DATA_LOSS"


async def test_a_stream_ends_with_the_error_of_its_handler(echo: Running) -> None:
    async with echo.peer() as peer:
        chat = peer.stub(EchoStub).Chat(timeout=5)
        await chat.write(text("fail"))
        with pytest.raises(errors.Overloaded, match="enough"):
            await chat.read()
        with pytest.raises(errors.CloisterError):
            await chat.write(text("more"))
        unending = peer.stub(EchoStub).Repeat(text("no number"), timeout=5)
        with pytest.raises(errors.InternalError):
            async for _ in unending:
                pass


async def test_a_method_outside_the_role_table_is_refused(echo: Running) -> None:
    async with echo.peer() as peer:
        with pytest.raises(errors.NotAllowed):
            await peer.stub(EchoStub).Hidden(text(""), timeout=5)


async def test_a_role_that_is_not_listed_is_refused_and_the_handler_not_reached(echo: Running, pki: MeshPki) -> None:
    async with echo.peer(pki.identity("auditor", "a1").held()) as peer:
        with pytest.raises(errors.NotAllowed):
            await peer.stub(EchoStub).Echo(text("x"), timeout=5)
    assert echo.servicer.calls == 0
    call = await echo.calls.ended(1)
    assert (call.code, call.reason) == ("PERMISSION_DENIED", "role.not_allowed")


async def test_an_unknown_method_is_refused(echo: Running) -> None:
    async with echo.peer() as peer:
        with pytest.raises(errors.InvalidRequest) as caught:
            await peer.stub(EchoStub).Missing(text(""), timeout=5)
    assert caught.value.reason == "method.unknown"


async def test_bytes_that_do_not_parse_are_the_callers_fault(echo: Running) -> None:
    async with echo.peer() as peer:
        stub = peer.stub(lambda channel: channel.unary_unary("/test.Echo/Echo"))
        with pytest.raises(errors.InvalidRequest) as caught:
            await stub(b"\xff\xff\xff", timeout=5)
        chat = peer.stub(lambda channel: channel.stream_stream("/test.Echo/Chat"))(timeout=5)
        await chat.write(b"\x0a\xff")
        with pytest.raises(errors.InvalidRequest):
            await chat.read()
    assert caught.value.reason == "request.malformed"


async def test_a_call_without_a_deadline_is_refused_before_it_leaves(echo: Running) -> None:
    async with echo.peer() as peer:
        stub = peer.stub(EchoStub)
        with pytest.raises(ValueError, match="without a deadline"):
            await stub.Echo(text("x"))
        with pytest.raises(ValueError, match="without a deadline"):
            stub.Chat()


async def test_the_callers_deadline_cancels_the_handler(echo: Running) -> None:
    async with echo.peer() as peer:
        with pytest.raises(TimeoutError):
            await peer.stub(EchoStub).Hold(text("x"), timeout=0.2)
    async with asyncio.timeout(5):
        await echo.servicer.cancelled.wait()


async def test_a_caller_that_goes_away_cancels_the_handler(echo: Running) -> None:
    async with echo.peer() as peer, asyncio.TaskGroup() as group:
        task = group.create_task(peer.stub(EchoStub).Hold(text("x"), timeout=30))
        await echo.servicer.holding.wait()
        task.cancel()
        async with asyncio.timeout(5):
            await echo.servicer.cancelled.wait()


async def test_a_reader_that_stops_reading_closes_the_generator(echo: Running) -> None:
    async with echo.peer() as peer:
        stream = peer.stub(EchoStub).Repeat(text("1000000"), timeout=30)
        assert (await anext(aiter(stream))).value == "0"
        stream.cancel()
        async with asyncio.timeout(5):
            await echo.servicer.closed.wait()


@pytest.mark.attack("G24")
async def test_the_server_has_a_longest_call(pki: MeshPki) -> None:
    async with echo_server(pki, max_call_s=0.05) as echo, echo.peer() as peer:
        with pytest.raises(TimeoutError):
            await peer.stub(EchoStub).Hold(text("x"), timeout=3e9)  # a hundred years
    assert echo.servicer.cancelled.is_set()


@pytest.mark.attack("G19")
async def test_a_request_that_drips_is_cut_off(pki: MeshPki) -> None:
    async with echo_server(pki, receive_s=0.05) as echo, echo.peer() as peer:
        # On the wire a unary call is a stream of one message; this one sends none.
        dripping = peer.stub(lambda channel: channel.stream_unary("/test.Echo/Echo"))(timeout=10)
        with pytest.raises(TimeoutError):
            await dripping


@pytest.mark.attack("G21")
async def test_a_message_over_the_limit_is_refused(pki: MeshPki) -> None:
    async with echo_server(pki, max_message_bytes=1000) as echo, echo.peer() as peer:
        raw = peer.stub(EchoStub).Raw
        assert len(await raw(b"x" * 1000, timeout=5)) == 1000
        with pytest.raises(errors.InvalidRequest) as caught:
            await raw(b"x" * 1001, timeout=5)
    assert caught.value.reason == "message.too_large"


@pytest.mark.attack("G21")
async def test_a_compressed_message_is_not_inflated(pki: MeshPki) -> None:
    async with echo_server(pki, max_message_bytes=1 << 20) as echo:
        options = [("grpc.compression_enabled_algorithms_bitset", 7)]
        async with echo.peer(options=options) as peer:
            raw = peer.stub(EchoStub).Raw
            with pytest.raises(errors.CloisterError):
                await raw(bytes(50 << 20), timeout=5, compression=grpc.Compression.Gzip)
            with pytest.raises(errors.CloisterError):
                await raw(bytes(5000), timeout=5, compression=grpc.Compression.Gzip)


async def test_too_many_calls_at_once_are_told_to_come_back(pki: MeshPki) -> None:
    async with echo_server(pki, max_concurrent=1) as echo, echo.peer() as peer, asyncio.TaskGroup() as group:
        stub = peer.stub(EchoStub)
        first = group.create_task(stub.Hold(text("x"), timeout=10))
        await echo.servicer.holding.wait()
        with pytest.raises(errors.Overloaded):
            await stub.Echo(text("x"), timeout=5)
        echo.servicer.release.set()
        assert (await first).value == "x"


async def test_metadata_names_nobody_and_a_megabyte_of_it_is_refused(echo: Running) -> None:
    async with echo.peer() as peer:
        stub = peer.stub(EchoStub)
        spoofed = (("x-tenant", "spiffe://other"), ("x-forwarded-client-cert", "URI=spiffe://demo/verifier/v"))
        assert (await stub.Who(text(""), timeout=5, metadata=spoofed)).value.endswith("/gateway/g1")
        with pytest.raises((errors.CloisterError, TimeoutError)):
            await stub.Who(text(""), timeout=5, metadata=(("x", "y" * (1 << 20)),))
        assert (await stub.Who(text(""), timeout=5)).value.endswith("/gateway/g1")


async def test_answers_may_go_unlogged_and_failures_may_not(pki: MeshPki, capsys: pytest.CaptureFixture[str]) -> None:
    async with echo_server(pki, log_answers=False) as echo, echo.peer() as peer:
        await peer.stub(EchoStub).Echo(text("x"), timeout=5)
        with pytest.raises(errors.NotFound):
            await peer.stub(EchoStub).Fail(text("NotFound:x"), timeout=5)
        await echo.calls.ended(2)
    assert capsys.readouterr().out.count("call.answered") == 1


async def test_a_peer_of_several_addresses_is_reached_at_the_next_one_when_one_is_gone(pki: MeshPki) -> None:
    nobody, identity = "127.0.0.1:1", pki.identity("gateway", "g1").held()
    async with echo_server(pki) as second, AsyncExitStack() as stack:
        async with echo_server(pki) as first:
            peer = Peer([nobody, first.address, second.address], identity, f"verifier.{pki.cluster}")
            stub = (await stack.enter_async_context(peer)).stub(EchoStub)
            with pytest.raises(errors.Unavailable, match=f"cannot reach the verifier at {nobody}"):
                await stub.Echo(text("lost"), timeout=5)
            assert [(await stub.Echo(text("a"), timeout=5)).value for _ in range(2)] == ["a", "a"]
            assert (first.servicer.calls, second.servicer.calls) == (2, 0)
        with pytest.raises(errors.Unavailable):
            await stub.Chat(timeout=5).read()
        assert (await stub.Echo(text("b"), timeout=5)).value == "b"
        assert second.servicer.calls == 1
        assert peer.address == second.address


async def test_a_peer_of_several_addresses_moves_on_from_who_does_not_answer_in_time(pki: MeshPki) -> None:
    identity = pki.identity("gateway", "g1").held()
    async with echo_server(pki) as first, echo_server(pki) as second:
        both = f"{first.address},{second.address},{first.address}"
        async with Peer(both, identity, f"verifier.{pki.cluster}") as peer:
            assert peer.addresses == (first.address, second.address)
            with pytest.raises(TimeoutError):
                await peer.stub(EchoStub).Hold(text("held"), timeout=0.2)
            assert (await peer.stub(EchoStub).Echo(text("a"), timeout=5)).value == "a"
            assert (first.servicer.calls, second.servicer.calls) == (0, 1)
            peer.move_on()
            assert peer.address == first.address


async def test_one_call_of_several_addresses_goes_to_the_first_that_serves(pki: MeshPki) -> None:
    identity = pki.identity("gateway", "g1").held()
    async with echo_server(pki) as first, echo_server(pki) as second:
        await first.server.health.set("", False)
        addresses = ("127.0.0.1:1", first.address, second.address)
        async with Peer(addresses, identity, f"verifier.{pki.cluster}") as peer:
            await settled(peer)
            assert peer.address == second.address
            await second.server.health.set("", False)
            await settled(peer)
            assert peer.address == "127.0.0.1:1"


async def test_one_address_stays_where_it_is(pki: MeshPki) -> None:
    async with Peer("127.0.0.1:1", pki.identity("gateway", "g1").held(), f"verifier.{pki.cluster}") as peer:
        for _ in range(2):
            with pytest.raises(errors.Unavailable, match=r"cannot reach the verifier at 127\.0\.0\.1:1"):
                await peer.stub(EchoStub).Echo(text("lost"), timeout=5)


def test_a_peer_without_an_address_is_a_mistake(pki: MeshPki) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Peer([], pki.identity("gateway", "g1").held(), "verifier")


async def test_a_call_whose_peer_is_closed_is_told_so_and_its_task_is_not_cancelled(pki: MeshPki) -> None:
    async with echo_server(pki) as echo, asyncio.TaskGroup() as group:
        async with echo.peer() as peer:
            work = group.create_task(_asked(peer))
            await echo.servicer.holding.wait()
        assert await work == "peer.closed"


async def _asked(peer: Peer) -> str:
    with pytest.raises(errors.Unavailable) as caught:
        await peer.stub(EchoStub).Hold(text("x"), timeout=60)
    return caught.value.reason
