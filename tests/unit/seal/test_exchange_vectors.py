"""The committed vectors of exchanges and receipts: made again byte for byte, opened, and refused where broken."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import OpenedResponse, Receipt, ReceiptBundle, SealedResponse
from cloister.client.exchange import Sent
from cloister.client.receipts import verify_receipt
from cloister.client.trust import VerifiedWorker
from cloister.errors import CloisterError, SealBroken
from cloister.oip.tensors import decode_response, parse_response
from cloister.seal import envelope, hpke, receipt
from cloister.seal.session import WorkerSessions
from cloister.tlog import merkle
from fakes.results import good_result
from vectors import make_exchange_v1, make_exchange_v2, make_receipts_v1, world
from vectors.exchange import Asking

_EXCHANGE: Any = json.loads(make_exchange_v1.PATH.read_text())
_PADDED: Any = json.loads(make_exchange_v2.PATH.read_text())
_RECEIPTS: Any = json.loads(make_receipts_v1.PATH.read_text())
_NOW = datetime.fromisoformat(_EXCHANGE["now"])
_DIGEST = bytes.fromhex(_EXCHANGE["model"]["digest"])


def named(cases: Any) -> Any:
    """Each case of a list, under its name."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in cases])


def workers() -> dict[str, WorkerSessions]:
    """Fresh ones, with the keys of the vectors."""
    return {
        each["instance"]: WorkerSessions(
            hpke.KeyPair.from_seed(each["hpke_suite"], bytes.fromhex(each["hpke_seed"])),
            _EXCHANGE["cluster"],
            each["instance"],
        )
        for each in _EXCHANGE["workers"]
    }


def opened_by(worker: WorkerSessions, raw: bytes) -> Any:
    """A worker's walk from the envelope to the request."""
    carried = ModelInferRequest.FromString(raw)
    opened = worker.open(envelope.sealed_request(carried), now=_NOW, digest_of=lambda _name, _version: _DIGEST)
    envelope.check_request(
        carried, model_name=opened.model_name, model_version=opened.model_version, instances=opened.recipients
    )
    return opened


def test_the_vectors_are_made_again() -> None:
    assert make_exchange_v1.vectors() == _EXCHANGE
    assert make_exchange_v2.vectors() == _PADDED
    assert make_receipts_v1.vectors() == _RECEIPTS


def test_workers_open_every_request_and_answer_as_the_vectors_have_it() -> None:
    for worker in workers().items():
        instance, sessions = worker
        for exchange in _EXCHANGE["exchanges"]:
            opened = opened_by(sessions, bytes.fromhex(exchange["envelope"]))
            assert opened.request.hex() == exchange["request"]
            if exchange["answered_by"] == instance:
                answer = OpenedResponse.FromString(bytes.fromhex(exchange["opened_response"]))
                assert opened.respond(answer).hex() == exchange["sealed_response"]


@pytest.mark.attack("G11")
@named(_EXCHANGE["refused_requests"])
def test_a_request_that_a_worker_refuses(case: Any) -> None:
    with pytest.raises(CloisterError) as refused:
        opened_by(workers()[world.XWING.instance], bytes.fromhex(case["envelope"]))
    assert refused.value.reason == case["reason"]


def sent(number: int, of: Any = _EXCHANGE) -> Sent:
    """The client's side of one of the exchanges."""
    asking = Asking(of["openings"], 1 if of is _EXCHANGE else 2)
    for each in range(number):
        asking.ask(each).pending.open(bytes.fromhex(of["exchanges"][each]["sealed_response"]))
    asked = asking.ask(number)
    model = _EXCHANGE["model"]
    believed = {each.instance: verified(each) for each in (world.XWING, world.X25519)}
    return Sent(asked.carried, asked.pending, asked.plain, believed, model["name"], model["version"], _DIGEST)


def verified(worker: world.Worker) -> VerifiedWorker:
    result = good_result(instance=worker.instance, receipt_key=worker.receipt_public, ear_id=worker.ear_id)
    no: Any = None  # what opening an answer does not look at
    return VerifiedWorker(
        instance=worker.instance, result=result, appraisal=no, token="", model=no, owner=b"", allow_plain=False
    )


