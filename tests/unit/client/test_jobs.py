"""What a client's jobs are: sealed, kept, sent, and to which key."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1 import jobs_pb2 as pb
from cloister.client import JobTicket, PreparedJob, job_sending, verify_receipt
from cloister.client.answer import Answer
from cloister.errors import (
    AlreadyExists,
    EvidenceRejected,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    Unavailable,
)
from cloister.rpc.status import failure_of
from cloister.seal import envelope
from fakes.job_mesh import Mesh, X, ends_of
from fakes.job_worker import Epoch
from fakes.serving import DIGEST, MODEL


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
        for call in (client.jobs.send(prepared), client.jobs.result(prepared[0].ticket), ends_of(client, prepared[0])):
            with pytest.raises(NotReady) as raised:
                await call
            assert raised.value.reason == "jobs.off"


async def test_one_key_is_not_for_two_jobs(mesh: Mesh) -> None:
    async with mesh.client() as client:
        with pytest.raises(InvalidRequest, match="'a' is there more than once") as caught:
            await client.jobs.prepare(MODEL, [{"x": X}] * 3, keys=["a", "b", "a"])
    assert caught.value.reason == "job.key_repeated"


async def test_keys_are_as_many_as_jobs(mesh: Mesh) -> None:
    async with mesh.client() as client:
        for keys in (["a"], ["a", "b", "c"]):
            with pytest.raises(InvalidRequest):
                await client.jobs.prepare(MODEL, [{"x": X}] * 2, keys=keys)
        with pytest.raises(InvalidRequest):
            await client.jobs.submit(MODEL, {"x": X}, priority="urgent")


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
