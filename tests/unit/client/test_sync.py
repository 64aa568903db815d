"""The plain face: the same answers and the same errors, without `async`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, cast

import numpy as np
import pytest

import cloister
from cloister.client import Client, SyncClient
from cloister.client import sync as module
from cloister.client.loop_thread import LoopThread
from cloister.errors import EvidenceRejected, NotFound, Unavailable
from fakes.serving import MODEL, FakeGateway, FakeVerifier, FakeWorker

X = np.ones((1, 2), np.float32)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    verifier = FakeVerifier()
    gateway = FakeGateway(FakeWorker(verifier))

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[Client]:
        yield Client(cast(Any, gateway), verifier.trust())

    monkeypatch.setattr(module.Client, "connect", connect)
    return gateway


def test_it_asks_and_verifies(gateway: FakeGateway) -> None:
    with SyncClient("gateway:1", trust="trust.json", identity="client") as mesh:
        np.testing.assert_array_equal(mesh.infer(MODEL, {"x": X}).outputs["y"], X * 2)
        assert [worker.instance for worker in mesh.workers(MODEL).believed] == [gateway.workers[0].instance]


def test_errors_come_as_they_are(gateway: FakeGateway) -> None:
    gateway.workers = [FakeWorker(FakeVerifier())]
    with SyncClient("gateway:1", trust="trust.json", identity="client") as mesh, pytest.raises(EvidenceRejected):
        mesh.infer(MODEL, {"x": X})


def threads() -> set[int]:
    """The threads of clients, other tests' included, by their numbers."""
    return {thread.ident or 0 for thread in threading.enumerate() if thread.name == "cloister-client"}


def test_its_thread_ends_with_it(gateway: FakeGateway) -> None:
    before = threads()
    with SyncClient("gateway:1", trust="trust.json", identity="client"):
        assert len(threads() - before) == 1
    assert threads() <= before


LEFT_OPEN = """
from contextlib import asynccontextmanager
from cloister.client.loop_thread import PlainFace

@asynccontextmanager
async def connect():
    try:
        yield "client"
    finally:
        print("closed")

face = PlainFace(connect).__enter__()
"""


def test_a_program_that_leaves_it_open_ends_all_the_same() -> None:
    ended = subprocess.run([sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ("closed\n", "")


def test_a_connection_that_fails_leaves_no_thread(tmp_path: Any) -> None:
    before = threads()
    with pytest.raises(NotFound), SyncClient("gateway:1", trust=tmp_path / "none", identity=tmp_path):
        raise AssertionError("unreachable")
    assert threads() <= before


def test_it_is_used_in_a_with_block() -> None:
    with pytest.raises(RuntimeError, match="with"):
        SyncClient("gateway:1", trust="trust.json", identity="client").workers(MODEL)


def test_the_package_offers_both_faces() -> None:
    assert cloister.SyncClient is SyncClient
    assert cloister.Client is Client
    with pytest.raises(AttributeError):
        _ = cloister.Nothing  # type: ignore[attr-defined]  # on purpose


def test_closing_it_ends_what_other_threads_wait_for(gateway: FakeGateway) -> None:
    asked, ended = threading.Event(), []

    async def silent(*_: object, **__: object) -> Any:
        asked.set()
        await asyncio.Event().wait()

    gateway.ModelInfer = silent  # type: ignore[method-assign]  # a gateway that never answers

    def ask(mesh: SyncClient) -> None:
        try:
            mesh.infer(MODEL, {"x": X})
        except Unavailable as error:
            ended.append(error.reason)

    with SyncClient("gateway:1", trust="trust.json", identity="client") as mesh:
        waiting = threading.Thread(target=ask, args=(mesh,))
        waiting.start()
        assert asked.wait(10)
    waiting.join(10)
    assert ended == ["peer.closed"]


def test_it_can_be_opened_again(gateway: FakeGateway) -> None:
    mesh = SyncClient("gateway:1", trust="trust.json", identity="client")
    for _ in range(2):
        with mesh:
            mesh.infer(MODEL, {"x": X})


def test_it_leaves_its_callers_own_event_loop_alone(gateway: FakeGateway) -> None:
    """A script that has one, or asks for the current one, goes on with it."""
    with asyncio.Runner() as runner:
        own = runner.get_loop()
        asyncio.set_event_loop(own)
        try:
            with SyncClient("gateway:1", trust="trust.json", identity="client"):
                assert asyncio.get_event_loop() is own
            assert asyncio.get_event_loop() is own
        finally:
            asyncio.set_event_loop(None)


def test_what_other_threads_still_have_open_when_it_is_closed_ends_as_an_error_of_ours() -> None:
    """A block that another thread holds, and calls that come too late: told, and nobody waits for ever."""
    entered, leave, told = threading.Event(), threading.Event(), []

    def hold(thread: LoopThread) -> None:
        try:
            with thread.entered(nullcontext()):
                entered.set()
                leave.wait(10)
        except Unavailable as error:
            told.append(error.reason)

    with LoopThread() as thread:
        holding = threading.Thread(target=hold, args=(thread,))
        holding.start()
        assert entered.wait(10)
    leave.set()
    holding.join(10)
    assert told == ["peer.closed"]
    with pytest.raises(Unavailable):
        thread.wait(asyncio.sleep(0))
    with pytest.raises(Unavailable), thread.entered(nullcontext()):
        raise AssertionError("unreachable")


def test_no_call_is_lost_between_the_last_one_and_the_end() -> None:
    """Threads that ask without a pause while the loop stops: each has a result or an error, at once."""
    ended: list[str] = []

    def ask(thread: LoopThread, ready: threading.Barrier) -> None:
        ready.wait(10)
        while True:
            try:
                thread.wait(asyncio.sleep(0))
            except Unavailable as error:
                ended.append(error.reason)
                return

    for _ in range(20):
        ready = threading.Barrier(4)
        with LoopThread() as thread:
            asking = [threading.Thread(target=ask, args=(thread, ready), daemon=True) for _ in range(3)]
            for each in asking:
                each.start()
            ready.wait(10)
        for each in asking:
            each.join(10)
    assert ended == ["peer.closed"] * 60


def test_an_interpreter_ends_though_a_block_was_never_left() -> None:
    """As at the end of an interactive session; the loop's thread would be frozen while its blocks wait for it."""
    script = """
from contextlib import nullcontext
from cloister.client.loop_thread import LoopThread

def held(thread):
    with thread.entered(nullcontext()):
        yield

thread = LoopThread()
thread.__enter__()
left = held(thread)
next(left)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True)
