"""Every call of the verifier over real mutual TLS: the walk of a worker, and each way it must fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Evidence, Expected, appraise
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.ear import KeySet, SigningKey, check
from cloister.errors import (
    ChallengeExpired,
    EvidenceRejected,
    InvalidRequest,
    NotAllowed,
    NotReady,
    Unauthenticated,
    Unavailable,
)
from cloister.rpc.channel import Peer
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.running_services import CALL_S, Running, WireWorker, running_verifier, verifier_settings

JOINED, RENEWED = pb.AttestedEvent.KIND_JOINED, pb.AttestedEvent.KIND_RENEWED
GONE, CURRENT = pb.AttestedEvent.KIND_GONE, pb.AttestedEvent.KIND_CURRENT


def stub_of(peer: Peer) -> Any:
    return peer.stub(VerifierStub)


def watched(peer: Peer) -> AsyncIterator[pb.AttestedEvent]:
    return aiter(stub_of(peer).WatchAttested(pb.WatchAttestedRequest(), timeout=CALL_S))


async def joined(verifier: Running, worker: WireWorker) -> pb.AppraiseResponse:
    async with verifier.as_role("enrol") as enrol:
        return await worker.appraised(enrol)


async def records(verifier: Running, after: int = 0) -> list[dict[str, Any]]:
    async with verifier.as_role("auditor") as auditor:
        request = pb.ListAppraisalsRequest(after_sequence=after)
        return [json.loads(entry.record) async for entry in stub_of(auditor).ListAppraisals(request, timeout=CALL_S)]


async def test_a_worker_joins_and_then_attests_for_a_key(verifier: Running, worker: WireWorker) -> None:
    mesh = await joined(verifier, worker)
    async with verifier.peer(worker.identity(mesh.certificate_chain)) as member:
        release = await worker.appraised(member, pb.PURPOSE_KEY_RELEASE)
        keys = KeySet.from_jwks((await stub_of(member).GetKeys(pb.GetKeysRequest(), timeout=CALL_S)).jwks)
    for answer, audience, life in ((mesh, "mesh", 3600), (release, "provisioner", 300)):
        result = check(
            answer.attestation_result,
            keys,
            issuer=f"spiffe://{worker.pki.cluster}/verifier/one",
            audience=audience,
            now=datetime.now(UTC),
            max_life=timedelta(seconds=life),
        )
        assert (result.instance, result.simulated) == (worker.instance, True)
        assert answer.expires_at_ms == result.expires_at.timestamp() * 1000
    assert mesh.certificate_chain.count(b"BEGIN CERTIFICATE") == 2
    assert release.certificate_chain == b""


async def test_a_watcher_can_judge_for_itself(verifier: Running, worker: WireWorker, platform: Platform) -> None:
    await joined(verifier, worker)
    async with verifier.as_role("gateway") as gateway:
        event = await anext(watched(gateway))
    member = event.worker
    assert (event.kind, member.instance, member.endpoint) == (JOINED, worker.instance, "127.0.0.1:9443")
    assert member.server_name == f"{worker.instance}.worker.{worker.pki.cluster}"
    assert member.simulated
    believed = appraise(
        Evidence(raw_quote=member.bundle.evidence.quote, claims_bytes=member.bundle.evidence.claims),
        Collateral.parse(member.bundle.collateral),
        Policy.default(),
        TrustAnchor("simulated", platform.root_der()),
        datetime.now(UTC),
        expect=Expected(tls_spki_sha256=member.tls_spki_sha256, cluster=worker.pki.cluster),
    )
    assert believed.claims.hpke_public == worker.hpke.public


async def test_watchers_hear_of_every_change(verifier: Running, worker: WireWorker) -> None:
    async with verifier.as_role("gateway") as gateway:
        events = watched(gateway)
        assert (await anext(events)).kind == CURRENT
        mesh = await joined(verifier, worker)
        assert (await anext(events)).kind == JOINED
        async with verifier.peer(worker.identity(mesh.certificate_chain)) as member:
            await worker.appraised(member)
            assert (await anext(events)).kind == RENEWED
            await stub_of(member).Leave(pb.LeaveRequest(), timeout=CALL_S)
        gone = await anext(events)
        assert (gone.kind, gone.reason, gone.worker.instance) == (GONE, "left", worker.instance)


async def test_a_membership_ends_by_itself(
    tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> None:
    settings = replace(verifier_settings(tmp_path, pki, platform, signing_key), membership_s=1.0)
    async with running_verifier(settings, pki) as verifier, verifier.as_role("operator") as operator:
        events = watched(operator)
        await anext(events)
        await joined(verifier, WireWorker(pki, platform))
        assert (await anext(events)).kind == JOINED
        gone = await anext(events)
    assert (gone.kind, gone.reason) == (GONE, "expired")


async def test_a_rejected_worker_hears_one_sentence_and_the_record_has_the_rest(
    verifier: Running, worker: WireWorker, platform: Platform
) -> None:
    heard = []
    platform.debug = True
    with pytest.raises(EvidenceRejected) as refused:
        await joined(verifier, worker)
    heard.append(refused.value)
    platform.debug = False
    async with verifier.as_role("enrol") as enrol:
        with pytest.raises(EvidenceRejected) as refused:
            await worker.appraised(
                enrol, cluster="other.test", spiffe_id=f"spiffe://other.test/worker/{worker.instance}"
            )
    heard.append(refused.value)
    assert {(str(error), error.reason, error.step) for error in heard} == {
        ("the request was refused", "evidence.rejected", 0)
    }
    collateral, first, second = await records(verifier)
    assert collateral["event"] == "collateral.adopted"
    assert (first["step"], first["reason"]) == (7, "enclave.debug")
    assert (second["step"], second["reason"]) == (5, "claims.cluster_mismatched")
    await joined(verifier, worker)
    (third,) = await records(verifier, after=3)
    assert (third["event"], third["instance"]) == ("evidence.accepted", worker.instance)


async def test_of_200_concurrent_answers_to_one_challenge_one_succeeds(verifier: Running, worker: WireWorker) -> None:
    async with verifier.as_role("enrol") as enrol:
        stub = stub_of(enrol)
        request = worker.answer(await worker.challenge(stub, pb.PURPOSE_MESH))

        async def answer() -> bool:
            try:
                await stub.Appraise(request, timeout=CALL_S)
            except ChallengeExpired:
                return False
            return True

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer()) for _ in range(200)]
    assert sum(task.result() for task in tasks) == 1


async def test_a_restart_voids_challenges_and_keeps_the_record(
    tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> None:
    settings = verifier_settings(tmp_path, pki, platform, signing_key)
    worker = WireWorker(pki, platform)
    async with running_verifier(settings, pki) as verifier, verifier.as_role("enrol") as enrol:
        await worker.appraised(enrol)
        challenge = await worker.challenge(stub_of(enrol), pb.PURPOSE_MESH)
    async with running_verifier(settings, pki) as verifier:
        async with verifier.as_role("enrol") as enrol:
            with pytest.raises(ChallengeExpired):
                await stub_of(enrol).Appraise(worker.answer(challenge), timeout=CALL_S)
        kept = [entry["event"] for entry in await records(verifier) if entry["event"] != "collateral.adopted"]
        assert kept == ["evidence.accepted", "evidence.rejected"]


@pytest.mark.attack("D07")
async def test_a_worker_does_not_attest_for_another(verifier: Running, worker: WireWorker) -> None:
    mesh = await joined(verifier, worker)
    victim = WireWorker(worker.pki, worker.platform)
    await joined(verifier, victim)
    async with verifier.peer(worker.identity(mesh.certificate_chain)) as member:
        with pytest.raises(EvidenceRejected):
            await victim.appraised(member, pb.PURPOSE_KEY_RELEASE)
    assert (await records(verifier))[-1]["reason"] == "peer.other_key"


async def test_who_enrols_asks_for_the_mesh_only(verifier: Running, worker: WireWorker) -> None:
    async with verifier.as_role("enrol") as enrol:
        with pytest.raises(NotAllowed):
            await worker.challenge(stub_of(enrol), pb.PURPOSE_KEY_RELEASE)


_CALLS: dict[str, tuple[Any, set[str]]] = {
    "Challenge": (pb.ChallengeRequest(purpose=pb.PURPOSE_MESH, tls_spki_sha256=bytes(32)), {"enrol", "worker"}),
    "Appraise": (pb.AppraiseRequest(), {"enrol", "worker"}),
    "Leave": (pb.LeaveRequest(), {"worker"}),
    "WatchAttested": (pb.WatchAttestedRequest(), {"gateway", "operator"}),
    "ListAppraisals": (pb.ListAppraisalsRequest(), {"owner", "auditor", "operator"}),
    "ListRevocations": (pb.ListRevocationsRequest(), {"owner", "auditor", "operator"}),
    "Revoke": (pb.RevokeRequest(), {"operator"}),
    "LiftRevocation": (pb.LiftRevocationRequest(), {"operator"}),
    "WatchTrust": (pb.WatchTrustRequest(), {"gateway", "provisioner", "operator", "worker"}),
}
_STREAMS = ("WatchAttested", "ListAppraisals", "WatchTrust")
_ROLES = ("provisioner", "gateway", "worker", "enrol", "owner", "client", "operator", "auditor")


@pytest.mark.parametrize("role", _ROLES)
async def test_each_role_calls_what_it_may_and_nothing_else(verifier: Running, role: str) -> None:
    async with verifier.as_role(role, "ab" * 16 if role == "worker" else "main") as peer:
        for method, (request, allowed) in _CALLS.items():
            call = getattr(stub_of(peer), method)(request, timeout=CALL_S)
            try:
                await (call.read() if method in _STREAMS else call)
            except NotAllowed:
                assert role not in allowed, method
            except (ChallengeExpired, InvalidRequest):
                assert method in ("Appraise", "Revoke", "LiftRevocation")
                assert role in allowed
            else:
                assert role in allowed, method
        assert json.loads((await stub_of(peer).GetKeys(pb.GetKeysRequest(), timeout=CALL_S)).jwks)["keys"]


async def test_an_identity_of_another_cluster_is_nobody(verifier: Running, pki: MeshPki) -> None:
    stranger = pki.identity("enrol", "main", cluster="other.cloister.internal").held()
    async with verifier.peer(stranger) as peer:
        with pytest.raises(Unauthenticated):
            await stub_of(peer).GetKeys(pb.GetKeysRequest(), timeout=CALL_S)


@pytest.mark.parametrize(
    "request_",
    [
        pb.ChallengeRequest(tls_spki_sha256=bytes(32)),
        pb.ChallengeRequest(purpose=pb.PURPOSE_MESH, tls_spki_sha256=bytes(31)),
        pb.ChallengeRequest(purpose=99, tls_spki_sha256=bytes(32)),  # type: ignore[arg-type]  # a stranger's number
    ],
    ids=["no purpose", "short hash", "unknown purpose"],
)
async def test_a_challenge_for_nothing_is_refused(verifier: Running, request_: pb.ChallengeRequest) -> None:
    async with verifier.as_role("enrol") as enrol:
        with pytest.raises(InvalidRequest):
            await stub_of(enrol).Challenge(request_, timeout=CALL_S)


@pytest.mark.parametrize(
    "endpoint",
    ["unix:/run/x", "unix:443", "http://host:1", "host", "a:b:c:1", "host:99999999", "h\nx:1", "x" * 300 + ":1"],
)
async def test_an_endpoint_is_host_and_port(verifier: Running, worker: WireWorker, endpoint: str) -> None:
    async with verifier.as_role("enrol") as enrol:
        request = worker.answer(await worker.challenge(stub_of(enrol), pb.PURPOSE_MESH))
        request.endpoint = endpoint
        with pytest.raises(InvalidRequest):
            await stub_of(enrol).Appraise(request, timeout=CALL_S)


async def test_collateral_from_elsewhere_does_not_replace_what_is_in_force(
    verifier: Running, worker: WireWorker, platform: Platform
) -> None:
    mesh = await joined(verifier, worker)
    verifier.settings.collateral.write_bytes(Platform.generate(datetime.now(UTC)).collateral())
    async with verifier.peer(worker.identity(mesh.certificate_chain)) as member:
        await worker.appraised(member)


async def test_a_verifier_that_starts_with_expired_collateral_refuses_everyone(
    tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> None:
    platform.reissue(datetime.now(UTC) - timedelta(days=40))
    async with running_verifier(verifier_settings(tmp_path, pki, platform, signing_key), pki) as verifier:
        with pytest.raises(NotReady) as refused:
            await joined(verifier, WireWorker(pki, platform))
        assert refused.value.reason == "crl.expired"
        platform.reissue(datetime.now(UTC))
        verifier.settings.collateral.write_bytes(platform.collateral())
        await joined(verifier, WireWorker(pki, platform))


async def test_watches_end_at_once_when_the_verifier_stops(verifier: Running) -> None:
    async with verifier.as_role("gateway") as gateway, asyncio.TaskGroup() as group:
        events = watched(gateway)
        await anext(events)
        group.create_task(verifier.server.run())
        verifier.lifecycle.stop()
        async with asyncio.timeout(1.0):
            with pytest.raises(Unavailable):
                await anext(events)
