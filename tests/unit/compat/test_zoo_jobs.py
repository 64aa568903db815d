"""The queues where the mesh takes jobs: accepted means answered, and another process finds it."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cloister.api.oip.inference_pb2 import ModelMetadataRequest, ModelMetadataResponse
from cloister.api.v1 import jobs_pb2 as pb
from cloister.client import Client
from cloister.client import sync as module
from cloister.compat.zoo import InputQueue, OutputQueue, output_queue
from cloister.errors import (
    AlreadyExists,
    CloisterError,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    Unavailable,
)
from fakes.job_desk import DeskGateway, JobDesk
from fakes.job_worker import Epoch, JobWorker
from fakes.serving import MODEL, FakeVerifier, FakeWorker

X = np.array([1.0, 2.0], np.float32)
_ports = count(10_000)


class Gateway(DeskGateway):
    """Also says what the model takes."""

    async def ModelMetadata(self, request: ModelMetadataRequest, timeout: float) -> ModelMetadataResponse:  # noqa: ASYNC109
        answer = ModelMetadataResponse(name=MODEL, versions=["1"])
        answer.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        answer.outputs.add(name="y", datatype="FP32", shape=[-1, 2])
        return answer


class Place:
    def __init__(self, tickets: Path) -> None:
        self.verifier = FakeVerifier()
        self.worker = FakeWorker(self.verifier)
        self.desk = JobDesk(JobWorker(self.worker, Epoch()))
        self.port = next(_ports)
        self.tickets = tickets

    @asynccontextmanager
    async def connect(self, *_: object, **__: object) -> AsyncIterator[Client]:
        async with Client.over(cast(Any, Gateway(self.desk)), self.verifier.trust(), timeout_s=5.0) as client:
            yield client

    def asks(self) -> InputQueue:
        return InputQueue("gateway", self.port, MODEL, trust="trust.json", identity="client")

    def another_process(self) -> OutputQueue:
        """A queue that shares nothing with the others but the folder of tickets."""
        output_queue._held.clear()
        return OutputQueue("gateway", self.port, MODEL, trust="trust.json", identity="client")

    @property
    def files(self) -> list[Path]:
        return [path for path in self.tickets.rglob("*") if path.is_file()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setenv("CLOISTER_ZOO_TICKETS", str(tmp_path))
    monkeypatch.setattr(module.Client, "connect", made.connect)
    return made


def test_what_one_process_enqueues_another_has_by_its_uri(place: Place) -> None:
    with place.asks() as requests:
        for number in range(5):
            requests.enqueue(f"r{number}", x=X * number)
    with place.another_process() as results:
        for number in reversed(range(5)):
            assert np.array_equal(results.query(f"r{number}"), X * number * 2)
        answer = results.answer("r3")
        assert answer.attestation is not None
        assert answer.receipt is not None
        assert np.array_equal(results.query_and_delete("r3"), X * 6)
        with pytest.raises(NotFound) as caught:
            results.query("r3")
        assert caught.value.reason == "result.unknown"
        assert sorted(results.dequeue()) == ["r0", "r1", "r2", "r4"]
        assert results.dequeue() == {}
    assert place.desk.kept == {}
    assert place.files == []


def test_queues_of_one_process_know_each_other_as_before(place: Place) -> None:
    with place.asks() as requests, OutputQueue("gateway", place.port, MODEL) as results:
        requests.enqueue("r", x=X)
        assert np.array_equal(results.query("r"), X * 2)
        assert np.array_equal(requests.predict(X), X * 2)


def test_tickets_are_for_nobody_else_to_read(place: Place) -> None:
    with place.asks() as requests:
        requests.enqueue("patient-7", x=X)
    (file,) = place.files
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "patient" not in str(file)


def test_a_result_that_is_not_there_yet_is_waited_for(place: Place) -> None:
    place.desk.at_once = False
    with place.asks() as requests, OutputQueue("gateway", place.port, MODEL) as results:
        requests.enqueue("r", x=X)
        with pytest.raises(NotReady) as caught:
            results.query("r", timeout=0)
        assert caught.value.reason == "result.pending"
        assert results.dequeue() == {}
        with pytest.raises(AlreadyExists) as taken:
            requests.enqueue("r", x=X)
        assert taken.value.reason == "uri.taken"


def test_a_full_queue_says_so_and_a_uri_that_was_refused_is_free(place: Place) -> None:
    """2: it dropped requests in silence."""
    place.desk.room = -10_000
    with place.asks() as requests:
        requests._timeout_s = 0.05
        with pytest.raises(Overloaded) as caught:
            requests.enqueue("r", x=X)
    assert caught.value.reason == "jobs.full"
    assert place.files == []
    place.desk.room = None
    with place.asks() as requests, OutputQueue("gateway", place.port, MODEL) as results:
        requests.enqueue("r", x=X)
        assert np.array_equal(results.query("r"), X * 2)


@pytest.mark.parametrize("error", [InvalidRequest("of the worker's"), Unavailable("gone"), Overloaded("full")])
@pytest.mark.parametrize("take", ["query", "delete", "dequeue"])
def test_a_failure_is_its_error_with_its_cause(place: Place, error: CloisterError, take: str) -> None:
    """6: sentinels in place of errors."""
    place.worker.error = error
    with place.asks() as requests, OutputQueue("gateway", place.port, MODEL) as results:
        requests.enqueue("r", x=X)
        if take == "dequeue":
            (outcome,) = results.dequeue().values()
            assert isinstance(outcome, type(error))
        else:
            with pytest.raises(type(error), match=str(error)):
                results.query("r", delete=take == "delete")
    assert len(place.files) == (take == "query")


def test_a_job_that_the_mesh_has_lost_is_said_to_be_unknown(place: Place) -> None:
    with place.asks() as requests, OutputQueue("gateway", place.port, MODEL) as results:
        requests.enqueue("r", x=X)
        place.desk.kept.clear()
        place.desk._keys.clear()
        with pytest.raises(NotFound) as caught:
            results.query("r")
        assert caught.value.reason == "result.unknown"
        requests.enqueue("r", x=X)
        assert np.array_equal(results.query("r"), X * 2)


def off(place: Place) -> None:
    place.desk.refuse = [NotReady("no jobs here", reason="jobs.off")]


def no_epoch(place: Place) -> None:
    place.worker.job_epoch = None


@pytest.mark.parametrize("without", [off, no_epoch])
def test_where_the_mesh_takes_no_jobs_the_process_asks(place: Place, without: Callable[[Place], None]) -> None:
    without(place)
    with place.asks() as requests, OutputQueue("gateway", place.port, MODEL) as results:
        for number in range(3):
            requests.enqueue(f"r{number}", x=X)
        with pytest.raises(AlreadyExists):
            requests.enqueue("r0", x=X)
        for number in range(3):
            assert np.array_equal(results.query(f"r{number}"), X * 2)
        assert results.answer("r0").worker is not None
    assert place.desk.kept == {}
    assert place.files == []


def test_a_ticket_that_was_cut_when_its_process_died_is_none(place: Place) -> None:
    with place.asks() as requests:
        requests.enqueue("r", x=X)
    (file,) = place.files
    file.write_bytes(file.read_bytes()[:-3])
    with place.another_process() as results:
        with pytest.raises(NotFound):
            results.query("r")
        assert results.dequeue() == {}
    with place.asks() as requests:
        requests.enqueue("r", x=X)


def test_a_cancelled_job_is_told_of(place: Place) -> None:
    place.desk.at_once = False
    with place.asks() as requests, OutputQueue("gateway", place.port, MODEL) as results:
        requests.enqueue("r", x=X)
        for kept in place.desk.kept.values():
            kept.job.state = pb.JOB_STATE_CANCELLED
        with pytest.raises(NotReady) as caught:
            results.query_and_delete("r")
        assert caught.value.reason == "job.cancelled"
    assert place.files == []
