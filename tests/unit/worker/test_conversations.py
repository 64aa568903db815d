"""Conversations in a worker: opened for a model that it serves, answered over its link, ended with its signature."""

import asyncio
import gc

import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.errors import CloisterError
from cloister.oip.tensors import decode_response
from cloister.seal import receipt
from cloister.seal.conversation_worker import WorkerConversation
from cloister.worker import conversations
from cloister.worker.results import Answer
from fakes.attested_worker import DIGEST, EAR_ID, POLICY, Client, Inside, tensors
from fakes.engines import FakeEngine
from fakes.gateway_end import linked
from fakes.opened_conversation import LIFE_S, Opening


def question(value=1.0, version="2"):
    return tensors(value, version=version).SerializeToString()


def replied(inside, raw):
    """What goes back for an opening or an end, or for what does not open."""
    try:
        answer = Answer(7, inside.answers.open(raw))
    except CloisterError as error:
        answer = Answer(7, error=error)
    (result,) = inside.answers.finish([answer])
    return result


def refused(inside, raw):
    result = replied(inside, raw)
    assert result.WhichOneof("outcome") == "failure"
    return result.failure.reason


@pytest.fixture
def inside():
    return Inside()


def begun(inside):
    opening = Opening(Client(inside))
    return opening.opened(replied(inside, opening.raw).response)


@pytest.mark.parametrize("inline", [True, False])
async def test_a_conversation_over_a_link(inline):
    inside = Inside(engine=FakeEngine(inline=inline))
    async with linked(inside, slots=16) as (gateway, _):
        opening = Opening(Client(inside))
        (call_id,) = gateway.send(opening.raw)
        conversation = opening.opened((await gateway.answered(call_id))[call_id].response)
        asked = [(question(value), *conversation.seal(question(value))) for value in range(9)]
        ids = gateway.send(*(raw for _, _, raw in asked))
        results = await gateway.answered(*ids)
        kept = []
        for number, (request, at, _) in enumerate(asked):
            kept.append((request, at, conversation.open(at, request, results[ids[number]].response)))
            found = decode_response(ModelInferResponse.FromString(kept[-1][2].response))
            assert found["sum"].tolist() == [3 * number]
        at, raw = conversation.close()
        (call_id,) = gateway.send(raw)
        end = (await gateway.answered(call_id))[call_id].response
        conversation.finish(at, end, inside.keys.receipt_public)
        for request, at, answered in kept:
            body = receipt.verify(conversation.receipt(at, request, answered), inside.keys.receipt_public)
            receipt.verify_content(body, request=request, response=answered.response)
            assert (body.model_digest, body.policy_digest, body.ear_id) == (DIGEST, POLICY, EAR_ID)


async def test_requests_of_a_conversation_share_evaluations_with_others_unless_parties_are_kept_apart():
    for apart, parties in ((False, 1), (True, 3)):
        inside = Inside()
        async with linked(inside, slots=16, tenants_apart=apart) as (gateway, _):
            chunks = [begun(inside).seal(question(value))[1] for value in (1, 2)]
            await gateway.answered(*gateway.send(*chunks, tensors(3.0).SerializeToString()))
            assert inside.engine.batches == [3]
            assert len(set(inside.engine.parties)) == parties


async def test_content_that_does_not_fit_is_told_sealed_and_the_conversation_goes_on(inside):
    async with linked(inside) as (gateway, _):
        conversation = begun(inside)
        for request, told in ((b"\xff", "not a ModelInferRequest"), (question(version="3"), "another model")):
            at, raw = conversation.seal(request)
            (call_id,) = gateway.send(raw)
            result = (await gateway.answered(call_id))[call_id]
            assert told.encode() not in result.response
            opened = conversation.open(at, request, result.response)
            assert told in opened.failure.message
        at, raw = conversation.seal(question(2.0))
        (call_id,) = gateway.send(raw)
        answer = (await gateway.answered(call_id))[call_id].response
        assert conversation.open(at, question(2.0), answer).response


@pytest.mark.attack("G11")
async def test_a_request_that_comes_again_is_answered_once_and_breaks_the_conversation(inside):
    async with linked(inside) as (gateway, _):
        conversation = begun(inside)
        _, raw = conversation.seal(question())
        ids = gateway.send(raw, raw)
        results = await gateway.answered(*ids)
        outcomes = sorted(results[call_id].WhichOneof("outcome") for call_id in ids)
        assert outcomes == ["failure", "failure"]  # also the first had not left yet, and leaves no more
        assert {results[call_id].failure.reason for call_id in ids} == {"request.replayed", "conversation.unknown"}


def test_a_model_that_is_served_no_longer_is_told_and_so_is_another_policy(inside):
    conversation = begun(inside)
    inside.also_serve(policy_digest=bytes(32))
    assert refused(inside, conversation.seal(question())[1]) == "model.changed"
    inside.served.drop(inside.model)
    assert refused(inside, conversation.seal(question())[1]) == "model.changed"


def test_a_conversation_ends_with_its_deadline(inside):
    conversation = begun(inside)
    inside.counter.pass_s(LIFE_S)
    assert refused(inside, conversation.seal(question())[1]) == "conversation.unknown"


@pytest.mark.attack("G16")
async def test_the_keys_of_a_conversation_that_nobody_ends_go_with_its_time(inside, monkeypatch):
    monkeypatch.setattr(conversations, "FORGET_S", 0.001)
    held, conversation = inside.answers.conversations, begun(inside)
    assert inside.answers.open(conversation.seal(question())[1]).sealed
    async with asyncio.TaskGroup() as group:
        forgetting = group.create_task(held.forgetting())
        inside.counter.pass_s(LIFE_S - 1)
        await asyncio.sleep(0.01)
        assert len(held) == 1
        inside.counter.pass_s(1)
        for _ in range(5000):
            await asyncio.sleep(0.001)
            if not len(held):
                break
        forgetting.cancel()
    gc.collect()
    alive = [each for each in gc.get_objects() if isinstance(each, WorkerConversation)]
    assert conversation._id not in [each.subject.conversation_id for each in alive]


def test_a_worker_that_began_anew_knows_none(inside):
    conversation = begun(inside)
    assert refused(Inside(keys=inside.keys), conversation.seal(question())[1]) == "conversation.unknown"


@pytest.mark.attack("G11")
def test_an_opening_that_comes_again_is_refused(inside):
    opening = Opening(Client(inside))
    assert replied(inside, opening.raw).response
    assert refused(inside, opening.raw) == "request.replayed"


@pytest.mark.parametrize("change", [{"life_s": 601.0}, {"life_s": -1.0}, {"version": ""}])
def test_an_opening_keeps_the_rules_of_sealed_requests_and_names_a_version(inside, change):
    reasons = ("request.too_long", "request.expired", "seal.broken")
    assert refused(inside, Opening(Client(inside), **change).raw) in reasons


@pytest.mark.attack("G12")
def test_a_chunk_that_is_said_to_be_plain_is_not_evaluated(inside):
    inside.also_serve(allow_plain=False)
    _, raw = begun(inside).seal(question())
    message = ModelInferRequest.FromString(raw)
    message.parameters.clear()
    assert refused(inside, message.SerializeToString()) == "model.sealed_only"