@pytest.mark.parametrize("number", [0, 2])
def test_the_client_believes_the_good_answers(number: int) -> None:
    exchange = _EXCHANGE["exchanges"][number]
    opened = sent(number).opened(ModelInferResponse.FromString(bytes.fromhex(exchange["answer"])))
    assert opened.response.hex() == exchange["response"]
    assert opened.worker.instance == exchange["answered_by"]
    assert decode_response(parse_response(opened.response))["y"].tolist() == [[0.5, 0.25]]


def test_workers_pad_their_answers_and_the_client_strips_them() -> None:
    (exchange,) = _PADDED["exchanges"]
    opened = opened_by(workers()[world.XWING.instance], bytes.fromhex(exchange["envelope"]))
    assert opened.request.hex() == exchange["request"]
    answer = OpenedResponse.FromString(bytes.fromhex(exchange["opened_response"]))
    assert opened.respond(answer).hex() == exchange["sealed_response"]
    believed = sent(0, _PADDED).opened(ModelInferResponse.FromString(bytes.fromhex(exchange["answer"])))
    assert believed.response.hex() == exchange["response"]


@named(_PADDED["broken_answers"])
def test_an_answer_that_is_not_padded_as_it_must_be(case: Any) -> None:
    with pytest.raises(SealBroken):
        sent(0, _PADDED).opened(ModelInferResponse.FromString(bytes.fromhex(case["answer"])))


def test_an_error_inside_the_seal_is_raised_as_it_was_told() -> None:
    exchange = _EXCHANGE["exchanges"][1]
    with pytest.raises(CloisterError) as told:
        sent(1).opened(ModelInferResponse.FromString(bytes.fromhex(exchange["answer"])))
    assert (type(told.value).__name__, told.value.reason) == ("InvalidRequest", "request.invalid")
    assert str(told.value) == exchange["failure"]["message"]


@pytest.mark.attack("G11")
@pytest.mark.attack("G12")
@named(_EXCHANGE["broken_answers"])
def test_an_answer_that_the_client_refuses(case: Any) -> None:
    with pytest.raises(SealBroken):
        sent(0).opened(ModelInferResponse.FromString(bytes.fromhex(case["answer"])))


@pytest.mark.parametrize("batch", _RECEIPTS["batches"], ids=lambda batch: f"{len(batch['receipts'])} answers")
def test_receipts_of_a_batch(batch: Any) -> None:
    key = bytes.fromhex(_RECEIPTS["receipt_key"])
    request, response = (bytes.fromhex(_RECEIPTS[name]) for name in ("request", "response"))
    for each in batch["receipts"]:
        proof = Receipt.FromString(bytes.fromhex(each["receipt"]))
        assert (proof.leaf_index, proof.tree_size) == (each["leaf_index"], batch["tree_size"])
        leaf, path = bytes.fromhex(each["leaf"]), [bytes.fromhex(sibling) for sibling in each["path"]]
        assert merkle.root_of_path(leaf, proof.leaf_index, proof.tree_size, path) == bytes.fromhex(batch["head"])
        receipt.verify_content(receipt.verify(proof, key), request=request, response=response)


@pytest.mark.attack("J12")
@named(_RECEIPTS["broken"])
def test_a_receipt_that_is_refused(case: Any) -> None:
    with pytest.raises(SealBroken):
        receipt.verify(Receipt.FromString(bytes.fromhex(case["receipt"])), bytes.fromhex(_RECEIPTS["receipt_key"]))


@pytest.mark.attack("J12")
@named(_RECEIPTS["kept"])
def test_a_receipt_that_was_kept(case: Any) -> None:
    kept = ReceiptBundle.FromString(bytes.fromhex(case["bundle"]))
    if case["reason"] is None:
        found = verify_receipt(kept, world.bundle())
        assert found.outputs["y"].tolist() == [[0.5, 0.25]]
        assert found.issued_at <= datetime(2026, 3, 1, 12, 50, tzinfo=UTC)
        return
    with pytest.raises(CloisterError) as refused:
        verify_receipt(kept, world.bundle())
    assert refused.value.reason == case["reason"]


def test_the_envelope_of_an_answer_holds_what_it_says() -> None:
    for exchange in _EXCHANGE["exchanges"]:
        carried = ModelInferResponse.FromString(bytes.fromhex(exchange["answer"]))
        assert envelope.sealed_response(carried).hex() == exchange["sealed_response"]
        assert SealedResponse.FromString(carried.raw_output_contents[0]).instance == exchange["answered_by"]
