"""A client's jobs: what it seals, sends, watches, and believes of what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1 import jobs_pb2 as pb
from cloister.api.v1.seal_pb2 import OpenedJobResult, ReceiptBody
from cloister.client import Client, JobTicket, PreparedJob, job_sending, job_watching, verify_receipt
from cloister.client.answer import Answer
from cloister.errors import (
    AlreadyExists,
    EvidenceRejected,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    SealBroken,
    Unavailable,
)
from cloister.rpc.status import failure_of
from cloister.seal import envelope, receipt
from fakes.job_desk import DeskGateway, JobDesk, spoiled
from fakes.job_worker import Epoch, JobWorker
from fakes.serving import DIGEST, MODEL, FakeVerifier, FakeWorker

X = np.array([[1.0, 2.0]], np.float32)


class Mesh:
    """A desk with one worker, and whom its clients trust."""

    def __init__(self, **worker: Any) -> None:
        self.verifier = FakeVerifier()
        self.epoch = Epoch()
        self.worker = JobWorker(FakeWorker(self.verifier, **worker), self.epoch)
        self.desk = JobDesk(self.worker)
        self.gateway = DeskGateway(self.desk)

    @asynccontextmanager
    async def client(self, *, timeout_s: float = 5.0, padded: bool = True, **trust: Any) -> AsyncIterator[Client]:
        bundle = self.verifier.trust(**trust)
        async with Client.over(cast(Any, self.gateway), bundle, timeout_s=timeout_s, padded=padded) as client:
            yield client


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


async def test_an_answer_to_a_job_comes_with_its_proof(mesh: Mesh) -> None:
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        answer = await client.jobs.result(ticket)
    np.testing.assert_array_equal(answer.outputs["y"], X * 2)
    assert answer.attestation == mesh.worker.worker.result
    assert (answer.model_name, answer.model_version) == (MODEL, "1")
    assert answer.receipt is not None
    kept = verify_receipt(answer.receipt, client.trust)
    np.testing.assert_array_equal(kept.inputs["x"], X)
    np.testing.assert_array_equal(kept.outputs["y"], X * 2)
    assert (kept.body.request_id, kept.body.model_digest) == (ticket.job_id, DIGEST)


async def test_what_is_kept_is_sealed_and_says_what_the_ticket_says(mesh: Mesh) -> None:
    async with mesh.client() as client:
        ticket = await client.jobs.submit(
            MODEL, {"x": X}, key="mine", priority="high", order_key="row", life_s=60.0, result_ttl_s=7
        )
    ((job,),) = [call.jobs for call in mesh.desk.submits]
    assert X.tobytes() not in job.SerializeToString()
    assert (job.job_id, job.key, job.order_key) == (ticket.job_id, "mine", "row")
    assert (job.priority, job.result_ttl_s) == (pb.JOB_PRIORITY_HIGH, 7)
    assert job.not_after_ms == int(ticket.not_after.timestamp() * 1000)
    assert 55 < (ticket.not_after - datetime.now(UTC)).total_seconds() <= 60
    carried = ModelInferRequest.FromString(job.request)
    assert (carried.model_name, carried.model_version, carried.id) == (MODEL, "", "")
    assert dict(carried.parameters).keys() == {envelope.SEAL_PARAMETER}


async def test_another_process_with_the_ticket_opens_the_answer_when_the_worker_is_gone(mesh: Mesh) -> None:
    async with mesh.client() as client:
        raw = (await client.jobs.submit(MODEL, {"x": X})).to_bytes()
    mesh.desk.workers.clear()
    mesh.gateway.workers.clear()
    async with mesh.client() as later:
        answer = await later.jobs.result(JobTicket.from_bytes(raw))
    np.testing.assert_array_equal(answer.outputs["y"], X * 2)
    assert answer.receipt is not None
    verify_receipt(answer.receipt, later.trust)


async def test_a_ticket_without_its_request_proves_all_but_what_was_asked(mesh: Mesh) -> None:
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        bare = JobTicket.from_bytes(ticket.to_bytes(with_request=False))
        answer = await client.jobs.result(bare)
    np.testing.assert_array_equal(answer.outputs["y"], X * 2)
    with pytest.raises(NotReady) as raised:
        _ = answer.receipt
    assert raised.value.reason == "receipt.request_unknown"


@pytest.mark.parametrize(("asked", "header"), [("", ("", b"")), ("1", ("1", DIGEST)), ("stable", ("stable", b""))])
async def test_a_version_that_is_named_is_meant_with_its_digest(
    asked: str, header: tuple[str, bytes], mesh: Mesh
) -> None:
    async with mesh.client() as client:
        (prepared,) = await client.jobs.prepare(MODEL, [{"x": X}], version=asked)
    assert (prepared.ticket.model_version, prepared.ticket.model_digest) == header


async def test_a_digest_names_the_version(mesh: Mesh) -> None:
    async with mesh.client() as client:
        (prepared,) = await client.jobs.prepare(MODEL, [{"x": X}], digest=DIGEST)
        assert (prepared.ticket.model_version, prepared.ticket.model_digest) == ("1", DIGEST)
        with pytest.raises(NotFound):
            await client.jobs.prepare(MODEL, [{"x": X}], digest=bytes(32))


async def test_a_key_is_submitted_once(mesh: Mesh) -> None:
    async with mesh.client() as client:
        first = await client.jobs.submit(MODEL, {"x": X}, key="mine")
        with pytest.raises(AlreadyExists) as raised:
            await client.jobs.submit(MODEL, {"x": X}, key="mine")
        assert raised.value.reason == "job.exists"
        assert first.job_id.hex() in str(raised.value)
        (sent,) = await client.jobs.send(await client.jobs.prepare(MODEL, [{"x": X}], keys=["mine"]))
        assert (sent.job_id, sent.existed, sent.error) == (first.job_id, True, None)
    assert len(mesh.desk.kept) == 1


async def test_what_was_prepared_may_be_sent_by_any_process_as_often_as_need_be(mesh: Mesh) -> None:
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X}, {"x": X + 1}])
        assert mesh.desk.submits == []
        kept = [PreparedJob.from_bytes(job.to_bytes()) for job in prepared]
    async with mesh.client() as later:
        first, second = await later.jobs.send(kept), await later.jobs.send(kept)
        assert [sent.existed for sent in (*first, *second)] == [False, False, True, True]
        for number, job in enumerate(kept):
            answer = await later.jobs.result(job.ticket)
            np.testing.assert_array_equal(answer.outputs["y"], (X + number) * 2)
    assert len(mesh.desk.kept) == 2


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\xca\x01\x01x"])
async def test_what_was_never_prepared_is_told(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as raised:
        PreparedJob.from_bytes(raw)
    assert raised.value.reason == "ticket.malformed"


async def test_a_ticket_and_another_ones_submission_are_no_prepared_job(mesh: Mesh) -> None:
    async with mesh.client() as client:
        ours, theirs = await client.jobs.prepare(MODEL, [{"x": X}] * 2)
    with pytest.raises(InvalidRequest):
        PreparedJob.from_bytes(replace(ours, submission=theirs.submission).to_bytes())


async def test_many_go_in_calls_of_bounded_count_and_size(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X}] * 7)
        monkeypatch.setattr(job_sending, "MAX_JOBS", 3)
        await client.jobs.send(prepared)
        size_bytes = len(prepared[0].submission.request)
        monkeypatch.setattr(job_sending, "MAX_BYTES", 2 * size_bytes + 1)
        await client.jobs.send(prepared)
        monkeypatch.setattr(job_sending, "MAX_BYTES", 1)
        sent = await client.jobs.send(prepared)
    assert [len(call.jobs) for call in mesh.desk.submits] == [3, 3, 1, 2, 2, 2, 1, *[1] * 7]
    assert [each.job_id for each in sent] == [job.ticket.job_id for job in prepared]


async def test_what_is_refused_for_want_of_room_is_submitted_again_and_the_rest_is_not(mesh: Mesh) -> None:
    mesh.desk.room = 2
    async with mesh.client() as client:
        sent = await client.jobs.send(await client.jobs.prepare(MODEL, [{"x": X}] * 5))
    assert [each.error for each in sent] == [None] * 5
    assert not any(each.existed for each in sent)
    assert [len(call.jobs) for call in mesh.desk.submits][:2] == [5, 3]


async def test_where_there_is_no_room_until_the_deadline_each_job_says_so(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(job: pb.Submission) -> pb.Submitted:
        failure = failure_of(Overloaded("full", reason="jobs.full"))
        return pb.Submitted(job_id=job.job_id, failure=failure, retry_after_s=60.0)

    monkeypatch.setattr(mesh.desk, "_taken", lambda _model, job: full(job))
    async with mesh.client(timeout_s=1.0) as client:
        sent = await client.jobs.send(await client.jobs.prepare(MODEL, [{"x": X}] * 2))
        with pytest.raises(Overloaded) as raised:
            await client.jobs.submit(MODEL, {"x": X})
    for error in (*(each.error for each in sent), raised.value):
        assert isinstance(error, Overloaded)
        assert (error.reason, error.retry_after_s) == ("jobs.full", 60.0)
    assert len(mesh.desk.submits) == 2


async def test_a_gateway_that_was_lost_is_given_the_same_bytes_again(mesh: Mesh) -> None:
    kept = mesh.desk.submit
    calls: list[bytes] = []

    async def lost_after(request: pb.SubmitRequest) -> pb.SubmitResponse:
        calls.append(request.SerializeToString())
        answer = await kept(request)
        if len(calls) == 1:
            raise Unavailable("the connection was lost")
        return answer

    mesh.desk.submit = lost_after  # type: ignore[method-assign]
    async with mesh.client() as client:
        (sent,) = await client.jobs.send(await client.jobs.prepare(MODEL, [{"x": X}]))
    assert sent.error is None
    assert sent.existed
    assert calls[0] == calls[1]
    assert len(mesh.desk.kept) == 1


async def test_what_concerns_all_jobs_is_raised(mesh: Mesh) -> None:
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X}])
        mesh.desk.refuse = [NotReady("no Redis", reason="jobs.off")] * 3
        for call in (client.jobs.send(prepared), client.jobs.result(prepared[0].ticket), _ends(client, prepared[0])):
            with pytest.raises(NotReady) as raised:
                await call
            assert raised.value.reason == "jobs.off"


async def _ends(client: Client, *prepared: PreparedJob) -> list[Any]:
    return [end async for end in client.jobs.watch([job.ticket for job in prepared])]


async def test_keys_are_as_many_as_jobs(mesh: Mesh) -> None:
    async with mesh.client() as client:
        for keys in (["a"], ["a", "b", "c"]):
            with pytest.raises(InvalidRequest):
                await client.jobs.prepare(MODEL, [{"x": X}] * 2, keys=keys)
        with pytest.raises(InvalidRequest):
            await client.jobs.submit(MODEL, {"x": X}, priority="urgent")


async def test_the_result_is_waited_for(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client, asyncio.TaskGroup() as group:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        with pytest.raises(NotReady) as raised:
            await client.jobs.result(ticket, wait_s=0)
        assert raised.value.reason == "job.pending"
        waiting = group.create_task(client.jobs.result(ticket))
        await asyncio.sleep(0)
        await mesh.desk.run()
        np.testing.assert_array_equal((await waiting).outputs["y"], X * 2)


async def test_each_end_is_told_once_as_it_comes_however_often_the_connection_is_cut(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X + number} for number in range(6)])
        await client.jobs.send(prepared)
        numbers = {job.ticket.job_id: number for number, job in enumerate(prepared)}
        found: list[int] = []
        mesh.desk.cuts = 4
        await mesh.desk.run(2)
        async for ticket, outcome in client.jobs.watch(job.ticket for job in prepared):
            assert isinstance(outcome, Answer)
            number = numbers[ticket.job_id]
            np.testing.assert_array_equal(outcome.outputs["y"], (X + number) * 2)
            found.append(number)
            if len(found) in (2, 4):
                await mesh.desk.run(2)
    assert sorted(found) == list(range(6))
    assert mesh.desk.watches > 4


async def test_jobs_of_many_streams_are_watched_at_once(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_watching, "MAX_WATCHED", 2)
    mesh.desk.at_once = False
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X}] * 5)
        await client.jobs.send(prepared)
        mesh.desk.kept = dict(reversed(mesh.desk.kept.items()))
        await mesh.desk.run(1)  # the last: a stream that waits for the first holds up nobody
        async for ticket, outcome in client.jobs.watch(job.ticket for job in prepared):
            assert isinstance(outcome, Answer)
            assert ticket.job_id == prepared[-1].ticket.job_id
            break
        await mesh.desk.run()
        assert len(await _ends(client, *prepared)) == 5


async def test_a_job_that_is_not_there_any_more_is_told_as_such(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X}] * 2)
        await client.jobs.send(prepared)
        await mesh.desk.lose(MODEL, prepared[0].ticket.job_id)
        await mesh.desk.run()
        ends = {ticket.job_id: outcome for ticket, outcome in await _ends(client, *prepared)}
        lost = ends[prepared[0].ticket.job_id]
        assert isinstance(lost, NotFound)
        assert lost.reason == "job.unknown"
        assert isinstance(ends[prepared[1].ticket.job_id], Answer)
        with pytest.raises(NotFound) as raised:
            await client.jobs.result(prepared[0].ticket)
        assert raised.value.reason == "job.unknown"
        (sent,) = await client.jobs.send(prepared[:1])
        assert (sent.existed, sent.error) == (False, None)
        await mesh.desk.run()
        assert isinstance(await client.jobs.result(prepared[0].ticket), Answer)


async def test_watching_ends_when_nothing_comes(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        with pytest.raises(TimeoutError):
            await anext(client.jobs.watch([ticket], timeout_s=0.05))
        mesh.desk.refuse = [Unavailable("the gateway is away")] * 100
        with pytest.raises(Unavailable):
            await anext(client.jobs.watch([ticket], timeout_s=0.2))


async def test_watching_no_jobs_ends_at_once(mesh: Mesh) -> None:
    async with mesh.client() as client:
        assert await _ends(client) == []


@pytest.mark.parametrize("through", ["result", "watch"])
async def test_the_workers_word_about_the_request_is_its_end(through: str, mesh: Mesh) -> None:
    mesh.worker.worker.error = InvalidRequest("no input 'x'")
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        with pytest.raises(InvalidRequest, match="no input 'x'"):
            await _outcome(client, ticket, through)


async def _outcome(client: Client, ticket: JobTicket, through: str = "result") -> Answer:
    if through == "result":
        return await client.jobs.result(ticket)
    ((found, outcome),) = [end async for end in client.jobs.watch([ticket])]
    assert found is ticket
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def test_a_dead_letter_is_its_end(mesh: Mesh) -> None:
    mesh.desk.workers = []
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        for through in ("result", "watch"):
            with pytest.raises(NotFound, match="nobody"):
                await _outcome(client, ticket, through)
        (status,) = await client.jobs.state([ticket])
    assert (status.state, status.attempts) == ("dead", 1)
    assert isinstance(status.error, NotFound)


async def test_states_cancelling_and_forgetting(mesh: Mesh) -> None:
    mesh.desk.at_once = False
    async with mesh.client() as client:
        prepared = await client.jobs.prepare(MODEL, [{"x": X}] * 3)
        tickets = [job.ticket for job in prepared]
        assert [each.state for each in await client.jobs.state(tickets)] == ["unknown"] * 3
        await client.jobs.send(prepared)
        assert [each.state for each in await client.jobs.state(tickets)] == ["queued"] * 3
        await mesh.desk.run(1)
        cancelled = await client.jobs.cancel(tickets[:2])
        assert [each.state for each in cancelled] == ["answered", "cancelled"]
        answered, ended, queued = await client.jobs.state(tickets)
        assert (answered.state, ended.state, queued.state) == ("answered", "cancelled", "queued")
        assert answered.submitted_at is not None
        assert answered.ended_at is not None
        assert answered.kept_until is not None
        assert answered.submitted_at <= answered.ended_at < answered.kept_until
        assert queued.ended_at is None
        with pytest.raises(NotReady) as raised:
            await client.jobs.result(tickets[1])
        assert raised.value.reason == "job.cancelled"
        await client.jobs.forget([*tickets, *tickets])
        assert [each.state for each in await client.jobs.state(tickets)] == ["unknown", "unknown", "queued"]


@pytest.mark.attack("H02")
async def test_the_answer_to_another_job_is_an_error_and_no_data(mesh: Mesh) -> None:
    async with mesh.client() as client:
        ours, theirs = [await client.jobs.submit(MODEL, {"x": X + number}) for number in range(2)]
        other = mesh.desk.kept[MODEL, theirs.job_id].job.response
        spoiled(mesh.desk, ours.job_id, lambda _: other)
        for through in ("result", "watch"):
            with pytest.raises(SealBroken):
                await _outcome(client, ours, through)
        np.testing.assert_array_equal((await _outcome(client, theirs)).outputs["y"], (X + 1) * 2)


def _flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def _renamed(raw: bytes) -> bytes:
    message = ModelInferResponse.FromString(raw)
    message.model_version = "2"
    return message.SerializeToString()


def _with_a_parameter(raw: bytes) -> bytes:
    message = ModelInferResponse.FromString(raw)
    message.parameters["x"].bool_param = True
    return message.SerializeToString()


def _in_clear(_raw: bytes) -> bytes:
    message = ModelInferResponse(model_name=MODEL)
    message.outputs.add(name="y", datatype="FP32", shape=[1, 2])
    message.raw_output_contents.append(X.tobytes())
    return message.SerializeToString()


@pytest.mark.attack("H01")
@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        lambda _: b"",
        lambda _: b"\xff",
        _renamed,
        _with_a_parameter,
        _in_clear,
    ],
)
async def test_an_answer_that_was_changed_where_it_was_kept_is_refused(
    change: Callable[[bytes], bytes], mesh: Mesh
) -> None:
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        spoiled(mesh.desk, ticket.job_id, change)
        with pytest.raises(SealBroken):
            await client.jobs.result(ticket)


def _another_request(result: OpenedJobResult) -> OpenedJobResult:
    result.response = ModelInferResponse(model_name=MODEL).SerializeToString()
    return result


def _no_receipt(result: OpenedJobResult) -> OpenedJobResult:
    result.ClearField("receipt")
    return result


@pytest.mark.parametrize("spoil", [_another_request, _no_receipt])
async def test_an_answer_without_its_receipt_is_refused(
    spoil: Callable[[OpenedJobResult], OpenedJobResult], mesh: Mesh
) -> None:
    mesh.worker.spoil = spoil
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        with pytest.raises((SealBroken, EvidenceRejected)):
            await client.jobs.result(ticket)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"simulated": False, "hardware": 2}, "anchor.other"),
        ({"mrenclave": "ab" * 32}, "measurement.unknown"),
        ({"debug": True}, "enclave.debug"),
        ({"audience": "provisioner"}, "token.audience"),
        ({"ear_id": "another"}, "seal.broken"),
        ({"receipt_key": bytes(32)}, "seal.broken"),
    ],
)
async def test_an_enclave_answers_that_this_client_would_not_have_sealed_to(
    change: dict[str, Any], reason: str, mesh: Mesh
) -> None:
    """It has the epoch's key all the same: the provisioner, or a policy that we were not shown, let it in."""
    worker = mesh.worker.worker

    def spoil(result: OpenedJobResult) -> OpenedJobResult:
        result.attestation_result = worker.verifier.token(replace(worker.result, **change))
        return result

    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        assert isinstance(await client.jobs.result(ticket), Answer)
        mesh.worker.spoil = spoil
        ticket = await client.jobs.submit(MODEL, {"x": X})
        with pytest.raises((EvidenceRejected, SealBroken)) as raised:
            await client.jobs.result(ticket)
    assert raised.value.reason == reason


