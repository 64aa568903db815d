"""Jobs in, answers out: which version answers, what is told to whom, and what a receipt says."""

from __future__ import annotations

import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import OpenedJobResult
from cloister.errors import NotFound, NotReady
from cloister.oip.tensors import decode_response
from cloister.seal import envelope, receipt
from cloister.seal.job import JobTicket
from cloister.worker.attester import OwnResult
from cloister.worker.job_epochs import JobEpochs
from cloister.worker.requests import Opened, read
from cloister.worker.results import Answer
from fakes.attested_worker import DIGEST, EAR_ID, MODEL, NEVER_MS, POLICY, Client, Inside, tensors
from unit.worker.test_answers import answered, result


@pytest.fixture
def inside() -> Inside:
    return Inside()


@pytest.fixture
def client(inside: Inside) -> Client:
    return Client(inside)


def opened(ticket: JobTicket, raw: bytes) -> OpenedJobResult:
    carried = ModelInferResponse.FromString(raw)
    named = {"model_name": ticket.model_name, "model_version": ticket.model_version}
    return ticket.open(envelope.sealed_job_result(carried, **named))


def outer(inside: Inside, raw: bytes) -> str:
    one = result(inside, raw)
    assert one.WhichOneof("outcome") == "failure"
    return one.failure.reason


def test_a_job_is_answered_with_all_that_proves_it(inside: Inside, client: Client) -> None:
    request = tensors(2.0)
    raw, ticket = client.seal_job(request)
    answer = opened(ticket, result(inside, raw).response)
    assert decode_response(ModelInferResponse.FromString(answer.response))["sum"].tolist() == [6]
    assert answer.attestation_result == inside.token
    body = receipt.verify(answer.receipt, inside.keys.receipt_public)
    receipt.verify_content(body, request=request.SerializeToString(), response=answer.response)
    said = (body.request_id, body.model_name, body.model_version, body.model_digest, body.policy_digest)
    assert said == (ticket.job_id, MODEL, "2", DIGEST, POLICY)
    assert (body.ear_id, body.instance) == (EAR_ID, inside.keys.instance)


def test_it_may_be_answered_twice(inside: Inside, client: Client) -> None:
    raw, ticket = client.seal_job()
    answers = [result(inside, raw).response for _ in range(2)]
    assert answers[0] != answers[1]
    first, second = (opened(ticket, answer) for answer in answers)
    assert first.response == second.response


def test_the_receipt_names_the_attestation_result_in_force(inside: Inside, client: Client) -> None:
    now = inside.clock.now()
    raw, ticket = client.seal_job()
    answer = answered(inside, raw)
    inside.vouched = OwnResult("a newer one", "ear-2", now, now, b"")
    (one,) = inside.answers.finish([answer])
    message = opened(ticket, one.response)
    assert message.attestation_result == "a newer one"
    assert receipt.verify(message.receipt, inside.keys.receipt_public).ear_id == "ear-2"


def test_a_result_that_the_client_keeps_is_left_out_until_there_is_a_newer_one(inside: Inside, client: Client) -> None:
    now, padded_bytes = inside.clock.now(), dict[str, int]()
    inside.vouched = OwnResult("a token " * 500, EAR_ID, now, now, b"")
    for known in ({}, {"ear-0": "an older one", EAR_ID: inside.vouched.token}):
        raw, ticket = client.seal_job(known=known)
        answer = result(inside, raw).response
        assert opened(ticket, answer).attestation_result == inside.vouched.token
        padded_bytes["known" if known else "whole"] = len(answer)
    assert padded_bytes["known"] < padded_bytes["whole"] - 3500
    late = answered(inside, raw)
    inside.vouched = OwnResult("a newer one", "ear-2", now, now, b"")
    (one,) = inside.answers.finish([late])
    assert opened(ticket, one.response).attestation_result == "a newer one"


def test_jobs_and_other_requests_of_a_frame_share_a_signature(inside: Inside, client: Client) -> None:
    jobs = [client.seal_job(tensors(float(value))) for value in range(3)]
    sealed, pending = client.seal(tensors(9.0))
    raws = [jobs[0][0], sealed, jobs[1][0], tensors().SerializeToString(), jobs[2][0]]
    results = inside.answers.finish([answered(inside, raw, number) for number, raw in enumerate(raws)])
    messages = [opened(jobs[number][1], results[at].response) for number, at in enumerate((0, 2, 4))]
    theirs = pending.open(envelope.sealed_response(ModelInferResponse.FromString(results[1].response)))
    assert len({message.receipt.signature for message in [*messages, theirs]}) == 1
    for number, message in enumerate(messages):
        body = receipt.verify(message.receipt, inside.keys.receipt_public)
        assert body.request_id == jobs[number][1].job_id
        assert decode_response(ModelInferResponse.FromString(message.response))["sum"].tolist() == [3 * number]


@pytest.mark.parametrize(
    ("asked", "told", "answers"),
    [("", "", "3"), ("", "2", "2"), ("stable", "2", "2"), ("2", "3", "2"), ("3", "2", "3")],
)
def test_which_version_answers_the_client_says_or_else_the_operator(
    asked: str, told: str, answers: str, inside: Inside, client: Client
) -> None:
    inside.also_serve(version="3", digest=bytes(32))
    raw, ticket = client.seal_job(tensors(version=asked), version=asked)
    found = inside.answers.open(raw, told)
    assert found.model.version == answers
    assert read(found).inputs["x"].tolist() == [[1, 1, 1]]
    (one,) = inside.answers.finish([Answer(1, found, response=b"")])
    message = opened(ticket, one.response)
    assert receipt.verify(message.receipt, inside.keys.receipt_public).model_version == answers


