"""gRPC's framing over ASGI: messages in whatever pieces they come, answers, statuses, and clients that leave."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from grpc.aio import EOF
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest
from cloister.kit import grpc_http
from cloister.kit.calls import Call, Guard, RoleTable
from cloister.kit.grpc_http import PEER_HEADER, WRITE_AHEAD_BYTES, HttpCall
from cloister.kit.incoming import AHEAD_BYTES, Arrivals
from fakes.asgi_host import AsgiHost
from fakes.pki import MeshPki

Behaviour = Callable[[Any, HttpCall], Awaitable[Any]]


def framed(*messages: bytes) -> bytes:
    return b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)


def unframed(body: bytes) -> list[bytes]:
    messages = []
    while body:
        stop = 5 + int.from_bytes(body[1:5], "big")
        messages.append(body[5:stop])
        body = body[stop:]
    return messages


async def serve(host: AsgiHost, behaviour: Behaviour, *, stream: bool = False, limit: int = 1 << 20) -> None:
    make = grpc.stream_stream_rpc_method_handler if stream else grpc.stream_unary_rpc_method_handler
    await HttpCall(host.scope, host.receive, host.send, limit, Arrivals(1 << 30)).answer(make(behaviour))


async def everything(_requests: Any, call: HttpCall) -> bytes:
    messages = []
    while (message := await call.read()) is not EOF:
        messages.append(message)
    return framed(*messages)


@given(messages=st.lists(st.binary(max_size=50), max_size=40), cuts=st.lists(st.integers(0, 400), max_size=10))
def test_messages_are_the_same_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    async def ask() -> AsgiHost:
        host, body = AsgiHost(), framed(*messages)
        edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
        for start, stop in itertools.pairwise(edges):
            host.arrive(body[start:stop])
        host.arrive(b"", last=True)
        await serve(host, everything)
        return host

    host = asyncio.run(ask())
    assert unframed(unframed(host.body)[0]) == messages
    assert host.trailers[b"grpc-status"] == b"0"


async def test_a_message_over_the_limit_is_refused_by_its_prefix() -> None:
    host = AsgiHost()
    host.arrive(framed(b"x" * 10) + b"\0" + (11).to_bytes(4, "big"))
    await serve(host, everything, limit=10)
    assert host.trailers[b"grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]).encode()
    assert b"larger%20than" not in host.trailers[b"grpc-message"]
    assert host.trailers[b"grpc-message"] == b"Received message larger than max (11 vs. 10)"


@pytest.mark.attack("G21")
async def test_a_message_that_begins_and_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    host, calls = AsgiHost(), list[HttpCall]()
    host.arrive(framed(b"one") + framed(b"two")[:-1])

    async def answering() -> None:
        calls.append(HttpCall(host.scope, host.receive, host.send, 10, Arrivals(1 << 30)))
        await calls[0].answer(grpc.stream_unary_rpc_method_handler(everything))

    async with asyncio.TaskGroup() as group:
        group.create_task(answering())
        for _ in range(5):
            await asyncio.sleep(0)
        calls[0].look()
        await asyncio.sleep(0)
        assert not host.sent
        monkeypatch.setattr(grpc_http, "MESSAGE_S", -1.0)
        calls[0].look()
    assert host.trailers[b"grpc-status"] == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0]).encode()


async def test_a_stream_that_is_idle_between_messages_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_http, "MESSAGE_S", -1.0)
    host, calls = AsgiHost(), list[HttpCall]()
    host.arrive(framed(b"one"))

    async def answering() -> None:
        calls.append(HttpCall(host.scope, host.receive, host.send, 10, Arrivals(1 << 30)))
        await calls[0].answer(grpc.stream_unary_rpc_method_handler(everything))

    async with asyncio.TaskGroup() as group:
        group.create_task(answering())
        for _ in range(5):
            await asyncio.sleep(0)
        calls[0].look()
        host.arrive(b"", last=True)
    assert unframed(unframed(host.body)[0]) == [b"one"]


@pytest.mark.attack("G21")
async def test_what_nobody_reads_is_left_to_flow_control() -> None:
    host, taken = AsgiHost(), 0

    async def read_none(_requests: Any, call: HttpCall) -> bytes:
        for _ in range(200):
            await asyncio.sleep(0)
        return b""

    chunk = framed(bytes(AHEAD_BYTES // 4))
    for _ in range(50):
        host.arrive(chunk)
    await serve(host, read_none)
    taken = 50 - host.waiting
    assert 0 < taken <= 5


async def test_a_request_without_a_body_comes_as_something_to_await_and_no_future() -> None:
    class Ended:
        def __await__(self) -> Any:
            return iter_once({"type": "http.request", "body": b"", "more_body": False})

    host = AsgiHost()
    call = HttpCall(host.scope, Ended, host.send, 10, Arrivals(1 << 30))
    await call.answer(grpc.stream_unary_rpc_method_handler(everything))
    assert unframed(host.body) == [b""]


class iter_once:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __next__(self) -> Any:
        raise StopIteration(self.value)


async def test_a_stream_that_was_ended_within_a_group_of_tasks_is_told_of_once(capsys: Any) -> None:
    pki, ended = MeshPki(), list[Call]()
    guard = Guard(pki.cluster, RoleTable({"t.S": {"client"}}), max_call_s=9, receive_s=9, on_call=ended.append)

    async def read_in_a_task(_requests: Any, call: HttpCall) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(call.read())

    method = grpc.stream_stream_rpc_method_handler(read_in_a_task)
    guard.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", {"M": method}),))
    certificate = quote(pki.identity("client", "ann").certificate.decode()).encode()
    host = AsgiHost(headers=((PEER_HEADER.encode(), certificate),))
    host.arrive(framed(bytes(11)))
    call = HttpCall(host.scope, host.receive, host.send, 10, Arrivals(1 << 30))
    await call.answer(guard.service(SimpleNamespace(method="/t.S/M", invocation_metadata=())))
    assert host.trailers[b"grpc-status"] == b"8"
    assert [each.code for each in ended] == ["RESOURCE_EXHAUSTED"]
    assert "call.broken" not in capsys.readouterr().out


async def test_a_compressed_message_is_not_looked_into() -> None:
    host = AsgiHost()
    host.arrive(b"\1" + framed(b"bomb")[1:], last=True)
    await serve(host, everything)
    assert host.trailers[b"grpc-status"] == str(grpc.StatusCode.UNIMPLEMENTED.value[0]).encode()


async def test_a_body_that_ends_within_a_message_has_no_such_message() -> None:
    host = AsgiHost()
    host.arrive(framed(b"one") + framed(b"two")[:-1], last=True)
    await serve(host, everything)
    assert unframed(unframed(host.body)[0]) == [b"one"]


async def test_an_unknown_method_is_told_so() -> None:
    host = AsgiHost()
    await HttpCall(host.scope, host.receive, host.send, 10, Arrivals(1 << 30)).answer(None)
    assert host.trailers[b"grpc-status"] == b"12"
    assert len([event for event in host.sent if event["type"] == "http.response.trailers"]) == 0


async def test_an_abort_carries_its_words_and_its_binary_details() -> None:
    async def refuse(_requests: Any, call: HttpCall) -> bytes:
        await call.abort(grpc.StatusCode.NOT_FOUND, "kein Modell «é» 100%\n", (("x-bin", b"\0\xff"), ("y", "z")))
        return b""

    host = AsgiHost()
    await serve(host, refuse)
    assert host.trailers[b"grpc-status"] == b"5"
    assert host.trailers[b"grpc-message"] == b"kein Modell %C2%AB%C3%A9%C2%BB 100%25%0A"
    assert base64.b64decode(host.trailers[b"x-bin"] + b"==") == b"\0\xff"
    assert host.trailers[b"y"] == b"z"


async def test_trailing_metadata_follows_an_answer() -> None:
    async def answer(_requests: Any, call: HttpCall) -> bytes:
        call.set_trailing_metadata((("server-timing", "queue;dur=1"),))
        return b"answer"

    host = AsgiHost()
    await serve(host, answer)
    assert unframed(host.body) == [b"answer"]
    assert host.trailers == {b"grpc-status": b"0", b"server-timing": b"queue;dur=1"}


async def test_answers_of_one_turn_leave_in_one_write_and_in_order() -> None:
    async def chat(_requests: Any, call: HttpCall) -> None:
        for number in range(10):
            await call.write(b"%d" % number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await call.write(b"last")

    host = AsgiHost()
    await serve(host, chat, stream=True)
    writes = [event["body"] for event in host.sent if event.get("body")]
    assert [unframed(body) for body in writes] == [[b"%d" % number for number in range(10)], [b"last"]]
    assert host.trailers[b"grpc-status"] == b"0"


async def test_a_writer_waits_for_a_client_that_takes_nothing() -> None:
    written = 0

    async def pour(_requests: Any, call: HttpCall) -> None:
        nonlocal written
        for _ in range(100):
            await call.write(bytes(WRITE_AHEAD_BYTES // 4))
            written += 1

    host = AsgiHost()
    host.taking = False
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(host, pour, stream=True))
        for _ in range(50):
            await asyncio.sleep(0)
        assert 0 < written < 20
        host.take()
    assert written == 100


async def test_a_large_answer_leaves_in_pieces_that_wait_for_each_other() -> None:
    host, raw = AsgiHost(), bytes(range(256)) * 4096 + b"tail"
    host.taking = False

    async def answer(_requests: Any, _call: HttpCall) -> bytes:
        return raw

    async with asyncio.TaskGroup() as group:
        group.create_task(serve(host, answer))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(host.body) < len(raw) // 2
        host.take()
    assert unframed(host.body) == [raw]


async def test_a_client_that_leaves_in_the_middle_of_its_request_ends_the_call() -> None:
    host, ended = AsgiHost(), asyncio.Event()

    async def wait(_requests: Any, call: HttpCall) -> bytes:
        try:
            await call.read()
        finally:
            ended.set()
        return b""

    async with asyncio.TaskGroup() as group:
        group.create_task(serve(host, wait))
        await asyncio.sleep(0)
        host.leave()
    assert ended.is_set()
    assert not host.sent


async def test_of_a_client_that_has_said_all_one_learns_by_looking() -> None:
    host, cancelled = AsgiHost(), asyncio.Event()
    host.arrive(framed(b"x"), last=True)

    async def work(_requests: Any, call: HttpCall) -> bytes:
        await call.read()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    calls: list[HttpCall] = []

    async def answering() -> None:
        calls.append(HttpCall(host.scope, host.receive, host.send, 10, Arrivals(1 << 30)))
        await calls[0].answer(grpc.stream_unary_rpc_method_handler(work))

    async with asyncio.TaskGroup() as group:
        group.create_task(answering())
        for _ in range(3):
            await asyncio.sleep(0)
        calls[0].look()
        await asyncio.sleep(0)
        assert not cancelled.is_set()
        host.leave()
        calls[0].look()
    assert cancelled.is_set()


@pytest.mark.parametrize(
    ("said", "seconds"), [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"250m", 0.25), (b"5u", 5e-6), (b"7n", 7e-9)]
)
async def test_the_deadline_is_read(said: bytes, seconds: float) -> None:
    host = AsgiHost(headers=((b"grpc-timeout", said),))
    left_s = HttpCall(host.scope, host.receive, host.send, 10, Arrivals(1 << 30)).time_remaining()
    assert left_s is not None
    assert seconds - 1 < left_s <= seconds


@pytest.mark.parametrize("said", [b"", b"1", b"S", b"-1S", b"1.5S", b"123456789S", b"1s"])
async def test_a_deadline_that_is_none_is_refused(said: bytes) -> None:
    host = AsgiHost(headers=((b"grpc-timeout", said),))
    with pytest.raises(InvalidRequest, match="grpc-timeout"):
        HttpCall(host.scope, host.receive, host.send, 10, Arrivals(1 << 30)).time_remaining()


async def test_metadata_is_what_the_client_sent_and_not_what_the_server_set() -> None:
    host = AsgiHost(
        headers=(
            (PEER_HEADER.encode(), b"pem"),
            (b"x-a", b"1"),
            (b"y-bin", b"AP8"),
            (b"z-bin", b"%%"),
            (b"grpc-x", b"1"),
        )
    )
    call = HttpCall(host.scope, host.receive, host.send, 10, Arrivals(1 << 30))
    assert call.invocation_metadata() == [("x-a", "1"), ("y-bin", b"\0\xff")]
    assert call.auth_context() == {"x509_pem_cert": (b"pem",)}