async def test_an_answer_may_not_be_dated_back_to_when_its_enclave_was_still_believed(mesh: Mesh) -> None:
    """Whoever has the receipt key of an enclave that is out of date, and the epoch's key, has its old Result too."""
    worker, day = mesh.worker.worker, timedelta(days=1)

    def spoil(result: OpenedJobResult) -> OpenedJobResult:
        before = replace(
            worker.result, issued_at=worker.result.issued_at - day, expires_at=worker.result.expires_at - day
        )
        body = ReceiptBody.FromString(result.receipt.body)
        body.issued_at_ms -= int(day.total_seconds() * 1000)
        (dated,) = receipt.issue([body], worker.evidence.receipt_key)
        result.attestation_result = worker.verifier.token(before)
        result.receipt.CopyFrom(dated)
        return result

    mesh.worker.spoil = spoil
    async with mesh.client() as client:
        ticket = await client.jobs.submit(MODEL, {"x": X})
        with pytest.raises(EvidenceRejected) as raised:
            await client.jobs.result(ticket)
        assert raised.value.reason == "receipt.untimely"
        older = replace(ticket, sealed_at=ticket.sealed_at - day)
        assert isinstance(await client.jobs.result(older), Answer)


async def test_an_attestation_result_by_a_verifier_that_nobody_knows_is_refused_and_its_keys_asked_for_once(
    mesh: Mesh,
) -> None:
    def spoil(result: OpenedJobResult) -> OpenedJobResult:
        result.attestation_result = FakeVerifier().token(mesh.worker.worker.result)
        return result

    async with mesh.client() as client:
        mesh.worker.spoil = spoil
        tickets = [await client.jobs.submit(MODEL, {"x": X}) for _ in range(3)]
        before = mesh.gateway.lists
        for ticket in tickets:
            with pytest.raises(EvidenceRejected) as raised:
                await client.jobs.result(ticket)
            assert raised.value.reason == "token.key_unknown"
    assert mesh.gateway.lists == before + 1


