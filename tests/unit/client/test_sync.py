"""The plain face: the same answers and the same errors, without `async`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np
import pytest

import cloister
from cloister.client import Client, SyncClient
from cloister.client import sync as module
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


def test_its_thread_ends_with_it(gateway: FakeGateway) -> None:
    with SyncClient("gateway:1", trust="trust.json", identity="client"):
        assert "cloister-client" in {thread.name for thread in threading.enumerate()}
    assert "cloister-client" not in {thread.name for thread in threading.enumerate()}


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
    with pytest.raises(NotFound), SyncClient("gateway:1", trust=tmp_path / "none", identity=tmp_path):
        raise AssertionError("unreachable")
    assert "cloister-client" not in {thread.name for thread in threading.enumerate()}


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
