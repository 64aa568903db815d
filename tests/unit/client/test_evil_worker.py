"""A genuinely attested worker that misbehaves: what it can get a client to believe (attacks J12, D07, D09, G16)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import OpenedResponse, ReceiptBody
from cloister.client import Client, verify_receipt
from cloister.errors import CloisterError, EvidenceRejected, InternalError, NotReady, SealBroken, Unavailable
from cloister.oip.tensors import encode_response
from cloister.seal import receipt
from cloister.seal.session import WorkerSessions
from fakes.evil_worker import EvilWorker
from fakes.serving import MODEL, FakeGateway, FakeVerifier, FakeWorker

X, Z = np.array([[1.0, 2.0]], np.float32), np.array([[5.0, 6.0]], np.float32)
OTHER = b"\x01" * 32


@pytest.fixture
def verifier() -> FakeVerifier:
    return FakeVerifier()


@pytest.fixture
def worker(verifier: FakeVerifier) -> EvilWorker:
    return EvilWorker(verifier)


@pytest.fixture
async def client(verifier: FakeVerifier, worker: EvilWorker) -> Client:
    """One that has had a good answer from it."""
    found = asking(verifier, FakeGateway(worker))
    answer = await found.infer(MODEL, {"x": X})
    np.testing.assert_array_equal(answer.outputs["y"], X * 2)
    return found


def asking(verifier: FakeVerifier, gateway: FakeGateway) -> Client:
    return Client(cast(Any, gateway), verifier.trust())


async def refused(client: Client, error: type[CloisterError] = SealBroken) -> CloisterError:
    with pytest.raises(error) as told:
        await client.infer(MODEL, {"x": Z}, timeout_s=5)
    return told.value


@pytest.mark.attack("J12")
@pytest.mark.parametrize(
    "states",
    [
        lambda body: setattr(body, "model_name", "another"),
        lambda body: setattr(body, "model_version", "2"),
        lambda body: setattr(body, "model_digest", OTHER),
        lambda body: setattr(body, "instance", "ab" * 16),
        lambda body: setattr(body, "request_id", bytes(16)),
        lambda body: setattr(body, "request_sha256", OTHER),
        lambda body: setattr(body, "response_sha256", OTHER),
        lambda body: setattr(body, "version", 2),
    ],
    ids=["model", "version", "digest", "instance", "request id", "request", "response", "form"],
)
async def test_a_receipt_that_states_anything_else_is_refused(
    client: Client, worker: EvilWorker, states: Callable[[ReceiptBody], object]
) -> None:
    worker.states = states
    await refused(client)


@pytest.mark.attack("J12")
async def test_a_receipt_that_names_a_result_which_nobody_has_shown_is_refused(
    client: Client, worker: EvilWorker
) -> None:
    worker.states = lambda body: setattr(body, "ear_id", "never issued")
    assert (await refused(client, EvidenceRejected)).reason == "receipt.result_unknown"


@pytest.mark.attack("J12")
@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_receipt_of_a_time_at_which_nothing_vouched_for_its_key_is_refused(
    client: Client, worker: EvilWorker, hours: int
) -> None:
    def untimely(body: ReceiptBody) -> None:
        body.issued_at_ms += hours * 3_600_000

    worker.states = untimely
    assert (await refused(client, EvidenceRejected)).reason == "receipt.untimely"


@pytest.mark.attack("J12")
async def test_a_worker_that_goes_on_after_its_result_has_ended_is_asked_nothing(
    client: Client, worker: EvilWorker
) -> None:
    client._asker.roster._now = lambda: datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises((EvidenceRejected, Unavailable)):
        await client.infer(MODEL, {"x": Z}, timeout_s=0.2)
    assert len(worker.given) == 1


@pytest.mark.attack("J12")
async def test_a_receipt_by_a_key_that_is_not_the_attested_one_is_refused(client: Client, worker: EvilWorker) -> None:
    worker.signs_with = Ed25519PrivateKey.generate()
    await refused(client)


@pytest.mark.attack("J12")
async def test_the_receipt_of_another_worker_is_refused(
    client: Client, worker: EvilWorker, verifier: FakeVerifier
) -> None:
    accomplice = EvilWorker(verifier)
    worker.signs_with = accomplice.evidence.receipt_key
    worker.states = lambda body: setattr(body, "instance", accomplice.instance)
    await refused(client)


@pytest.mark.attack("J12")
async def test_the_receipt_of_another_answer_is_refused(client: Client, worker: EvilWorker) -> None:
    (earlier,) = worker.given
    worker.shows = lambda answer: answer.receipt.CopyFrom(earlier.receipt)
    await refused(client)


@pytest.mark.attack("J12")
async def test_a_receipt_out_of_its_place_in_the_batch_is_refused(client: Client, worker: EvilWorker) -> None:
    worker.neighbours = [ReceiptBody(version=receipt.VERSION)]
    assert (await client.infer(MODEL, {"x": Z})).receipt is not None
    worker.shows = lambda answer: setattr(answer.receipt, "leaf_index", 2)
    await refused(client)
    worker.shows = lambda answer: answer.receipt.path.reverse()
    await refused(client)


@pytest.mark.attack("J12")
async def test_another_response_than_the_receipt_is_for_is_refused(client: Client, worker: EvilWorker) -> None:
    def lie(answer: OpenedResponse) -> None:
        answer.response = encode_response(MODEL, {"y": Z}, version="1").SerializeToString()

    worker.shows = lie
    await refused(client)


@pytest.mark.attack("J12")
async def test_an_answer_without_a_receipt_is_refused(client: Client, worker: EvilWorker) -> None:
    worker.shows = lambda answer: answer.ClearField("receipt")
    await refused(client)


@pytest.mark.attack("J12")
async def test_a_kept_receipt_proves_another_workers_answer_to_nobody(
    client: Client, worker: EvilWorker, verifier: FakeVerifier
) -> None:
    answer = await client.infer(MODEL, {"x": Z})
    assert answer.receipt is not None
    assert verify_receipt(answer.receipt, client.trust).body.instance == worker.instance
    answer.receipt.attestation_result = EvilWorker(verifier).token
    with pytest.raises(SealBroken):
        verify_receipt(answer.receipt, client.trust)


@pytest.mark.attack("G12")
async def test_the_answer_to_another_request_is_no_answer(
    client: Client, worker: EvilWorker, verifier: FakeVerifier
) -> None:
    (earlier,) = worker.given
    worker.shows = lambda answer: answer.CopyFrom(earlier)
    await refused(client)


@pytest.mark.attack("G12")
async def test_an_answer_in_the_name_of_another_recipient_is_no_answer(verifier: FakeVerifier) -> None:
    """It can seal an answer in another's name, as every recipient can; the receipt it cannot sign."""
    evil, honest = EvilWorker(verifier), FakeWorker(verifier)

    class Between(FakeGateway):
        """Has the evil one answer, in either name."""

        name = evil.instance

        async def ModelInfer(self, request: ModelInferRequest, *args: Any, **kwargs: Any) -> ModelInferResponse:
            return evil.answer_as(self.name, request)

    gateway = Between(evil, honest)
    client = asking(verifier, gateway)
    np.testing.assert_array_equal((await client.infer(MODEL, {"x": Z})).outputs["y"], Z * 2)
    gateway.name = honest.instance
    await refused(client)
    evil.states = lambda body: setattr(body, "instance", honest.instance)
    await refused(client)


