"""The two queues, over a real client and enclaves that it verifies; what went wrong there is a test here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cloister.api.oip.inference_pb2 import ModelMetadataRequest, ModelMetadataResponse
from cloister.client import Client
from cloister.client import sync as module
from cloister.compat.zoo import InputQueue, OutputQueue
from cloister.compat.zoo import results as results_module
from cloister.compat.zoo.results import Results
from cloister.errors import (
    AlreadyExists,
    EvidenceRejected,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    Unavailable,
)
from fakes.serving import MODEL, FakeGateway, FakeVerifier, FakeWorker

X = np.array([1.0, 2.0], np.float32)
_ports = count(1)


class Gateway(FakeGateway):
    """Also says what the model takes, and holds its answers while `gate` is cleared."""

    def __init__(self, *workers: FakeWorker) -> None:
        super().__init__(*workers)
        self.gate = threading.Event()
        self.gate.set()
        self.port = next(_ports)

    async def ModelMetadata(self, request: ModelMetadataRequest, timeout: float) -> ModelMetadataResponse:  # noqa: ASYNC109
        if request.name != MODEL:
            raise NotFound("no such model")
        answer = ModelMetadataResponse(name=MODEL, versions=["1"])
        answer.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        answer.outputs.add(name="y", datatype="FP32", shape=[-1, 2])
        return answer

    async def ModelInfer(self, request: Any, timeout: float, **options: Any) -> Any:  # noqa: ASYNC109
        async with asyncio.timeout(timeout):
            while not self.gate.is_set():  # noqa: ASYNC110  # set by another thread
                await asyncio.sleep(0.001)
        return await super().ModelInfer(request, timeout, **options)


@pytest.fixture(autouse=True)
def _no_tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_ZOO_TICKETS", str(tmp_path))


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    verifier = FakeVerifier()
    gateway = Gateway(FakeWorker(verifier))

    @asynccontextmanager
    async def connect(*_: object, **__: object) -> AsyncIterator[Client]:
        yield Client(cast(Any, gateway), verifier.trust())

    monkeypatch.setattr(module.Client, "connect", connect)
    return gateway


@pytest.fixture
def ask(gateway: Gateway) -> Iterator[InputQueue]:
    with InputQueue("gateway", gateway.port, MODEL, trust="trust.json", identity="client") as queue:
        yield queue
        gateway.gate.set()


@pytest.fixture
def out(gateway: Gateway) -> OutputQueue:
    return OutputQueue("gateway", gateway.port, MODEL)


def test_what_went_in_comes_out_by_its_uri(ask: InputQueue, out: OutputQueue) -> None:
    for number in range(20):
        ask.enqueue(f"r{number}", x=X * number)
    for number in reversed(range(20)):
        assert np.array_equal(out.query(f"r{number}"), X * number * 2)
    assert np.array_equal(out.query_and_delete("r3"), X * 6)
    with pytest.raises(NotFound) as caught:
        out.query("r3")
    assert caught.value.reason == "result.unknown"
    assert sorted(out.dequeue()) == sorted(f"r{number}" for number in range(20) if number != 3)
    assert out.dequeue() == {}


def test_the_first_query_waits_where_programs_asked_again(ask: InputQueue, out: OutputQueue, gateway: Gateway) -> None:
    gateway.gate.clear()
    ask.enqueue("r", x=X)
    with pytest.raises(NotReady) as caught:
        out.query("r", timeout=0)
    assert caught.value.reason == "result.pending"
    threading.Timer(0.05, gateway.gate.set).start()
    assert np.array_equal(out.query("r"), X * 2)


def test_an_answer_proves_where_it_comes_from(ask: InputQueue, out: OutputQueue, gateway: Gateway) -> None:
    ask.enqueue("r", x=X)
    answer = out.answer("r")
    assert answer.worker is not None
    assert answer.worker.instance == gateway.workers[0].instance
    assert answer.receipt is not None
    assert X.tobytes() not in b"".join(sent.SerializeToString() for sent in gateway.carried)


@pytest.mark.parametrize("data", [X, {"x": X}, {"any name": X}, json.dumps({"instances": [{"x": X.tolist()}]})])
def test_predict_takes_what_it_took(ask: InputQueue, data: Any) -> None:
    assert np.array_equal(ask.predict(data), X * 2)


def test_predict_does_not_answer_nothing_when_time_is_up(ask: InputQueue, gateway: Gateway) -> None:
    ask.predict(X)
    gateway.gate.clear()
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        ask.predict(X, timeout=0.05)
    assert time.monotonic() - began_s < 5


def test_a_tensor_that_is_too_short_is_refused_before_anything_is_sent(ask: InputQueue, gateway: Gateway) -> None:
    """1: it was completed from the previous client's input."""
    ask.predict(np.array([7.0, 7.0]))
    sent = len(gateway.carried)
    with pytest.raises(InvalidRequest, match="tensor 'x': shape"):
        ask.enqueue("short", x=np.array([7.0]))
    assert len(gateway.carried) == sent


