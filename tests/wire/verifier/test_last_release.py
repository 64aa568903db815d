"""Workers and gateways that speak the last release, and today's verifier."""

from __future__ import annotations

from typing import Any

from cloister import ear
from cloister.api.v1.verifier_pb2 import AttestedEvent, WatchAttestedRequest
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from fakes.pki import MeshPki
from fakes.released_wire import Then
from fakes.running_services import CALL_S, Running, WireWorker


async def test_its_workers_are_believed_and_its_gateways_hear_of_them(
    verifier: Running, worker: WireWorker, pki: MeshPki
) -> None:
    async with verifier.as_role("enrol") as enrol, verifier.as_role("gateway") as gateway:
        answer: Any = await worker.appraised(Then(enrol))
        assert answer.certificate_chain
        assert ear.key_named(answer.attestation_result)
        stub: Any = Then(gateway).stub(VerifierStub)
        events = aiter(stub.WatchAttested(WatchAttestedRequest(), timeout=CALL_S))
        joined, current = await anext(events), await anext(events)
        assert (joined.kind, joined.worker.instance) == (AttestedEvent.KIND_JOINED, worker.instance)
        assert current.kind == AttestedEvent.KIND_CURRENT