@pytest.mark.attack("G13")
@pytest.mark.attack("D07")
async def test_who_relays_a_victims_evidence_can_open_nothing(verifier: FakeVerifier) -> None:
    victim, relay = FakeWorker(verifier), FakeWorker(verifier)  # both genuine
    relay.sessions = WorkerSessions(relay.evidence.hpke, verifier.trust().cluster, victim.instance)

    class Relay(FakeGateway):
        """Lists the victim, and has its own worker answer."""

        async def ModelInfer(self, request: ModelInferRequest, *args: Any, **kwargs: Any) -> ModelInferResponse:
            return relay.answer(request)

    with pytest.raises((SealBroken, NotReady)):
        await asking(verifier, Relay(victim)).infer(MODEL, {"x": Z}, timeout_s=2)
    assert relay.seen == []


@pytest.mark.attack("D09")
async def test_a_worker_that_serves_another_cluster_cannot_open(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    worker.sessions = WorkerSessions(worker.evidence.hpke, "another.cloister.internal", worker.instance)
    client = asking(verifier, FakeGateway(worker))
    await refused(client)
    assert worker.seen == []


# Epochs


@pytest.mark.attack("J08")
async def test_a_client_goes_over_to_the_new_key_once_it_hears_of_it(client: Client, worker: EvilWorker) -> None:
    worker.rotate()
    for _ in range(2):
        np.testing.assert_array_equal((await client.infer(MODEL, {"x": Z})).outputs["y"], Z * 2)
        client._asker.roster.forget(MODEL, "")
    answer = await client.infer(MODEL, {"x": Z})
    assert answer.worker is not None
    assert answer.worker.result.hpke_public == worker.evidence.hpke.public


@pytest.mark.attack("J08")
async def test_a_client_that_has_slept_through_an_epoch_asks_again_by_itself(
    client: Client, worker: EvilWorker
) -> None:
    worker.sessions.epochs.drop(worker.rotate().key_id)
    np.testing.assert_array_equal((await client.infer(MODEL, {"x": Z})).outputs["y"], Z * 2)


@pytest.mark.attack("G16")
async def test_a_gateway_that_goes_on_offering_the_old_key_gets_refusals(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    old = worker.serving()

    client = asking(verifier, FakeGateway(worker))
    worker.sessions.epochs.drop(worker.rotate().key_id)
    worker.serving = lambda: old  # type: ignore[method-assign]
    assert (await refused(client, NotReady)).reason == "seal.stale"
    assert worker.seen == []


@pytest.mark.attack("D03")
@pytest.mark.parametrize("stale", ["evidence", "result"])
async def test_evidence_of_an_old_epoch_with_the_result_of_the_new_is_refused(
    verifier: FakeVerifier, stale: str
) -> None:
    worker = FakeWorker(verifier)
    old = worker.serving()
    worker.rotate()
    mixed = worker.serving()
    if stale == "evidence":
        mixed.bundle.evidence.CopyFrom(old.bundle.evidence)
    else:
        mixed.bundle.attestation_result = old.bundle.attestation_result
    worker.serving = lambda: mixed  # type: ignore[method-assign]
    told = await refused(asking(verifier, FakeGateway(worker)), EvidenceRejected)
    assert told.reason in ("claims.nonce_mismatched", "claims.hpke_public_mismatched")


async def test_an_evil_workers_errors_are_told_as_they_are(client: Client, worker: EvilWorker) -> None:
    worker.error = InternalError("made up")
    with pytest.raises(InternalError):
        await client.infer(MODEL, {"x": Z})
