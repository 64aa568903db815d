"""`cloister submit` and `cloister jobs` over a true client, with jobs that are really sealed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cloister.api.oip.inference_pb2 import ModelMetadataRequest, ModelMetadataResponse
from cloister.api.v1 import jobs_pb2 as pb
from cloister.cli import asking
from cloister.cli.batch.journal import Journal
from cloister.cli.failures import ExitCode
from cloister.cli.mesh_folder import Mesh
from cloister.client import Client, JobTicket, load_receipt, verify_receipt
from cloister.errors import NotReady
from fakes.job_desk import DeskGateway, JobDesk, spoiled
from fakes.job_worker import Epoch, JobWorker
from fakes.serving import MODEL, FakeVerifier, FakeWorker

RunCommand = Callable[..., tuple[int, str, str]]
X = np.arange(20, dtype=np.float32).reshape(10, 2)


class Gateway(DeskGateway):
    """Also says what the model takes."""

    async def ModelMetadata(self, request: ModelMetadataRequest, timeout: float) -> ModelMetadataResponse:  # noqa: ASYNC109
        answer = ModelMetadataResponse(name=request.name, versions=["1"])
        answer.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        answer.outputs.add(name="y", datatype="FP32", shape=[-1, 2])
        return answer


class Desk(JobDesk):
    """Lets nobody watch while it is `silent`."""

    silent = False

    async def watch(self, request: pb.WatchRequest) -> AsyncIterator[pb.WatchResponse]:
        if self.silent:
            raise NotReady("this gateway takes no jobs", reason="jobs.off")
        async for message in super().watch(request):
            yield message


class Place:
    """A mesh of one worker, and files."""

    def __init__(self, folder: Path, mesh: Mesh) -> None:
        self.verifier = FakeVerifier()
        self.worker = FakeWorker(self.verifier)
        self.desk = Desk(JobWorker(self.worker, Epoch()))
        self.source, self.output = folder / "in.npy", folder / "out.npz"
        self.journal = folder / "out.npz.journal"
        self.words = ("submit", MODEL, "--mesh", mesh.folder, "--input", self.source, "--output", self.output)
        np.save(self.source, X)

    @asynccontextmanager
    async def connect(self, *_: object, **__: object) -> AsyncIterator[Client]:
        async with Client.over(cast(Any, Gateway(self.desk)), self.verifier.trust(), timeout_s=5.0) as client:
            yield client


@pytest.fixture
def place(tmp_path: Path, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, mesh)
    monkeypatch.setattr(asking.Client, "connect", made.connect)
    return made


def test_a_file_of_rows_is_answered(run: RunCommand, place: Place, tmp_path: Path) -> None:
    code, said, _ = run(*place.words, "--rows", "3", "--receipts", tmp_path / "receipts", "--json")
    assert code == ExitCode.OK
    told = json.loads(said)
    assert (told["rows"], told["answered"], told["failed"], told["versions"]) == (10, 10, 0, {"1": 10})
    with np.load(place.output) as found:
        assert np.array_equal(found["y"], X * 2)
    receipts = sorted((tmp_path / "receipts").iterdir())
    assert len(receipts) == 4
    proved = verify_receipt(load_receipt(receipts[0]), place.verifier.trust())
    assert np.array_equal(proved.inputs["x"], X[:3])
    assert not place.journal.exists()
    assert X.tobytes() not in b"".join(call.SerializeToString() for call in place.desk.submits)
    code, _, complaint = run(*place.words)
    assert code == ExitCode.USAGE
    assert "exists, whole" in complaint
    assert run(*place.words, "--fresh")[0] == ExitCode.OK


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--digest", "ab" * 32), "no worker that is believed serves 'model' with the digest that was asked for"),
        (("--life", "1000000"), "outlive the key.*say it with --life"),
    ],
)
def test_what_would_end_so_again_is_not_to_be_run_again(
    run: RunCommand, place: Place, words: tuple[str, ...], why: str
) -> None:
    code, _, complaint = run(*place.words, *words)
    assert code == ExitCode.FAILED
    assert re.search(why.replace("'model'", f"'{MODEL}'"), " ".join(complaint.split()))
    assert "same command again" not in complaint


def test_what_waits_is_shown_listed_cancelled_and_gone_on_with(run: RunCommand, place: Place, mesh: Mesh) -> None:
    place.desk.at_once = False
    code, _, complaint = _interrupted(run, place)
    assert code == ExitCode.FAILED
    assert "(jobs.off); ask with 'cloister infer'" in complaint.replace("\n", " ")
    assert "0 of 10 rows have ended; run the same command again" in complaint
    where = (place.journal, "--mesh", mesh.folder, "--json")
    shown = json.loads(run("jobs", "show", *where)[1])
    assert (shown["rows"], shown["answered"], [job["state"] for job in shown["jobs"]]) == (10, 0, ["queued"] * 4)
    listed = json.loads(run("jobs", "list", *where)[1])
    assert [job["rows"] for job in listed] == ["0-2", "3-5", "6-8", "9-9"]
    place.desk.at_once = True
    accepted = len(place.desk.kept)
    (last,) = [job["job"] for job in listed if job["rows"] == "9-9"]
    ticket = place.journal.parent / "nine.ticket"
    ticket.write_bytes(_ticket(place, bytes.fromhex(last)))
    cancelled = json.loads(run("jobs", "cancel", ticket, "--mesh", mesh.folder, "--json")[1])
    assert [job["state"] for job in cancelled] == ["cancelled"]
    _answer(place)
    code, said, _ = run(*place.words, "--json")
    assert code == ExitCode.FAILED
    told = json.loads(said)
    assert (told["answered"], told["failed"]) == (9, 1)
    assert sum(len(call.jobs) for call in place.desk.submits) == accepted
    assert "job.cancelled" in (place.output.parent / "out.npz.errors.jsonl").read_text()
    assert run(*place.words, "--again")[0] == ExitCode.OK


def test_an_answer_that_was_changed_is_no_answer(run: RunCommand, place: Place) -> None:
    place.desk.at_once = False
    _interrupted(run, place)
    _answer(place)
    for kept in list(place.desk.kept.values()):
        spoiled(place.desk, kept.submission.job_id, lambda response: response[:-1] + bytes([response[-1] ^ 1]))
    code, _, _ = run(*place.words)
    assert code == ExitCode.REFUSED
    assert (place.output.parent / "out.npz.errors.jsonl").read_text().count("SealBroken") == 10


def test_a_fresh_start_has_what_waits_not_answered(run: RunCommand, place: Place) -> None:
    place.desk.at_once = False
    _interrupted(run, place)
    before = [kept.job for kept in place.desk.kept.values()]
    place.desk.at_once = True
    assert run(*place.words, "--fresh")[0] == ExitCode.OK
    assert {job.state for job in before} == {pb.JOB_STATE_CANCELLED}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--column", "x=a"), "an .npy file has no columns"),
        (("--output", "answers.txt"), "ends with none of"),
        (("--input", "nothing.npy"), "there is no file"),
        (("--digest", "12"), "64 hex digits"),
        (("--output", "nowhere/out.npz"), "there is no folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_sent(
    run: RunCommand, place: Place, more: tuple[str, ...], words: str
) -> None:
    code, _, complaint = run(*place.words, *more)
    assert code == ExitCode.USAGE
    assert words in complaint.replace("\n", " ")
    assert place.desk.submits == []


@pytest.mark.parametrize("command", ["show", "list", "cancel"])
def test_what_is_no_ticket_is_refused(run: RunCommand, place: Place, mesh: Mesh, command: str) -> None:
    code, _, complaint = run("jobs", command, place.source, "--mesh", mesh.folder)
    assert (code, "is no ticket" in complaint) == (ExitCode.FAILED, True)
    code, _, complaint = run("jobs", command, place.output, "--mesh", mesh.folder)
    assert (code, "there is no ticket or journal" in complaint) == (ExitCode.USAGE, True)
    code, _, complaint = run("jobs", command, place.source.parent, "--mesh", mesh.folder)
    assert (code, "is no journal" in complaint) == (ExitCode.USAGE, True)


def _interrupted(run: RunCommand, place: Place) -> tuple[int, str, str]:
    """A command that ends after it has submitted: the gateway says that it takes no jobs any more."""
    place.desk.silent = True
    ended = run(*place.words, "--rows", "3")
    place.desk.silent = False
    return ended


def _answer(place: Place) -> None:
    asyncio.run(place.desk.run())


def _ticket(place: Place, job_id: bytes) -> bytes:
    with Journal.read(place.journal) as journal:
        (found,) = [raw for _, raw in journal.tickets() if JobTicket.from_bytes(raw).job_id == job_id]
    return found
