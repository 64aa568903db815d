"""Requests in, answers out: what is told to whom, and what a receipt says."""

import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import SealedRequest
from cloister.errors import CloisterError, NotAllowed, NotFound, NotReady, SealBroken
from cloister.oip.tensors import decode_response
from cloister.rpc import channel
from cloister.seal import envelope, receipt
from cloister.worker.batches import Item
from cloister.worker.epochs import KeyRotation
from cloister.worker.requests import read
from cloister.worker.results import Answer, respond
from cloister.worker.settings import MAX_MESSAGE_BYTES
from fakes.attested_worker import DIGEST, EAR_ID, POLICY, Client, Inside, opened, tensors


@pytest.fixture
def inside():
    return Inside()


@pytest.fixture
def client(inside):
    return Client(inside)


def evaluated(found, work):
    (outcome,) = found.model.engine.infer_now([Item(work.inputs, work.outputs)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def answered(inside, raw, call_id=7):
    """What the link does for one call, when everything is quick."""
    found = None
    try:
        found = inside.answers.open(raw)
        work = read(found)
        return respond(call_id, found, work, evaluated(found, work), inside.answers.max_message_bytes)
    except CloisterError as error:
        return Answer(call_id, found, error=error)


def result(inside, raw):
    (one,) = inside.answers.finish([answered(inside, raw)])
    assert one.call_id == 7
    return one


def test_plain(inside):
    found = ModelInferResponse.FromString(result(inside, tensors(2.0).SerializeToString()).response)
    assert (found.model_name, found.model_version, found.id) == ("iris", "2", "inner")
    arrays = decode_response(found)
    assert {name: array.tolist() for name, array in arrays.items()} == {"double": [[4, 4, 4]], "sum": [6]}


def test_sealed(inside, client):
    raw, pending = client.seal(tensors(2.0))
    carried = ModelInferResponse.FromString(result(inside, raw).response)
    assert (carried.model_name, carried.model_version, carried.id) == ("iris", "2", "outer")
    message = pending.open(envelope.sealed_response(carried))
    found = ModelInferResponse.FromString(message.response)
    assert found.id == "inner"
    assert decode_response(found)["sum"].tolist() == [6]


def test_a_receipt_says_what_was_answered_by_whom(inside, client):
    request = tensors(2.0)
    raw, pending = client.seal(request)
    message = opened(pending, result(inside, raw).response)
    body = receipt.verify(message.receipt, inside.keys.receipt_public)
    receipt.verify_content(body, request=request.SerializeToString(), response=message.response)
    said = (body.request_id, body.model_name, body.model_version, body.model_digest, body.policy_digest)
    assert said == (pending.request_id, "iris", "2", DIGEST, POLICY)
    assert (body.ear_id, body.instance) == (EAR_ID, inside.keys.instance)
    assert body.issued_at_ms == int(inside.clock.now().timestamp() * 1000)


def test_answers_of_a_frame_share_a_signature(inside, client):
    sealed = [client.seal(tensors(float(value))) for value in range(5)]
    answers = [answered(inside, raw, call_id) for call_id, (raw, _) in enumerate(sealed)]
    answers.insert(2, answered(inside, tensors().SerializeToString(), 90))
    answers.insert(4, Answer(91, error=NotFound("no such model")))
    results = inside.answers.finish(answers)
    assert [one.call_id for one in results] == [0, 1, 90, 2, 91, 3, 4]
    by_id = {one.call_id: one for one in results}
    messages = [opened(pending, by_id[call_id].response) for call_id, (_, pending) in enumerate(sealed)]
    assert len({message.receipt.signature for message in messages}) == 1
    for value, message in enumerate(messages):
        receipt.verify(message.receipt, inside.keys.receipt_public)
        assert decode_response(ModelInferResponse.FromString(message.response))["sum"].tolist() == [3 * value]


def test_requested_outputs_in_their_order(inside):
    for outputs in (("sum",), ("sum", "double"), ("double", "sum")):
        raw = tensors(outputs=outputs).SerializeToString()
        found = ModelInferResponse.FromString(result(inside, raw).response)
        assert tuple(output.name for output in found.outputs) == outputs


def outer(inside, raw):
    one = result(inside, raw)
    assert one.WhichOneof("outcome") == "failure"
    return one.failure


def test_outer_failures(inside, client):
    assert outer(inside, b"\xff").error == "InvalidRequest"
    assert outer(inside, tensors(model="other").SerializeToString()).error == "NotFound"
    assert outer(inside, tensors(version="3").SerializeToString()).error == "NotFound"
    raw, _ = client.seal(digest=bytes(32))
    assert outer(inside, raw).reason == "model.changed"
    raw, _ = client.seal(life_s=-1)
    assert outer(inside, raw).reason == "request.expired"


def test_anything_wrong_with_the_seal_is_one_message(inside, client):
    raw, _ = client.seal()
    carried = ModelInferRequest.FromString(raw)
    whole = carried.raw_input_contents[0]
    said = set()
    for at in (len(whole) - 1, len(whole) - 40, len(whole) // 2):
        broken = bytearray(whole)
        broken[at] ^= 1
        carried.raw_input_contents[0] = bytes(broken)
        failure = outer(inside, carried.SerializeToString())
        said.add((failure.error, failure.message))
    assert said == {("SealBroken", str(SealBroken()))}
    assert result(inside, raw).WhichOneof("outcome") == "response"


def test_a_replay_is_refused(inside, client):
    raw, _ = client.seal()
    assert result(inside, raw).WhichOneof("outcome") == "response"
    assert outer(inside, raw).reason == "request.replayed"


def test_a_session_that_this_worker_does_not_know(inside, client):
    raw, pending = client.seal()
    opened(pending, result(inside, raw).response)
    raw, _ = client.seal()  # the opening no longer travels
    message = SealedRequest.FromString(ModelInferRequest.FromString(raw).raw_input_contents[0])
    assert not any(recipient.opening for recipient in message.recipients)
    restarted = Inside(keys=inside.keys)
    assert outer(restarted, raw).reason == "session.unknown"


def test_sealed_only(inside, client):
    inside.also_serve(allow_plain=False)
    failure = outer(inside, tensors().SerializeToString())
    assert (failure.error, failure.reason) == (NotAllowed.__name__, "model.sealed_only")
    raw, _ = client.seal()
    assert result(inside, raw).WhichOneof("outcome") == "response"


def test_a_sealed_envelope_of_another_version_is_not_taken_for_plain(inside):
    request = tensors()
    request.parameters["cloister-seal"].string_param = "v0"
    assert outer(inside, request.SerializeToString()).reason == "seal.version_unknown"
    request.parameters["cloister-seal"].string_param = "v1"
    assert outer(inside, request.SerializeToString()).error == "SealBroken"


def inner(inside, client, request, **named):
    raw, pending = client.seal(request, **named)
    one = result(inside, raw)
    assert one.WhichOneof("outcome") == "response"
    assert b"tensor" not in one.response
    message = opened(pending, one.response)
    assert message.WhichOneof("outcome") == "failure"
    assert not message.HasField("receipt")
    return message.failure


def test_errors_about_the_content_are_sealed(inside, client):
    wrong = tensors()
    wrong.inputs[0].name = "diagnosis"
    assert "no input 'diagnosis'" in inner(inside, client, wrong).message
    wrong = tensors()
    wrong.inputs[0].shape[:] = [1 << 40, 3]
    assert "tensor 'x'" in inner(inside, client, wrong).message
    assert inner(inside, client, tensors(13)).reason == "inference.failed"
    assert "no output 'q'" in inner(inside, client, tensors(outputs=("q",))).message


def test_the_request_inside_must_be_for_the_model_it_was_sealed_for(inside, client):
    assert "another model" in inner(inside, client, tensors(model="other")).message
    assert "another model" in inner(inside, client, tensors(version="1")).message
    assert "another model" in inner(inside, client, tensors(), version="2").message


def test_errors_that_are_not_about_the_content_are_not_sealed(inside, client):
    raw, _ = client.seal()
    found = inside.answers.open(raw)
    for error in (TimeoutError(), NotReady("gone"), RuntimeError("contents of a request")):
        (one,) = inside.answers.finish([Answer(1, found, error=error)])
        assert one.WhichOneof("outcome") == "failure"
        assert "contents" not in one.failure.message


def test_nothing_about_contents_in_reprs(inside, client):
    raw, _ = client.seal(tensors(identifier="canary"))
    answer = answered(inside, raw)
    work = read(answer.opened)
    for shown in (repr(answer), repr(answer.opened), str(answer)):
        assert "canary" not in shown
    assert "float32" not in repr(work)


@pytest.mark.attack("G21")
def test_an_answer_larger_than_a_message(inside):
    request = tensors(rows=100).SerializeToString()
    size_bytes = len(result(inside, request).response)
    assert size_bytes > len(request)
    inside.answers.max_message_bytes = size_bytes
    assert result(inside, request).response
    for most_bytes in (size_bytes - 1, len(request)):
        inside.answers.max_message_bytes = most_bytes
        assert outer(inside, request).reason == "response.too_large"


def test_the_largest_answer_fits_its_link_sealed(inside, client):
    """What sealing adds stays below a hundredth, so 64 MiB stay below the 65 of a frame."""
    request = tensors(rows=100_000)
    sealed, pending = client.seal(request)
    carried = result(inside, sealed).response
    inner = opened(pending, carried).response
    assert len(inner) > 1_600_000
    assert 0 < len(carried) - len(inner) < len(inner) / 100
    assert MAX_MESSAGE_BYTES * 1.01 < channel.MAX_MESSAGE_BYTES


@pytest.mark.attack("G21")
def test_a_request_larger_than_the_worker_takes(inside, client):
    plain, (sealed, _) = tensors(rows=100).SerializeToString(), client.seal(tensors(rows=100))
    for raw in (plain, sealed):
        inside.answers.max_message_bytes = len(raw) - 1
        assert outer(inside, raw).reason == "message.too_large"
        inside.answers.max_message_bytes = 64 << 20
        assert result(inside, raw).response


def test_a_lease_that_has_ended_ends_here_too(inside, client):
    raw, _ = client.seal()
    inside.counter.pass_s(3601)
    with pytest.raises(CloisterError):
        inside.answers.open(raw)
    with pytest.raises(NotFound):
        inside.answers.open(tensors().SerializeToString())


@pytest.mark.attack("I04")
@pytest.mark.parametrize("sealed", [False, True])
def test_nothing_leaves_after_a_pause_in_which_the_lease_ended(inside, client, sealed):
    """The whole process was stopped between the evaluation and the answer, for longer than the lease."""
    raw = client.seal(tensors(2.0))[0] if sealed else tensors(2.0).SerializeToString()
    answer = answered(inside, raw)
    assert answer.response is not None
    inside.counter.pass_s(3600)
    (one,) = inside.answers.finish([answer])
    assert (one.response, one.failure.reason) == (b"", "model.gone")


@pytest.mark.attack("I04")
def test_a_lease_that_was_renewed_meanwhile_is_the_one_that_counts(inside):
    answer = answered(inside, tensors(2.0).SerializeToString())
    inside.also_serve(ends_at_s=inside.model.ends_at_s + 3600)
    inside.counter.pass_s(3600)
    (one,) = inside.answers.finish([answer])
    assert one.response


@pytest.mark.attack("I04")
def test_after_a_pause_a_key_whose_time_is_up_opens_nothing_though_its_timer_is_late(inside, client):
    counter_s = inside.clock.counter_s
    rotation = KeyRotation(inside.hpke, inside.sessions.epochs, overlap_s=60, counter_s=counter_s)
    inside.answers = inside.made(drop_ended=rotation.drop_ended)
    rotation.attested(inside.hpke, EAR_ID, 3600)
    inside.counter.pass_s(61)
    rotation.attested(rotation.offered(), "next", 3600)
    raw, _ = client.seal(life_s=300)
    inside.counter.pass_s(59)
    assert inside.answers.open(raw).sealed is not None
    late, _ = client.seal(life_s=300)
    inside.counter.pass_s(2)
    with pytest.raises(SealBroken):
        inside.answers.open(late)


@pytest.mark.attack("E11")
def test_nothing_leaves_once_the_model_is_dropped(inside):
    answer = answered(inside, tensors(2.0).SerializeToString())
    inside.served.drop(inside.model)
    (one,) = inside.answers.finish([answer])
    assert (one.response, one.failure.reason) == (b"", "model.gone")
