"""Sealed requests on a stream: who is asked, what an answer proves and when, and what a gateway cannot do about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import numpy as np
import pytest

from cloister.api.oip.inference_pb2 import ModelInferResponse
from cloister.client import Client, verify_receipt
from cloister.errors import CloisterError, InvalidRequest, NotReady, Overloaded, SealBroken, Unavailable
from cloister.oip.tensors import encode_response
from cloister.seal import chunk_envelope, envelope
from fakes.serving import DIGEST, MODEL, FakeVerifier, FakeWorker
from fakes.streaming_gateway import StreamingGateway


def x(value: float = 1.0) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.array([[value, 2.0]], np.float32)}


def connected(gateway: StreamingGateway, verifier: FakeVerifier) -> AbstractAsyncContextManager[Client]:
    return Client.over(cast(Any, gateway), verifier.trust())


@asynccontextmanager
async def streaming(gateway: StreamingGateway, verifier: FakeVerifier) -> AsyncIterator[Client]:
    async with connected(gateway, verifier) as client, client.stream() as mesh:
        yield mesh


def chunks(gateway: StreamingGateway) -> int:
    """How many messages of conversations came by, ends included."""
    return sum(chunk_envelope.content(message) is not None for message in gateway.carried)


@pytest.fixture
def verifier() -> FakeVerifier:
    return FakeVerifier()


@pytest.fixture
def worker(verifier: FakeVerifier) -> FakeWorker:
    return FakeWorker(verifier)


@pytest.fixture
def gateway(worker: FakeWorker) -> StreamingGateway:
    return StreamingGateway(worker)


async def test_answers_have_their_receipts_when_the_stream_is_left(
    verifier: FakeVerifier, gateway: StreamingGateway
) -> None:
    async with streaming(gateway, verifier) as mesh:
        answers = [await mesh.infer(MODEL, x(value)) for value in range(5)]
        for answer in answers:
            with pytest.raises(NotReady) as raised:
                _ = answer.receipt
            assert raised.value.reason == "receipt.pending"
    assert chunks(gateway) == 6
    for value, answer in enumerate(answers):
        assert answer.receipt is not None
        kept = verify_receipt(answer.receipt, verifier.trust())
        np.testing.assert_array_equal(kept.inputs["x"], x(value)["x"])
        np.testing.assert_array_equal(kept.outputs["y"], x(value)["x"] * 2)
        assert kept.body.model_digest == DIGEST


async def test_conclude_gives_receipts_at_once_and_the_stream_goes_on(
    verifier: FakeVerifier, gateway: StreamingGateway
) -> None:
    async with streaming(gateway, verifier) as mesh:
        first = await mesh.infer(MODEL, x())
        await mesh.conclude()
        assert first.receipt is not None
        second = await mesh.infer(MODEL, x())
        await mesh.conclude()
        assert second.receipt is not None
        await mesh.conclude()
    assert first.receipt.receipt.signature != second.receipt.receipt.signature


async def test_the_envelope_that_went_can_be_looked_at(verifier: FakeVerifier, gateway: StreamingGateway) -> None:
    async with streaming(gateway, verifier) as mesh:
        answer = await mesh.infer(MODEL, x())
    assert answer.envelope in gateway.carried
    assert x()["x"].tobytes() not in answer.envelope.SerializeToString()


async def test_many_conversations_may_be_needed(verifier: FakeVerifier, gateway: StreamingGateway) -> None:
    gateway.workers[0].most_requests = 3
    async with connected(gateway, verifier) as client:
        answers = await client.infer_many(MODEL, (x(value) for value in range(20)), concurrency=4)
    assert [float(answer.outputs["y"][0, 0]) for answer in answers] == [2.0 * value for value in range(20)]
    assert all(answer.receipt is not None for answer in answers)


async def test_a_conversation_is_asked_for_a_while_and_then_ends_by_itself(
    verifier: FakeVerifier, gateway: StreamingGateway
) -> None:
    async with streaming(gateway, verifier) as mesh:
        first = await mesh.infer(MODEL, x())
        (party,) = cast(Any, mesh._carrier).conversations._parties.values()
        (asked,) = party.open.values()
        asked._asked_until_s = 0.0
        second = await mesh.infer(MODEL, x())
        async with asyncio.timeout(5):
            while not asked._sealed.complete:  # noqa: ASYNC110 - a task in the background
                await asyncio.sleep(0)
        assert first.receipt is not None
        with pytest.raises(NotReady):
            _ = second.receipt


async def test_workers_share_the_requests_of_a_stream(verifier: FakeVerifier) -> None:
    workers = [FakeWorker(verifier) for _ in range(3)]
    gateway = StreamingGateway(*workers)
    async with connected(gateway, verifier) as client:
        await client.infer_many(MODEL, [x()] * 90, concurrency=30)
    assert all(len(worker.seen) > 10 for worker in workers)


@pytest.mark.parametrize(
    "error",
    [
        NotReady("unknown", reason="conversation.unknown"),
        NotReady("another model", reason="model.changed"),
        Unavailable("gone"),
        Overloaded("full"),
    ],
)
async def test_what_may_pass_is_tried_again_and_nobody_notices(
    verifier: FakeVerifier, worker: FakeWorker, gateway: StreamingGateway, error: CloisterError
) -> None:
    async with streaming(gateway, verifier) as mesh:
        await mesh.infer(MODEL, x())
        worker.refuse = error
        answer = await mesh.infer(MODEL, x(3.0))
    np.testing.assert_array_equal(answer.outputs["y"], x(3.0)["x"] * 2)
    assert answer.receipt is not None


async def test_a_worker_that_lost_its_conversations_answers_in_another_and_what_it_had_not_signed_says_so(
    verifier: FakeVerifier, worker: FakeWorker, gateway: StreamingGateway
) -> None:
    async with streaming(gateway, verifier) as mesh:
        before = await mesh.infer(MODEL, x())
        worker.forget_sessions()
        after = await mesh.infer(MODEL, x())
    assert after.receipt is not None
    with pytest.raises(NotReady) as raised:
        _ = before.receipt
    assert raised.value.reason == "receipt.lost"


async def test_a_worker_that_has_gone_is_replaced(verifier: FakeVerifier) -> None:
    old, new = FakeWorker(verifier), FakeWorker(verifier)
    gateway = StreamingGateway(old)
    async with streaming(gateway, verifier) as mesh:
        await mesh.infer(MODEL, x())
        gateway.workers, old.refuse = [old, new], Unavailable("its link died")
        mesh._asker.roster.forget(MODEL, "")
        for _ in range(4):
            answer = await mesh.infer(MODEL, x())
        assert answer.outputs["y"][0, 0] == 2


async def test_where_workers_have_no_room_requests_are_sealed_one_by_one(
    verifier: FakeVerifier, worker: FakeWorker, gateway: StreamingGateway
) -> None:
    worker.full = True
    async with streaming(gateway, verifier) as mesh:
        answer = await mesh.infer(MODEL, x())
        assert answer.receipt is not None
    assert not chunks(gateway)


async def test_a_conversation_outlives_the_stream_that_it_began_on(
    verifier: FakeVerifier, gateway: StreamingGateway
) -> None:
    async with streaming(gateway, verifier) as mesh:
        before = await mesh.infer(MODEL, x())
        gateway.streams[0].break_off()
        await asyncio.sleep(0)
        after = await mesh.infer(MODEL, x())
    assert before.receipt is not None
    assert after.receipt is not None
    assert before.receipt.receipt.signature == after.receipt.receipt.signature


async def test_an_error_about_the_content_is_raised_and_the_conversation_goes_on(
    verifier: FakeVerifier, worker: FakeWorker, gateway: StreamingGateway
) -> None:
    async with streaming(gateway, verifier) as mesh:
        worker.error = InvalidRequest("tensor 'x' does not fit")
        with pytest.raises(InvalidRequest, match="tensor"):
            await mesh.infer(MODEL, x())
        worker.error = None
        answer = await mesh.infer(MODEL, x())
    assert answer.receipt is not None
    assert chunks(gateway) == 3


async def test_a_membership_renewed_since_is_fetched_for_the_receipts(
    verifier: FakeVerifier, worker: FakeWorker, gateway: StreamingGateway
) -> None:
    async with streaming(gateway, verifier) as mesh:
        await mesh.workers(MODEL)
        worker.renew()
        answer = await mesh.infer(MODEL, x())
    assert answer.worker is not None
    assert answer.worker.result.ear_id == worker.result.ear_id
    assert answer.receipt is not None
    verify_receipt(answer.receipt, verifier.trust())


def plain(_: ModelInferResponse) -> ModelInferResponse:
    return encode_response(MODEL, {"y": x()["x"] * 3}, version="1")


def flipped(response: ModelInferResponse) -> ModelInferResponse:
    content = bytearray(response.raw_output_contents[0])
    content[0] ^= 1
    response.raw_output_contents[0] = bytes(content)
    return response


def other_model(response: ModelInferResponse) -> ModelInferResponse:
    response.model_name = "other"
    return response


def other_id(response: ModelInferResponse) -> ModelInferResponse:
    response.id = "other"
    return response


def one_unknown_field(response: ModelInferResponse) -> ModelInferResponse:
    return ModelInferResponse.FromString(response.SerializeToString() + b"\xf8\x07\x01")


def unmarked(response: ModelInferResponse) -> ModelInferResponse:
    del response.parameters[envelope.SEAL_PARAMETER]
    return response


TOUCHES = [plain, flipped, other_model, other_id, one_unknown_field, unmarked]


@pytest.mark.attack("G11")
@pytest.mark.attack("G12")
@pytest.mark.parametrize("tamper", TOUCHES)
async def test_an_answer_that_was_touched_is_never_data(
    verifier: FakeVerifier, gateway: StreamingGateway, tamper: Any
) -> None:
    async with streaming(gateway, verifier) as mesh:
        before = await mesh.infer(MODEL, x())
        gateway.tamper = tamper
        with pytest.raises(SealBroken):
            await mesh.infer(MODEL, x())
        gateway.tamper = lambda response: response
        with pytest.raises(SealBroken):  # nothing of that conversation is believed any more
            _ = before.receipt
        after = await mesh.infer(MODEL, x())
        np.testing.assert_array_equal(after.outputs["y"], x()["x"] * 2)
    assert after.receipt is not None


@pytest.mark.attack("G11")
@pytest.mark.parametrize("tamper", TOUCHES)
async def test_an_opening_or_an_end_that_was_touched_is_told(
    verifier: FakeVerifier, gateway: StreamingGateway, tamper: Any
) -> None:
    gateway.tamper = tamper
    async with streaming(gateway, verifier) as mesh:
        with pytest.raises(SealBroken):
            await mesh.infer(MODEL, x())
    gateway.tamper = lambda response: response
    answers = []

    async def ask() -> None:
        async with streaming(gateway, verifier) as mesh:
            answers.append(await mesh.infer(MODEL, x()))
            gateway.tamper = tamper

    with pytest.raises(SealBroken):
        await ask()
    with pytest.raises(SealBroken):
        _ = answers[0].receipt


@pytest.mark.attack("J12")
async def test_an_end_that_another_key_signed_is_told(
    verifier: FakeVerifier, worker: FakeWorker, gateway: StreamingGateway
) -> None:
    other = FakeWorker(verifier)
    async with streaming(gateway, verifier) as mesh:
        answer = await mesh.infer(MODEL, x())
        fields = worker.evidence.__dataclass_fields__
        worker.evidence = type(worker.evidence)(
            **{name: getattr(other.evidence if name == "receipt_key" else worker.evidence, name) for name in fields}
        )
        with pytest.raises(SealBroken):
            await mesh.conclude()
        with pytest.raises(SealBroken):
            _ = answer.receipt


async def test_an_end_that_there_was_no_room_for_is_asked_for_again(
    verifier: FakeVerifier, worker: FakeWorker, gateway: StreamingGateway
) -> None:
    async with streaming(gateway, verifier) as mesh:
        answer = await mesh.infer(MODEL, x())
        worker.refuse = Overloaded("full")
    assert answer.receipt is not None
