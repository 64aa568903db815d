"""More of what a gateway with full power over the wire tries: what is sealed taken apart and put together anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister import Client
from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.gateway_pb2 import ListWorkersResponse
from cloister.api.v1.seal_pb2 import SealedRequest, SealedResponse
from cloister.client import Floors, TrustBundle
from cloister.errors import EvidenceRejected, InvalidRequest, SealBroken
from fakes.evil_gateway import INFER, WORKERS, Change, EvilGateway, from_cache, swapped
from fakes.running_mesh import MODEL, RunningMesh, inputs
from fakes.sim import good_evidence

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
X, Z = inputs(21), inputs(22)


@asynccontextmanager
async def asking(mesh: RunningMesh, evil: EvilGateway, trust: TrustBundle | None = None) -> AsyncIterator[Client]:
    """A client of the evil gateway with its own idea of whom to believe."""
    bundle = trust or TrustBundle.read(mesh.trust)
    async with Client.connect(evil.address, trust=bundle, identity=mesh.identity("client")) as client:
        yield client


def in_request(change: Callable[[bytes], bytes]) -> Change:
    """Change what is sealed in a request, and have its envelope fit."""

    def changed(message: bytes) -> bytes:
        envelope = ModelInferRequest.FromString(message)
        envelope.raw_input_contents[0] = change(envelope.raw_input_contents[0])
        envelope.inputs[0].shape[0] = len(envelope.raw_input_contents[0])
        return envelope.SerializeToString()

    return changed


def in_response(change: Callable[[bytes], bytes]) -> Change:
    """The same in an answer."""

    def changed(message: bytes) -> bytes:
        envelope = ModelInferResponse.FromString(message)
        envelope.raw_output_contents[0] = change(envelope.raw_output_contents[0])
        envelope.outputs[0].shape[0] = len(envelope.raw_output_contents[0])
        return envelope.SerializeToString()

    return changed


def reordered(raw: bytes) -> bytes:
    """Recipients the other way round."""
    message = SealedRequest.FromString(raw)
    turned = SealedRequest(header=message.header, ciphertext=message.ciphertext)
    turned.recipients.extend(reversed(message.recipients))
    return turned.SerializeToString()


def without_its_first_recipient(raw: bytes) -> bytes:
    message = SealedRequest.FromString(raw)
    del message.recipients[0]
    return message.SerializeToString()


def with_blocks_exchanged(raw: bytes) -> bytes:
    """Two AES blocks of the ciphertext change places."""
    return raw[:-64] + raw[-48:-32] + raw[-64:-48] + raw[-32:]


@pytest.mark.attack("G11")
@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw + raw[-32:],
        lambda raw: raw + raw,
        lambda raw: raw[:-100],
        lambda raw: b"",
        reordered,
        without_its_first_recipient,
        with_blocks_exchanged,
    ],
    ids=["lengthened", "doubled", "cut", "emptied", "reordered", "a recipient stripped", "blocks exchanged"],
)
async def test_a_request_taken_apart_is_not_answered(
    evil: EvilGateway, client: Client, truth: Truth, change: Callable[[bytes], bytes]
) -> None:
    evil.request[INFER] = in_request(change)
    with pytest.raises((SealBroken, InvalidRequest)):
        await client.infer(MODEL, {"x": X}, timeout_s=5)
    evil.honest()
    assert (await client.infer(MODEL, {"x": X})).outputs["y"].tobytes() == truth(X).tobytes()


@pytest.mark.attack("G11")
@pytest.mark.parametrize(
    "change",
    [lambda raw: raw + raw[-32:], lambda raw: raw + raw, lambda raw: b"", with_blocks_exchanged],
    ids=["lengthened", "doubled", "emptied", "blocks exchanged"],
)
async def test_an_answer_taken_apart_is_no_answer(
    evil: EvilGateway, client: Client, change: Callable[[bytes], bytes]
) -> None:
    evil.response[INFER] = in_response(change)
    with pytest.raises(SealBroken):
        await client.infer(MODEL, {"x": X})


@pytest.mark.attack("G12")
async def test_answers_that_change_places_are_no_answers(evil: EvilGateway, client: Client) -> None:
    await client.infer(MODEL, {"x": X})
    evil.act[INFER] = swapped()
    ended = await asyncio.gather(  # noqa: TID251 - both must end
        client.infer(MODEL, {"x": X}, timeout_s=10), client.infer(MODEL, {"x": Z}, timeout_s=10), return_exceptions=True
    )
    assert [type(each) for each in ended] == [SealBroken, SealBroken]


@pytest.mark.attack("G12")
async def test_an_answer_from_a_cache_is_no_answer_even_to_the_same_question(evil: EvilGateway, client: Client) -> None:
    await client.infer(MODEL, {"x": X})
    evil.act[INFER] = from_cache(evil.answers()[-1])
    with pytest.raises(SealBroken):
        await client.infer(MODEL, {"x": X})


@pytest.mark.attack("G12")
async def test_an_answer_under_another_workers_name_is_no_answer(
    evil: EvilGateway, client: Client, mesh: RunningMesh
) -> None:
    both = [worker["instance"] for worker in mesh.serving()]

    def renamed(raw: bytes) -> bytes:
        message = SealedResponse.FromString(raw)
        message.instance = both[1 - both.index(message.instance)]
        return message.SerializeToString()

    evil.response[INFER] = in_response(renamed)
    with pytest.raises(SealBroken):
        await client.infer(MODEL, {"x": X})


@pytest.mark.attack("G13")
async def test_the_gateways_own_simulator_is_no_worker(evil: EvilGateway, client: Client, mesh: RunningMesh) -> None:
    """It quotes its own keys on a platform of its own, and keeps the Attestation Result of a true worker."""

    def substituted(message: bytes) -> bytes:
        offered = ListWorkersResponse.FromString(message)
        for worker in offered.workers:
            own = good_evidence(instance=worker.instance, cluster=TrustBundle.read(mesh.trust).cluster)
            worker.bundle.evidence.claims, worker.bundle.evidence.quote = own.claims_bytes, own.quote
            worker.bundle.collateral = own.collateral
        return offered.SerializeToString()

    evil.response[WORKERS] = substituted
    with pytest.raises(EvidenceRejected):
        await client.infer(MODEL, {"x": X})
    assert evil.sent() == []


@pytest.mark.attack("G13")
@pytest.mark.parametrize("part", ["quote", "claims", "collateral", "result"])
async def test_one_part_of_another_workers_evidence_is_refused(evil: EvilGateway, client: Client, part: str) -> None:
    def mixed(message: bytes) -> bytes:
        offered = ListWorkersResponse.FromString(message)
        first, second = (worker.bundle for worker in offered.workers)
        if part == "result":
            second.attestation_result = first.attestation_result
        elif part == "collateral":
            second.collateral = first.collateral.replace(b"a", b"b")
        else:
            setattr(second.evidence, part, getattr(first.evidence, part))
        del offered.workers[0]
        return offered.SerializeToString()

    evil.response[WORKERS] = mixed
    with pytest.raises((EvidenceRejected, InvalidRequest)):
        await client.infer(MODEL, {"x": X})
    assert evil.sent() == []


@pytest.mark.attack("G14")
async def test_an_older_version_of_sealing_is_refused_at_either_end(evil: EvilGateway, client: Client) -> None:
    def older(message: bytes) -> bytes:
        return message.replace(b"\x02v1", b"\x02v0")

    evil.request[INFER] = older
    with pytest.raises(InvalidRequest):
        await client.infer(MODEL, {"x": X})
    evil.honest()
    evil.response[INFER] = older
    with pytest.raises(SealBroken):
        await client.infer(MODEL, {"x": X})


@pytest.mark.attack("G14")
async def test_workers_below_a_floor_are_refused_whatever_the_gateway_offers(
    evil: EvilGateway, mesh: RunningMesh
) -> None:
    trust = TrustBundle.read(mesh.trust)
    suite = replace(trust, floors=Floors(hpke_suites=frozenset({"x25519"})))
    async with asking(mesh, evil, suite) as client:
        with pytest.raises(EvidenceRejected, match="by 'xwing', below the floor") as refused:
            await client.infer(MODEL, {"x": X})
    assert refused.value.reason == "suite.below_floor"
    assert evil.sent() == []


@pytest.mark.attack("D05")
async def test_evidence_for_another_verifier_is_refused(evil: EvilGateway, mesh: RunningMesh) -> None:
    trust = TrustBundle.read(mesh.trust)
    other = replace(trust, verifier_id=trust.verifier_id + "-2", signers=None)
    async with asking(mesh, evil, other) as client:
        with pytest.raises(EvidenceRejected) as refused:
            await client.infer(MODEL, {"x": X})
    assert refused.value.reason == "token.issuer"


@pytest.mark.attack("I10")
async def test_what_the_gateway_sees_of_short_requests_is_one_length(evil: EvilGateway, client: Client) -> None:
    for rows in (1, 2, 5):
        await client.infer(MODEL, {"x": inputs(3, rows)})  # both workers answer, and sizes settle
    evil.seen.clear()
    for rows in (1, 2, 5):
        await client.infer(MODEL, {"x": inputs(3, rows)})
    sizes = [SealedRequest.FromString(ModelInferRequest.FromString(sent).raw_input_contents[0]) for sent in evil.sent()]
    assert len({len(sealed.ciphertext) for sealed in sizes}) == 1