@pytest.mark.parametrize("asked", [{"version": "1"}, {"digest": DIGEST}])
async def test_another_model_than_the_one_that_was_meant_does_not_answer(asked: Any, mesh: Mesh) -> None:
    async with mesh.client() as client:
        (prepared,) = await client.jobs.prepare(MODEL, [{"x": X}], **asked)
        mesh.worker.worker.version, mesh.worker.worker.digest = "2", bytes(32)
        await client.jobs.send([prepared])
        with pytest.raises(SealBroken):
            await client.jobs.result(prepared.ticket)


async def test_a_job_may_not_outlive_the_key(mesh: Mesh) -> None:
    async with mesh.client() as client:
        with pytest.raises(InvalidRequest) as raised:
            await client.jobs.submit(MODEL, {"x": X}, life_s=timedelta(days=2).total_seconds())
    assert raised.value.reason == "request.too_long"


async def test_no_worker_takes_jobs(mesh: Mesh) -> None:
    mesh.worker.worker.job_epoch = None
    async with mesh.client() as client:
        with pytest.raises(NotReady) as raised:
            await client.jobs.submit(MODEL, {"x": X})
    assert raised.value.reason == "epoch.missing"


async def test_a_new_epoch_is_found_once_the_old_one_has_ended(mesh: Mesh) -> None:
    mesh.worker.announce(Epoch(seal_until=datetime.now(UTC) - timedelta(seconds=1)))
    async with mesh.client() as client:
        await client.infer(MODEL, {"x": X})  # from here on the list of workers is known
        mesh.worker.announce(mesh.epoch)
        ticket = await client.jobs.submit(MODEL, {"x": X})
        assert isinstance(await client.jobs.result(ticket), Answer)
        mesh.worker.announce(Epoch(seal_until=datetime.now(UTC) - timedelta(seconds=1)))
        await client.jobs.submit(MODEL, {"x": X})
    assert mesh.gateway.lists == 2


async def test_an_epoch_that_has_ended_is_not_sealed_to(mesh: Mesh) -> None:
    mesh.worker.announce(Epoch(seal_until=datetime.now(UTC) - timedelta(seconds=1)))
    async with mesh.client() as client:
        with pytest.raises(EvidenceRejected) as raised:
            await client.jobs.submit(MODEL, {"x": X})
    assert raised.value.reason == "epoch.ended"
    assert mesh.gateway.lists == 1


async def test_without_padding_lengths_show_and_with_it_they_do_not(mesh: Mesh) -> None:
    sizes = []
    for padded in (True, False):
        async with mesh.client(padded=padded) as client:
            prepared = await client.jobs.prepare(MODEL, [{"x": X}, {"x": np.ones((4, 2), np.float32)}])
            sizes.append(len({len(job.submission.request) for job in prepared}))
    assert sizes == [1, 2]
