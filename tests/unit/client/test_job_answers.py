"""What a client believes of an answer to a job, and of whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import numpy as np
import pytest

from cloister.api.oip.inference_pb2 import ModelInferResponse
from cloister.api.v1.seal_pb2 import OpenedJobResult, ReceiptBody
from cloister.client import Client, JobTicket
from cloister.client.answer import Answer
from cloister.errors import (
    EvidenceRejected,
    SealBroken,
)
from cloister.seal import receipt
from fakes.job_desk import DeskGateway, JobDesk, spoiled
from fakes.job_mesh import Mesh, X, outcome_of
from fakes.job_worker import Epoch, JobWorker
from fakes.serving import DIGEST, MODEL, FakeVerifier, FakeWorker


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


@pytest.mark.attack("H02")
async def test_the_answer_to_another_job_is_an_error_and_no_data(mesh: Mesh) -> None:
    async with mesh.client() as client:
        ours, theirs = [await client.jobs.submit(MODEL, {"x": X + number}) for number in range(2)]
        other = mesh.desk.kept[MODEL, theirs.job_id].job.response
        spoiled(mesh.desk, ours.job_id, lambda _: other)
        for through in ("result", "watch"):
            with pytest.raises(SealBroken):
                await outcome_of(client, ours, through)
        np.testing.assert_array_equal((await outcome_of(client, theirs)).outputs["y"], (X + 1) * 2)


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
        result.ClearField("known_result")
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


async def test_an_answer_under_a_kept_result_is_opened_by_its_ticket_alone_and_by_no_other_worker_s_result() -> None:
    verifier, epoch = FakeVerifier(), Epoch()
    both = [JobWorker(FakeWorker(verifier), epoch) for _ in range(2)]
    desk = JobDesk(*both)
    seen: list[OpenedJobResult] = []

    def spoil(result: OpenedJobResult) -> OpenedJobResult:
        seen.append(OpenedJobResult.FromString(result.SerializeToString()))
        if len(seen) == 2:
            result.known_result = 3 - result.known_result
        return result

    both[0].spoil = spoil
    async with Client.over(cast(Any, DeskGateway(desk)), verifier.trust(), timeout_s=5.0) as client:
        ours, other = [await client.jobs.submit(MODEL, {"x": X}) for _ in range(2)]
        with pytest.raises(SealBroken):
            await client.jobs.result(other)
    assert [(result.known_result > 0, result.attestation_result) for result in seen] == [(True, "")] * 2
    async with Client.over(cast(Any, DeskGateway(desk)), verifier.trust(), timeout_s=5.0) as later:
        answer = await later.jobs.result(JobTicket.from_bytes(ours.to_bytes()))
        assert answer.attestation == both[0].worker.result
        assert answer.receipt.attestation_result == both[0].worker.token


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
        result.ClearField("known_result")
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
        result.ClearField("known_result")
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
