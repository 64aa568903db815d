"""A gateway with full power over the wire gets errors for its trouble, never a wrong answer."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister import Client
from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.gateway_pb2 import ListWorkersResponse
from cloister.api.v1.seal_pb2 import SealedRequest
from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest, SealBroken
from fakes.evil_gateway import INFER, WORKERS, EvilGateway
from fakes.running_mesh import MODEL, RunningMesh, inputs

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
X = inputs(11)


async def test_through_an_honest_gateway_all_is_well(client: Client, truth: Truth) -> None:
    assert (await client.infer(MODEL, {"x": X})).outputs["y"].tobytes() == truth(X).tobytes()


def flipped(message: bytes, position: int) -> bytes:
    changed = bytearray(message)
    changed[position] ^= 1 << (position % 8)
    return bytes(changed)


def positions(length: int, seed: int) -> list[int]:
    """Both ends in full, and a sample of what lies between."""
    ends = {*range(min(120, length)), *range(max(0, length - 120), length)}
    return sorted(ends | set(random.Random(seed).sample(range(length), min(160, length))))


@pytest.mark.attack("G11")
@pytest.mark.parametrize("direction", ["request", "response"])
async def test_no_changed_byte_goes_unnoticed(evil: EvilGateway, client: Client, truth: Truth, direction: str) -> None:
    await client.infer(MODEL, {"x": X})  # the sessions are known from here on, and sizes settled
    evil.seen.clear()
    await client.infer(MODEL, {"x": X})
    _, request, response = next(seen for seen in evil.seen if seen[0] == INFER)
    length = len(request if direction == "request" else response)
    unnoticed = []
    for position in positions(length, seed=5):
        changes = evil.request if direction == "request" else evil.response
        changes[INFER] = lambda message, at=position: flipped(message, min(at, len(message) - 1))
        try:
            answer = await client.infer(MODEL, {"x": X}, timeout_s=2)
        except (CloisterError, TimeoutError):
            continue
        assert answer.outputs["y"].tobytes() == truth(X).tobytes(), f"byte {position} changed the answer"
        unnoticed.append(position)
    assert not unnoticed


@pytest.mark.attack("G11")
@pytest.mark.parametrize("cut", [1, 16, 200])
async def test_cut_short(evil: EvilGateway, client: Client, cut: int) -> None:
    def shorten(message: bytes) -> bytes:
        envelope = ModelInferResponse.FromString(message)
        sealed = envelope.raw_output_contents[0][:-cut]
        envelope.raw_output_contents[0] = sealed
        envelope.outputs[0].shape[0] = len(sealed)
        return envelope.SerializeToString()

    evil.response[INFER] = shorten
    with pytest.raises(SealBroken):
        await client.infer(MODEL, {"x": X})


@pytest.mark.attack("G12")
async def test_an_answer_in_clear_is_no_answer_to_a_sealed_request(
    evil: EvilGateway, client: Client, truth: Truth
) -> None:
    plain = ModelInferResponse(model_name=MODEL, model_version="1", raw_output_contents=[truth(X).tobytes()])
    plain.outputs.add(name="y", datatype="FP32", shape=[1, 4])
    evil.response[INFER] = lambda _: plain.SerializeToString()
    with pytest.raises(SealBroken):
        await client.infer(MODEL, {"x": X})


@pytest.mark.attack("G12")
async def test_the_answer_to_another_request_is_refused(evil: EvilGateway, client: Client) -> None:
    await client.infer(MODEL, {"x": inputs(1)})
    old = next(response for method, _, response in evil.seen if method == INFER)
    evil.response[INFER] = lambda _: old
    with pytest.raises(SealBroken):
        await client.infer(MODEL, {"x": X})


@pytest.mark.attack("G16")
async def test_a_request_sent_twice_is_answered_once(evil: EvilGateway, client: Client, mesh: RunningMesh) -> None:
    await client.infer(MODEL, {"x": X})
    sent = next(request for method, request, _ in evil.seen if method == INFER)
    refused = 0
    for _ in range(len(mesh.serving())):  # each worker that can open it answers it at most once
        try:
            await evil.onward.unary_unary(INFER)(sent, timeout=10)
        except Exception:  # whatever status: it is not answered
            refused += 1
    assert refused >= 1
    with pytest.raises(Exception, match="could not be opened"):
        await evil.onward.unary_unary(INFER)(sent, timeout=10)


@pytest.mark.attack("G13")
@pytest.mark.attack("D03")
async def test_other_keys_in_place_of_the_workers(evil: EvilGateway, client: Client) -> None:
    def other_claims(message: bytes) -> bytes:
        offered = ListWorkersResponse.FromString(message)
        for worker in offered.workers:
            claims = bytearray(worker.bundle.evidence.claims)
            claims[claims.index(b"xwing") + 40] ^= 1  # inside the HPKE key
            worker.bundle.evidence.claims = bytes(claims)
        return offered.SerializeToString()

    evil.response[WORKERS] = other_claims
    with pytest.raises(EvidenceRejected):
        await client.infer(MODEL, {"x": X})


@pytest.mark.attack("G13")
async def test_one_workers_evidence_under_anothers_name(evil: EvilGateway, client: Client) -> None:
    def swapped(message: bytes) -> bytes:
        offered = ListWorkersResponse.FromString(message)
        first, second = offered.workers
        first.instance, second.instance = second.instance, first.instance
        return offered.SerializeToString()

    evil.response[WORKERS] = swapped
    with pytest.raises(EvidenceRejected):
        await client.infer(MODEL, {"x": X})


async def test_the_wrong_model_never_answers(evil: EvilGateway, client: Client) -> None:
    def other_digest(message: bytes) -> bytes:
        offered = ListWorkersResponse.FromString(message)
        for worker in offered.workers:
            worker.model_digest = bytes(32)
        return offered.SerializeToString()

    evil.response[WORKERS] = other_digest
    with pytest.raises(CloisterError):
        await client.infer(MODEL, {"x": X}, timeout_s=3)


async def test_the_gateway_sees_neither_tensor_names_nor_values(evil: EvilGateway, client: Client) -> None:
    x = np.frombuffer(b"CANARY-INSIDE-A-TENSOR-32-BYTES!", np.float32).reshape(1, 8)
    await client.infer(MODEL, {"x": x})
    sent = next(request for method, request, _ in evil.seen if method == INFER)
    envelope = ModelInferRequest.FromString(sent)
    SealedRequest.FromString(envelope.raw_input_contents[0])
    assert b"CANARY" not in sent
    assert envelope.model_name == MODEL
    assert [tensor.name for tensor in envelope.inputs] == ["cloister.sealed"]


@pytest.mark.attack("G12")
async def test_a_plain_request_that_claims_to_be_sealed_is_refused(client: Client, evil: EvilGateway) -> None:
    def stripped(message: bytes) -> bytes:
        envelope = ModelInferRequest.FromString(message)
        envelope.parameters.clear()
        return envelope.SerializeToString()

    evil.request[INFER] = stripped
    with pytest.raises((SealBroken, InvalidRequest)):
        await client.infer(MODEL, {"x": X})