def test_a_full_queue_says_so_and_drops_nothing(
    ask: InputQueue, out: OutputQueue, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2: it dropped requests in silence."""
    monkeypatch.setattr(out._results, "_max_results", 3)
    gateway.gate.clear()
    for number in range(3):
        ask.enqueue(f"r{number}", x=X)
    with pytest.raises(Overloaded) as caught:
        ask.enqueue("r3", x=X)
    assert caught.value.reason == "results.full"
    gateway.gate.set()
    for number in range(3):
        assert np.array_equal(out.query_and_delete(f"r{number}"), X * 2)
    ask.enqueue("r3", x=X)


def test_a_uri_names_one_request(ask: InputQueue, out: OutputQueue) -> None:
    ask.enqueue("r", x=X)
    with pytest.raises(AlreadyExists) as caught:
        ask.enqueue("r", x=X * 3)
    assert caught.value.reason == "uri.taken"
    assert np.array_equal(out.query_and_delete("r"), X * 2)
    ask.enqueue("r", x=X * 3)
    assert np.array_equal(out.query("r"), X * 6)


def test_a_second_pair_of_queues_meets_no_group_that_is_busy(ask: InputQueue, gateway: Gateway) -> None:
    """2: a restart met BUSYGROUP."""
    ask.enqueue("r", x=X)
    with InputQueue("gateway", gateway.port, MODEL, trust="trust.json", identity="client") as second:
        second.enqueue("s", x=X * 2)
        again = OutputQueue("gateway", str(gateway.port), MODEL, ssl=True, trust="trust.json", identity="client")
        assert np.array_equal(again.query("r"), X * 2)
        assert np.array_equal(again.query("s"), X * 4)


@pytest.mark.parametrize("x", [np.zeros((2, 2, 2)), "no-such.jpg", object(), np.array([["a", "b"]]), [1, 2]])
def test_a_record_that_cannot_be_read_ends_in_an_error_and_nothing_else(
    ask: InputQueue, out: OutputQueue, x: Any
) -> None:
    """3: it gave no answer at all, or ended the process."""
    with pytest.raises((InvalidRequest, NotFound)):
        ask.enqueue("bad", x=x)
    with pytest.raises(NotFound):
        out.query("bad")
    ask.enqueue("good", x=np.array([X, X]))
    assert np.array_equal(out.query("good"), np.array([X, X]) * 2)


@pytest.mark.parametrize("error", [InvalidRequest("of the worker's"), NotReady("not yet"), NotFound("gone")])
def test_a_failure_is_its_error_with_its_cause(
    ask: InputQueue, out: OutputQueue, gateway: Gateway, error: Exception
) -> None:
    """6: sentinels in place of errors, errors without a cause."""
    gateway.workers[0].error = cast(Any, error)
    ask.enqueue("r", x=X)
    with pytest.raises(type(error), match=str(error)):
        out.query("r")
    (outcome,) = out.dequeue().values()
    assert isinstance(outcome, type(error))


def test_nobody_is_asked_whose_evidence_is_not_believed(ask: InputQueue, out: OutputQueue, gateway: Gateway) -> None:
    """5: any certificate was trusted, no key was tied to a quote."""
    gateway.workers = [FakeWorker(FakeVerifier())]
    ask.enqueue("r", x=X)
    with pytest.raises(EvidenceRejected):
        out.query("r")
    assert gateway.carried == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"ssl": False},
        {"frontend_url": "http://frontend:10020"},
        {"ssl_certfile": "c.pem"},
        {"ssl_certfile": "c.pem", "ssl_keyfile": "k.pem", "ssl_ca_certs": "r.pem"},
        {"host": None},
        {"port": None},
        {"trust": None},
    ],
)
def test_what_is_not_done_here_is_refused_in_words(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    """6: unknown configuration was ignored."""
    monkeypatch.delenv("CLOISTER_MESH", raising=False)
    good: dict[str, Any] = {"host": "gateway", "port": 1, "trust": "trust.json", "identity": "client"}
    with pytest.raises(InvalidRequest):
        InputQueue(**(good | wrong))
    with pytest.raises(TypeError):
        InputQueue(**good, db=3)
    with pytest.raises(TypeError):
        OutputQueue("gateway", 1, db=3)  # type: ignore[arg-type]


def test_a_mesh_folder_in_the_environment_is_enough(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_MESH", ".cloister")
    with InputQueue("gateway", gateway.port, MODEL) as queue:
        assert np.array_equal(queue.predict(X), X * 2)


def test_a_program_that_names_no_queue_is_told_that_the_name_is_a_models(gateway: Gateway) -> None:
    said = r"'serving_stream'.*; the name of an InputQueue is that of a model here"
    unnamed = InputQueue("gateway", gateway.port, trust="trust.json", identity="client")
    with unnamed as queue, pytest.raises(NotFound, match=said):
        queue.enqueue("r", x=X)


def test_a_queue_that_is_closed_says_so(ask: InputQueue, out: OutputQueue) -> None:
    ask.enqueue("r", x=X)
    ask._pool.shutdown()
    with pytest.raises(NotReady) as caught:
        ask.enqueue("s", x=X)
    assert caught.value.reason == "queue.closed"
    assert np.array_equal(out.query("r"), X * 2)
    with pytest.raises(NotFound):
        out.query("s", timeout=0)


def test_results_end_with_their_lifetime() -> None:
    """2: no result expired."""
    now_s = 0.0
    held = Results(lifetime_s=10, clock_s=lambda: now_s)
    held.begin("old", 8)
    held.end("old", Unavailable("x"))
    held.begin("waiting", 8)
    now_s = 10.5
    with pytest.raises(NotFound):
        held.get("old", delete=False, timeout_s=0)
    with pytest.raises(NotReady):
        held.get("waiting", delete=False, timeout_s=0)


def test_what_is_held_has_a_bound_in_bytes() -> None:
    held = Results(max_bytes=1000)
    held.begin("a", 600)
    with pytest.raises(Overloaded):
        held.begin("b", 500)
    held.end("a", np.zeros(1000, np.uint8))
    held.begin("b", 0)
    held.end("b", np.zeros(1, np.uint8))
    (first, second) = held.take_ended().values()
    assert isinstance(first, np.ndarray)
    assert isinstance(second, Overloaded)
    held.begin("c", 1000)
    assert results_module.LIFETIME_S < 3600


def test_the_client_can_be_imported_with_what_every_installation_has() -> None:
    script = "import sys; sys.modules |= dict.fromkeys(('PIL', 'redis', 'grpc_health')); import cloister.compat.zoo"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
