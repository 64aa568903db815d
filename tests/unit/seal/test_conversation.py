"""Both halves of a conversation, and a gateway between them that may do what it likes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import ConversationTerms, OpenedResponse, ReceiptBody
from cloister.api.v1.worker_pb2 import Failure
from cloister.errors import NotReady, Overloaded, SealBroken
from cloister.oip.tensors import encode_response
from cloister.seal import chunk_envelope, receipt
from cloister.seal.conversation import TRAILER_BYTES, ReceiptBodies, nonce, place
from cloister.seal.conversation_worker import IDLE_S, WorkerConversations
from fakes.conversing import EAR_ID, ENDS_AT_S, Conversing
from fakes.sealed import DIGEST, flipped, unhurried

REQUEST = b"a request"


@pytest.mark.parametrize("padded", [True, False])
def test_requests_and_their_answers(padded: bool) -> None:
    both = Conversing(padded=padded)
    for request in (b"", b"r", bytes(70_000), *[b"%d" % number for number in range(30)]):
        _, opened = both.ask(request)
        assert opened.response == request[::-1]
    assert both.ours.sent == 33


def test_a_failure_is_content_too() -> None:
    both = Conversing()
    failure = OpenedResponse(failure=Failure(error="InvalidRequest", reason="request.invalid", message="tensor x"))
    at, raw = both.ours.seal(REQUEST)
    answer = both.theirs.seal(both.opened(raw), failure)
    assert b"tensor x" not in answer
    assert both.hear(at, REQUEST, answer) == failure


def test_where_lengths_are_hidden_all_small_chunks_are_alike() -> None:
    both = Conversing(padded=True)
    failure = OpenedResponse(failure=Failure(error="InvalidRequest", reason="request.invalid", message="tensor x"))
    sizes = set()
    for request in (b"", bytes(99), bytes(400)):
        _, raw = both.ours.seal(request)
        chunk = both.opened(raw)
        answer = both.theirs.answer(chunk, request, 1) if request else both.theirs.seal(chunk, failure)
        sizes.add((len(raw), len(answer)))
    _, close = both.ours.close()
    assert {(len(close), len(both.ended(close))), *sizes} == {sizes.pop()}


def test_what_is_not_padded_where_it_should_be_does_not_open() -> None:
    both = Conversing(padded=True)
    at = place(0)
    bare = both.ours._keys.request.encrypt(nonce(at), bytes(512), None)
    with pytest.raises(SealBroken):
        both.held.open(both.ours._requests.around(bare, both.subject.conversation_id + at), 0.0)


def test_an_envelope_is_an_ordinary_request_that_shows_nothing_but_where_it_goes() -> None:
    both = Conversing()
    _, raw = both.ours.seal(REQUEST)
    message = ModelInferRequest.FromString(raw)
    assert message.model_name == "resnet"
    assert {key: value.string_param for key, value in message.parameters.items()} == {
        "cloister-seal": "v1",
        "cloister-workers": both.worker.instance,
    }
    (tensor,) = message.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == (
        chunk_envelope.TENSOR,
        "UINT8",
        [len(message.raw_input_contents[0])],
    )
    assert REQUEST not in raw


@pytest.mark.parametrize("size", [0, 80, 100, 101, 16_300, 16_400, 300_000])
def test_an_envelope_that_a_proxy_wrote_anew_is_as_good(size: int) -> None:
    both = Conversing()
    _, raw = both.ours.seal(bytes(size))
    message = ModelInferRequest.FromString(raw)
    assert both.theirs.holds(raw) == message.raw_input_contents[0]
    name = ModelInferRequest(model_name="resnet").SerializeToString()
    assert raw.startswith(name)
    other = raw[len(name) :] + name
    assert both.held.open(other, 0.0) is None
    chunk = both.held.open_parsed(ModelInferRequest.FromString(other), 0.0)
    assert chunk is not None
    assert chunk.request == bytes(size)


def test_what_is_no_chunk_is_left_to_others() -> None:
    both = Conversing()
    _, raw = both.ours.seal(REQUEST)
    assert both.held.open(b"", 0.0) is None
    assert both.held.open(raw[-TRAILER_BYTES:], 0.0) is None
    assert both.held.open(b"x" + raw, 0.0) is None
    assert both.held.open_parsed(ModelInferRequest(), 0.0) is None


@unhurried
@pytest.mark.attack("G11")
@given(st.data())
def test_no_changed_bit_of_a_request_opens_and_the_conversation_ends(data: st.DataObject) -> None:
    both = Conversing()
    both.ask(b"before")
    _, raw = both.ours.seal(REQUEST)
    (chunk,) = ModelInferRequest.FromString(raw).raw_input_contents
    head = len(raw) - len(chunk)
    broken = flipped(raw, data.draw(st.integers(head * 8, len(raw) * 8 - 1)))

    def open_broken() -> None:
        assert both.held.open(broken, 0.0) is None  # it has another conversation's id
        both.held.open_parsed(ModelInferRequest.FromString(broken), 0.0)

    with pytest.raises((SealBroken, NotReady)) as raised:
        open_broken()
    if isinstance(raised.value, SealBroken):
        with pytest.raises(NotReady):  # also for what was not touched
            both.held.open_parsed(ModelInferRequest.FromString(raw), 0.0)


@pytest.mark.attack("G11")
@pytest.mark.parametrize(
    "change",
    [
        lambda message: message.raw_input_contents.__setitem__(0, message.raw_input_contents[0][1:]),
        lambda message: message.raw_input_contents.__setitem__(0, b"\0" + message.raw_input_contents[0]),
        lambda message: setattr(message, "model_name", "other"),
        lambda message: setattr(message, "model_version", ""),
        lambda message: setattr(message, "id", "x"),
        lambda message: message.parameters["cloister-workers"].__setattr__("string_param", "0" * 32),
        lambda message: message.parameters["more"].__setattr__("bool_param", True),
        lambda message: message.outputs.add(name="x"),
    ],
)
def test_nothing_in_clear_may_say_something_else(change: Callable[[ModelInferRequest], None]) -> None:
    both = Conversing()
    _, raw = both.ours.seal(REQUEST)
    message = ModelInferRequest.FromString(raw)
    change(message)
    assert both.held.open(message.SerializeToString(), 0.0) is None
    with pytest.raises(SealBroken):
        both.held.open_parsed(message, 0.0)


@unhurried
@pytest.mark.attack("G11")
@given(st.data())
def test_no_changed_bit_of_an_answer_opens_and_nothing_after_it_does(data: st.DataObject) -> None:
    both = Conversing()
    first, second = both.ours.seal(REQUEST), both.ours.seal(b"another")
    answers = [both.answer(raw) for _, raw in (first, second)]
    broken = flipped(answers[0], data.draw(st.integers(0, len(answers[0]) * 8 - 1)))
    with pytest.raises(SealBroken):
        both.hear(first[0], REQUEST, broken)
    with pytest.raises(SealBroken):
        both.hear(second[0], b"another", answers[1])
    assert both.ours.broken


@pytest.mark.attack("G11")
@pytest.mark.parametrize("cut", [1, 8, 24, 40])
def test_an_answer_cut_short_is_none(cut: int) -> None:
    both = Conversing()
    at, raw = both.ours.seal(REQUEST)
    answer = ModelInferResponse.FromString(both.answer(raw))
    shorter = answer.raw_output_contents[0][:-cut]
    answer.raw_output_contents[0] = shorter
    answer.outputs[0].shape[0] = len(shorter)
    with pytest.raises(SealBroken):
        both.hear(at, REQUEST, answer.SerializeToString())


@pytest.mark.attack("G11")
def test_a_request_that_comes_again_ends_the_conversation() -> None:
    both = Conversing()
    _, raw = both.ours.seal(REQUEST)
    both.answer(raw)
    with pytest.raises(SealBroken) as raised:
        both.held.open(raw, 0.0)
    assert raised.value.reason == "request.replayed"
    with pytest.raises(NotReady, match="conversation"):
        both.held.open_parsed(ModelInferRequest.FromString(both.ours.seal(REQUEST)[1]), 0.0)


@pytest.mark.attack("G11")
def test_requests_in_another_order_end_the_conversation() -> None:
    both = Conversing()
    (_, first), (_, second) = both.ours.seal(b"first"), both.ours.seal(b"second")
    both.answer(second)
    with pytest.raises(SealBroken):
        both.held.open(first, 0.0)


def test_what_a_gateway_refused_leaves_a_gap_and_the_rest_goes_on() -> None:
    both = Conversing()
    kept = [(b"before", *both.ask(b"before"))]
    both.ours.seal(b"refused")
    kept.append((b"after", *both.ask(b"after")))
    both.end()
    for request, at, opened in kept:
        receipt.verify_content(
            receipt.verify(both.ours.receipt(at, request, opened), both.receipt_public),
            request=request,
            response=opened.response,
        )


@pytest.mark.attack("G11")
def test_an_opening_that_comes_again_opens_nothing() -> None:
    both = Conversing()
    with pytest.raises(SealBroken) as raised:
        both.worker.open(both.opening)
    assert raised.value.reason == "request.replayed"
    with pytest.raises(SealBroken):
        both.held.add(both.theirs, 0.0)


@pytest.mark.attack("G12")
def test_answers_are_not_interchangeable() -> None:
    for number in (0, 1):
        both = Conversing()
        requests = (b"one", b"other")
        asked = [both.ours.seal(request) for request in requests]
        answers = [both.answer(raw) for _, raw in asked]
        with pytest.raises(SealBroken):
            both.hear(asked[number][0], requests[number], answers[1 - number])


@pytest.mark.attack("G12")
def test_an_answer_of_another_conversation_is_none() -> None:
    """Of the same client with the same worker, at the same place, and with its id written over."""
    worker = Conversing().worker
    one, other = Conversing(worker=worker), Conversing(worker=worker)
    at, raw = one.ours.seal(REQUEST)
    one.answer(raw)
    _, there = other.ours.seal(REQUEST)
    foreign = other.answer(there)
    written_over = foreign.replace(other.subject.conversation_id, one.subject.conversation_id)
    for answer in (foreign, written_over):
        with pytest.raises(SealBroken):
            one.hear(at, REQUEST, answer)
        one.ours.broken = False


@pytest.mark.attack("G12")
def test_an_old_answer_is_none() -> None:
    both = Conversing()
    at, raw = both.ours.seal(REQUEST)
    old = both.answer(raw)
    both.hear(at, REQUEST, old)
    later, _ = both.ours.seal(REQUEST)
    with pytest.raises(SealBroken):
        both.hear(later, REQUEST, old)


@pytest.mark.attack("G12")
def test_the_same_answer_twice_counts_once() -> None:
    both = Conversing()
    at, raw = both.ours.seal(REQUEST)
    answer = both.answer(raw)
    both.hear(at, REQUEST, answer)
    with pytest.raises(SealBroken):
        both.hear(at, REQUEST, answer)


@pytest.mark.attack("G12")
def test_an_answer_in_clear_is_none() -> None:
    both = Conversing()
    at, _ = both.ours.seal(REQUEST)
    plain = encode_response("resnet", {}, version="1")
    with pytest.raises(SealBroken):
        both.hear(at, REQUEST, plain.SerializeToString())


@pytest.mark.attack("G12")
def test_a_request_does_not_come_back_as_an_answer() -> None:
    """Directions have keys of their own."""
    both = Conversing()
    at, raw = both.ours.seal(OpenedResponse(response=b"x", issued_at_ms=1).SerializeToString())
    (chunk,) = ModelInferRequest.FromString(raw).raw_input_contents
    reflected = chunk_envelope.ChunkEnvelope.of_answers(both.subject).around(chunk, b"")
    with pytest.raises(SealBroken):
        both.hear(at, REQUEST, reflected)


def test_a_request_is_answered_once() -> None:
    both = Conversing()
    chunk = both.opened(both.ours.seal(REQUEST)[1])
    both.theirs.answer(chunk, b"x", 1)
    with pytest.raises(RuntimeError, match="once"):
        both.theirs.answer(chunk, b"x", 1)


def test_places_are_not_used_twice_and_have_room_for_the_last() -> None:
    both = Conversing(most_requests=2)
    both.ask(b"0")
    both.ask(b"1")
    with pytest.raises(RuntimeError):
        both.ours.seal(b"2")
    both.end()
    assert both.ours.complete


@pytest.mark.parametrize("most", [1, 2])
def test_a_worker_takes_no_more_than_it_said(most: int) -> None:
    both = Conversing(most_requests=most)
    both.ours.most_requests = 99
    for number in range(most):
        both.ask(b"%d" % number)
    with pytest.raises(SealBroken):
        both.ask(b"one more")


def test_nothing_opens_after_its_deadline() -> None:
    both = Conversing()
    _, raw = both.ours.seal(REQUEST)
    with pytest.raises(NotReady) as raised:
        both.held.open(raw, ENDS_AT_S)
    assert raised.value.reason == "conversation.unknown"
    assert not len(both.held)


def test_conversations_in_use_make_no_room_and_idle_ones_do() -> None:
    held = WorkerConversations(capacity=2)
    idle, used = Conversing(held=held), Conversing(held=held)
    with pytest.raises(Overloaded) as raised:
        Conversing(held=held)
    assert raised.value.reason == "conversations.full"
    used.now_s = IDLE_S
    used.ask(REQUEST)
    Conversing(held=held, now_s=IDLE_S + 1)
    assert len(held) == 2
    used.ask(REQUEST)
    _, raw = idle.ours.seal(REQUEST)
    assert held.open(raw, 0.0) is None


def test_receipt_bodies_are_deterministic_protobuf() -> None:
    both = Conversing()
    at, opened = both.ask(REQUEST)
    both.end()
    body = receipt.verify(both.ours.receipt(at, REQUEST, opened), both.receipt_public)
    assert (body.model_name, body.model_version, body.model_digest) == ("resnet", "1", DIGEST)
    assert (body.ear_id, body.instance, body.issued_at_ms) == (EAR_ID, both.worker.instance, 1)
    raw = both.ours.receipt(at, REQUEST, opened).body
    assert ReceiptBody.FromString(raw).SerializeToString(deterministic=True) == raw


def test_receipt_ids_differ_by_place_and_say_nothing_of_each_other() -> None:
    both = Conversing()
    bodies = ReceiptBodies(both.ours._keys, both.subject, ConversationTerms(policy_digest=bytes(32), ear_id=EAR_ID))
    made = [ReceiptBody.FromString(bodies.body(place(number), REQUEST, REQUEST, 1)) for number in range(9)]
    assert len({body.request_id for body in made}) == 9
    assert len({body.request_sha256 for body in made}) == 9
    assert all(one != two for one, two in pairwise(made))