def test_a_version_that_is_named_and_not_here_is_not_answered_by_another(inside: Inside, client: Client) -> None:
    raw, _ = client.seal_job(tensors(version="7"), version="7")
    with pytest.raises(NotFound):
        inside.answers.open(raw, "2")


def test_only_the_digest_answers_that_is_named(inside: Inside, client: Client) -> None:
    inside.also_serve(version="3", digest=bytes(32))
    raw, _ = client.seal_job(digest=DIGEST)
    assert inside.answers.open(raw, "2").model.version == "2"
    for told in ("3", "", "9"):
        with pytest.raises(NotReady) as raised:
            inside.answers.open(raw, told)
        assert raised.value.reason == "model.changed"


def test_a_version_whose_own_lease_brought_no_key_of_the_epoch_does_not_answer(inside: Inside, client: Client) -> None:
    """The epoch's policy may demand a higher version than the one of today."""
    inside.also_serve(version="1", job_epochs=JobEpochs())
    raw, _ = client.seal_job()
    assert inside.answers.open(raw, "2").model.version == "2"
    with pytest.raises(NotReady) as raised:
        inside.answers.open(raw, "1")
    assert raised.value.reason == "epoch.unknown"


def test_what_is_not_about_the_content_goes_to_the_gateway(inside: Inside, client: Client) -> None:
    late, _ = client.seal_job(life_s=-1)
    assert outer(inside, late) == "request.expired"
    raw, _ = client.seal_job()
    found = inside.answers.open(raw)
    for error in (TimeoutError(), NotReady("gone"), RuntimeError("contents of a request")):
        (one,) = inside.answers.finish([Answer(1, found, error=error)])
        assert one.WhichOneof("outcome") == "failure"
        assert "contents" not in one.failure.message
    inside.model.job_epochs.drop_ended(NEVER_MS)
    assert outer(inside, raw) == "epoch.unknown"


@pytest.mark.parametrize("change", ["model", "version", "workers", "seal"])
def test_an_envelope_that_says_something_else_is_refused(change: str, inside: Inside, client: Client) -> None:
    raw, _ = client.seal_job()
    carried = ModelInferRequest.FromString(raw)
    if change == "model":
        carried.model_name = "other"
    elif change == "version":
        carried.model_version = "2"
    elif change == "workers":
        carried.parameters[envelope.WORKERS_PARAMETER].string_param = inside.keys.instance
    else:
        carried.raw_input_contents[0] = carried.raw_input_contents[0][:-1]
    assert outer(inside, carried.SerializeToString()) == "seal.broken"
    assert result(inside, raw).WhichOneof("outcome") == "response"


def test_a_job_is_never_taken_for_a_request_that_is_sealed_to_us_nor_the_reverse(
    inside: Inside, client: Client
) -> None:
    job, _ = client.seal_job()
    request, _ = client.seal()
    for raw, kind in ((job, envelope.SEAL_VERSION), (request, envelope.JOB_VERSION)):
        carried = ModelInferRequest.FromString(raw)
        carried.parameters[envelope.SEAL_PARAMETER].string_param = kind
        assert outer(inside, carried.SerializeToString()) == "seal.broken"


def test_a_job_that_does_not_fit_the_model_fails_alone_and_sealed(inside: Inside, client: Client) -> None:
    wrong = tensors()
    wrong.inputs[0].name = "diagnosis"
    jobs = [client.seal_job(request) for request in (tensors(1.0), wrong, tensors(13), tensors(2.0))]
    results = inside.answers.finish([answered(inside, raw, number) for number, (raw, _) in enumerate(jobs)])
    messages = [opened(ticket, one.response) for (_, ticket), one in zip(jobs, results, strict=True)]
    assert [message.WhichOneof("outcome") for message in messages] == ["response", "failure", "failure", "response"]
    assert "no input 'diagnosis'" in messages[1].failure.message
    assert messages[2].failure.reason == "inference.failed"
    for message, one in zip(messages[1:3], results[1:3], strict=True):
        assert not message.HasField("receipt")
        assert not message.attestation_result
        assert b"diagnosis" not in one.response


@pytest.mark.attack("I04")
def test_no_answer_leaves_once_the_lease_has_ended(inside: Inside, client: Client) -> None:
    raw, _ = client.seal_job(life_s=7200)
    answer = answered(inside, raw)
    inside.counter.pass_s(3600)
    (one,) = inside.answers.finish([answer])
    assert (one.response, one.failure.reason) == (b"", "model.gone")


def test_whose_a_job_is_only_its_client_can_say(inside: Inside, client: Client) -> None:
    """Parties share no evaluation where tenants are kept apart, whatever a gateway says whose jobs they are."""

    def party(who: Client, tenant: str) -> bytes:
        found: Opened = inside.answers.open(who.seal_job()[0])
        return found.party(tenant)

    other = Client(inside)
    assert party(client, "a") == party(client, "b") != party(other, "a")
