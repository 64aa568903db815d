"""Asking: who is asked, what is believed of the answer, and when it is asked again."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from cloister.api.oip.inference_pb2 import ModelInferResponse
from cloister.api.v1.seal_pb2 import SealedResponse
from cloister.client import Client, verify_receipt
from cloister.errors import (
    EvidenceRejected,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    SealBroken,
    Unauthenticated,
    Unavailable,
)
from cloister.oip.tensors import encode_response
from cloister.seal import envelope
from fakes.serving import DIGEST, MODEL, FakeGateway, FakeVerifier, FakeWorker

X = np.array([[1.0, 2.0]], np.float32)


def connected(gateway: FakeGateway, verifier: FakeVerifier, **trust: Any) -> Client:
    return Client(cast(Any, gateway), verifier.trust(**trust))


@pytest.fixture
def verifier() -> FakeVerifier:
    return FakeVerifier()


async def test_a_sealed_answer_comes_with_its_enclave_and_its_receipt(verifier: FakeVerifier) -> None:
    gateway = FakeGateway(FakeWorker(verifier), FakeWorker(verifier))
    client = connected(gateway, verifier)
    answer = await client.infer(MODEL, {"x": X})
    np.testing.assert_array_equal(answer.outputs["y"], X * 2)
    assert answer.worker is not None
    assert answer.worker.instance in {worker.instance for worker in gateway.workers}
    assert answer.receipt is not None
    kept = verify_receipt(answer.receipt, client.trust)
    np.testing.assert_array_equal(kept.inputs["x"], X)
    np.testing.assert_array_equal(kept.outputs["y"], X * 2)
    assert kept.body.model_digest == DIGEST


async def test_the_gateway_carries_nothing_it_could_read(verifier: FakeVerifier) -> None:
    gateway = FakeGateway(FakeWorker(verifier))
    answer = await connected(gateway, verifier).infer(MODEL, {"x": X})
    (carried,) = gateway.carried
    assert answer.envelope is carried
    assert X.tobytes() not in carried.SerializeToString()
    assert [tensor.name for tensor in carried.inputs] == [envelope.TENSOR]


async def test_evidence_is_fetched_and_judged_once(verifier: FakeVerifier) -> None:
    gateway = FakeGateway(FakeWorker(verifier))
    client = connected(gateway, verifier)
    for _ in range(3):
        await client.infer(MODEL, {"x": X})
    assert gateway.lists == 1


async def test_workers_that_are_not_believed_are_left_out(verifier: FakeVerifier) -> None:
    good, bad = FakeWorker(verifier), FakeWorker(FakeVerifier())
    client = connected(FakeGateway(bad, good), verifier)
    for _ in range(4):
        answer = await client.infer(MODEL, {"x": X})
        assert answer.worker is not None
        assert answer.worker.instance == good.instance
    serving = await client.workers(MODEL)
    assert [refused.instance for refused in serving.refused] == [bad.instance]
    assert bad.seen == []


async def test_nothing_is_sent_when_nobody_is_believed(verifier: FakeVerifier) -> None:
    gateway = FakeGateway(FakeWorker(FakeVerifier()))
    with pytest.raises(EvidenceRejected) as refused:
        await connected(gateway, verifier).infer(MODEL, {"x": X})
    assert refused.value.reason == "token.key_unknown"
    assert gateway.carried == []


async def test_nobody_to_ask_is_unavailable(verifier: FakeVerifier) -> None:
    with pytest.raises(Unavailable):
        await connected(FakeGateway(), verifier).infer(MODEL, {"x": X}, timeout_s=0.1)


async def test_the_highest_version_is_asked_unless_a_digest_says_otherwise(verifier: FakeVerifier) -> None:
    old, new = FakeWorker(verifier, version="9", digest=bytes(32)), FakeWorker(verifier, version="10")
    client = connected(FakeGateway(old, new), verifier)
    assert (await client.infer(MODEL, {"x": X})).model_version == "10"
    assert (await client.infer(MODEL, {"x": X}, digest=bytes(32))).model_version == "9"
    with pytest.raises(NotFound):
        await client.infer(MODEL, {"x": X}, digest=b"\1" * 32)


async def test_a_version_that_is_asked_for_answers_or_nobody_does(verifier: FakeVerifier) -> None:
    """Whatever the gateway lists: it was asked for version 2, and offers what it likes."""
    old, new = FakeWorker(verifier, version="1", digest=bytes(32)), FakeWorker(verifier, version="3")
    gateway = FakeGateway(old, new)
    client = connected(gateway, verifier)
    assert (await client.infer(MODEL, {"x": X}, version="1")).model_version == "1"
    assert (await client.infer(MODEL, {"x": X}, version="1", digest=bytes(32))).model_version == "1"
    asked = len(gateway.carried)
    for wanted in ({"version": "2"}, {"version": "2", "digest": DIGEST}, {"version": "1", "digest": DIGEST}):
        with pytest.raises(NotFound) as refused:
            await client.infer(MODEL, {"x": X}, **cast(Any, wanted))
        assert refused.value.reason == "model.unknown"
    assert len(gateway.carried) == asked


async def test_a_label_stands_for_what_the_mesh_lists_and_never_for_another_version_than_is_pinned(
    verifier: FakeVerifier,
) -> None:
    listed = FakeWorker(verifier, version="2")
    gateway = FakeGateway(listed)
    client = connected(gateway, verifier)
    for asked in ("stable", ""):
        assert (await client.infer(MODEL, {"x": X}, version=asked)).model_version == "2"
        assert (await client.infer(MODEL, {"x": X}, version=asked, digest=DIGEST)).model_version == "2"
        with pytest.raises(NotFound):
            await client.infer(MODEL, {"x": X}, version=asked, digest=bytes(32))
    with pytest.raises(NotFound):
        await client.infer(MODEL, {"x": X}, version="1")
    assert {carried.model_version for carried in gateway.carried} == {"2"}


async def test_two_models_of_one_version_are_not_mixed(verifier: FakeVerifier) -> None:
    one, other = FakeWorker(verifier, digest=bytes(32)), FakeWorker(verifier)
    client = connected(FakeGateway(one, other), verifier)
    for worker in (one, other):
        answer = await client.infer(MODEL, {"x": X}, version="1", digest=worker.digest)
        assert answer.worker is not None
        assert answer.worker.instance == worker.instance


@pytest.mark.parametrize(
    "error",
    [
        NotReady("no such session", reason="session.unknown"),
        NotReady("another model", reason="model.changed"),
        Unavailable("gone"),
        Overloaded("full"),
    ],
)
async def test_what_may_pass_is_tried_again(verifier: FakeVerifier, error: Any) -> None:
    worker = FakeWorker(verifier)
    gateway = FakeGateway(worker)
    client = connected(gateway, verifier)
    await client.infer(MODEL, {"x": X})
    worker.refuse = error
    answer = await client.infer(MODEL, {"x": X})
    np.testing.assert_array_equal(answer.outputs["y"], X * 2)


async def test_a_worker_that_has_forgotten_its_session_gets_a_new_one(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    client = connected(FakeGateway(worker), verifier)
    await client.infer(MODEL, {"x": X})
    worker.forget_sessions()
    await client.infer(MODEL, {"x": X})
    assert len(worker.seen) == 2


async def test_a_worker_that_was_replaced_is_found(verifier: FakeVerifier) -> None:
    old, new = FakeWorker(verifier), FakeWorker(verifier)
    gateway = FakeGateway(old)
    client = connected(gateway, verifier)
    await client.infer(MODEL, {"x": X})
    gateway.workers, old.refuse = [old, new], Unavailable("its link died")
    gateway.workers = [new]
    client._asker.roster.forget(MODEL, "")
    answer = await client.infer(MODEL, {"x": X})
    assert answer.worker is not None
    assert answer.worker.instance == new.instance


async def test_a_membership_renewed_while_serving_is_fetched_for_the_receipt(verifier: FakeVerifier) -> None:
    worker = FakeWorker(verifier)
    client = connected(FakeGateway(worker), verifier)
    await client.infer(MODEL, {"x": X})
    worker.renew()
    answer = await client.infer(MODEL, {"x": X})
    assert answer.worker is not None
    assert answer.worker.result.ear_id == worker.result.ear_id
    assert answer.receipt is not None
    verify_receipt(answer.receipt, client.trust)


@pytest.mark.parametrize(
    "error", [InvalidRequest("tensor 'x' does not fit"), NotFound("no such model"), NotReady("not yet")]
)
async def test_what_will_not_pass_is_raised_at_once(verifier: FakeVerifier, error: Any) -> None:
    worker = FakeWorker(verifier, error=error)
    gateway = FakeGateway(worker)
    with pytest.raises(type(error), match=str(error)):
        await connected(gateway, verifier).infer(MODEL, {"x": X})
    assert len(gateway.carried) == 1


def plain(_: ModelInferResponse) -> ModelInferResponse:
    return encode_response(MODEL, {"y": X * 3}, version="1")


def flipped(response: ModelInferResponse) -> ModelInferResponse:
    content = bytearray(response.raw_output_contents[0])
    content[-1] ^= 1
    response.raw_output_contents[0] = bytes(content)
    return response


def renamed(response: ModelInferResponse) -> ModelInferResponse:
    sealed = SealedResponse.FromString(response.raw_output_contents[0])
    sealed.instance = "0" * 32
    response.raw_output_contents[0] = sealed.SerializeToString()
    return response


def empty(response: ModelInferResponse) -> ModelInferResponse:
    response.raw_output_contents[0] = b""
    return response


def other_model(response: ModelInferResponse) -> ModelInferResponse:
    response.model_name = "other"
    return response


def other_id(response: ModelInferResponse) -> ModelInferResponse:
    response.id = "other"
    return response


def one_more_parameter(response: ModelInferResponse) -> ModelInferResponse:
    response.parameters["more"].bool_param = True
    return response


def one_unknown_field(response: ModelInferResponse) -> ModelInferResponse:
    return ModelInferResponse.FromString(response.SerializeToString() + b"\xf8\x07\x01")


@pytest.mark.parametrize(
    "tamper", [plain, flipped, renamed, empty, other_model, other_id, one_more_parameter, one_unknown_field]
)
async def test_an_answer_that_was_touched_is_never_data(verifier: FakeVerifier, tamper: Any) -> None:
    gateway = FakeGateway(FakeWorker(verifier))
    gateway.tamper = tamper
    with pytest.raises(SealBroken):
        await connected(gateway, verifier).infer(MODEL, {"x": X})
    assert len(gateway.carried) == 1


async def test_the_answer_to_another_request_is_refused(verifier: FakeVerifier) -> None:
    gateway = FakeGateway(FakeWorker(verifier))
    client = connected(gateway, verifier)
    first: list[ModelInferResponse] = []

    def replayed(response: ModelInferResponse) -> ModelInferResponse:
        first.append(response)
        return first[0]

    gateway.tamper = replayed
    await client.infer(MODEL, {"x": X})
    with pytest.raises(SealBroken):
        await client.infer(MODEL, {"x": X})


async def test_a_receipt_of_another_key_is_refused(verifier: FakeVerifier) -> None:
    worker, other = FakeWorker(verifier), FakeWorker(verifier)
    worker.evidence = type(worker.evidence)(
        **{
            name: getattr(other.evidence if name == "receipt_key" else worker.evidence, name)
            for name in worker.evidence.__dataclass_fields__
        }
    )
    with pytest.raises(SealBroken):
        await connected(FakeGateway(worker), verifier).infer(MODEL, {"x": X})


async def test_a_plain_request_is_plain_and_says_so(verifier: FakeVerifier) -> None:
    gateway = FakeGateway()
    client = connected(gateway, verifier)
    answer = await client.infer(MODEL, {"x": X}, sealed=False)
    np.testing.assert_array_equal(answer.outputs["y"], X * 2)
    assert answer.worker is None
    assert answer.receipt is None
    assert gateway.lists == 0
    with pytest.raises(InvalidRequest, match="digest"):
        await client.infer(MODEL, {"x": X}, sealed=False, digest=DIGEST)


async def test_the_deadline_is_kept(verifier: FakeVerifier) -> None:
    class Silent(FakeGateway):
        async def ModelInfer(self, request: Any, timeout: float) -> ModelInferResponse:  # noqa: ASYNC109
            async with asyncio.timeout(timeout):
                await asyncio.Event().wait()
            raise AssertionError("unreachable")

    client = connected(Silent(FakeWorker(verifier)), verifier)
    await client.workers(MODEL)
    with pytest.raises(TimeoutError):
        await client.infer(MODEL, {"x": X}, timeout_s=0.3)


async def test_a_client_has_a_deadline_of_its_own_for_calls_that_say_none(verifier: FakeVerifier) -> None:
    client = Client(cast(Any, FakeGateway()), verifier.trust(), timeout_s=0.05)
    with pytest.raises(Unavailable):
        await client.infer(MODEL, {"x": X})


async def test_a_model_that_nobody_knows_is_named(verifier: FakeVerifier) -> None:
    gateway = FakeGateway(FakeWorker(verifier))
    gateway.workers[0].refuse = NotFound("no such model")
    with pytest.raises(NotFound, match=f"no such model: '{MODEL}'; is the name right"):
        await connected(gateway, verifier).infer(MODEL, {"x": X})


async def test_asking_again_stops_where_it_is_in_vain(verifier: FakeVerifier) -> None:
    def expired() -> None:
        raise Unauthenticated("expired", reason="identity.expired")

    client = Client(cast(Any, FakeGateway()), verifier.trust(), check=expired)
    with pytest.raises(Unauthenticated):
        await client.infer(MODEL, {"x": X}, timeout_s=60)


async def test_what_was_asked_for_in_vain_is_named_with_its_version(verifier: FakeVerifier) -> None:
    gateway = FakeGateway(FakeWorker(verifier))
    gateway.workers[0].refuse = NotFound("no such model")
    with pytest.raises(NotFound, match=f"no such model: '{MODEL}' in version '1'; is the name right"):
        await connected(gateway, verifier).infer(MODEL, {"x": X}, version="1")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"inputs": X}, "give a dict, a NumPy array by name"), ({"digest": DIGEST.hex()}, "a digest is 32 bytes")],
)
async def test_arguments_of_another_type_are_told_what_they_should_be(
    verifier: FakeVerifier, options: Any, said: str
) -> None:
    gateway = FakeGateway(FakeWorker(verifier))
    with pytest.raises(InvalidRequest, match=said):
        await connected(gateway, verifier).infer(MODEL, **{"inputs": {"x": X}, **options})
    assert not gateway.carried
