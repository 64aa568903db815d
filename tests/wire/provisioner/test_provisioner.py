"""Every call of the provisioner over real mutual TLS, and what each caller is told when something is wrong."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.errors import (
    AlreadyExists,
    ChallengeExpired,
    InvalidRequest,
    KeyRefused,
    NotAllowed,
    NotFound,
    NotReady,
    SealBroken,
)
from cloister.provisioner.app import CALLS_OF_A_PEER
from cloister.rpc.channel import Peer
from cloister.seal.grant import EpochKey, grant_info, open_grant
from cloister.seal.hpke import XWING
from fakes.pki import MeshPki
from fakes.release_desk import DIGEST, MODEL_KEY
from fakes.results import MODEL, MRENCLAVE
from fakes.running_services import CALL_S, WireWorker, private_file, running_provisioner


def stub_of(peer: Peer) -> Any:
    return peer.stub(ProvisionerStub)


async def records(peer: Peer, **request: Any) -> list[dict[str, Any]]:
    stream = stub_of(peer).ListAudit(pb.ListAuditRequest(**request), timeout=CALL_S)
    return [json.loads(entry.record) async for entry in stream]


async def test_a_worker_gets_a_key_that_only_it_can_open(desk: Any) -> None:
    token = desk.token(ear_id="ear-1")
    async with desk.as_worker() as peer:
        answer = await desk.worker.released(peer, token, MODEL)
    info = grant_info(desk.pki.cluster, desk.worker.instance, DIGEST, 2, answer.lease_id, "ear-1")
    wanted: dict[str, Any] = {"model_name": MODEL, "model_version": 2, "model_digest": DIGEST}
    assert open_grant(answer.sealed_grant, desk.worker.hpke, info, **wanted).model_key == MODEL_KEY
    assert json.loads(answer.manifest.manifest)["name"] == MODEL
    with pytest.raises(SealBroken):
        open_grant(answer.sealed_grant, WireWorker(desk.pki, desk.worker.platform).hpke, info, **wanted)


async def test_job_keys_come_with_the_key_to_who_satisfies_the_policies_of_their_epochs(desk: Any) -> None:
    async def epochs(ear_id: str, **result: Any) -> list[EpochKey]:
        async with desk.as_worker() as peer:
            answer = await desk.worker.released(peer, desk.token(ear_id=ear_id, **result), MODEL)
        info = grant_info(desk.pki.cluster, desk.worker.instance, DIGEST, 2, answer.lease_id, ear_id)
        wanted: dict[str, Any] = {"model_name": MODEL, "model_version": 2, "model_digest": DIGEST}
        return [*open_grant(answer.sealed_grant, desk.worker.hpke, info, **wanted).epochs]

    (first,) = await epochs("ear-1")
    assert (first.epoch, first.suite, await epochs("ear-2")) == (1, XWING, [first])
    async with desk.owner() as owner:
        await desk.allow(owner, version=2, mrenclave=[MRENCLAVE, "e5" * 32])
        (second,) = await epochs("ear-3", mrenclave="e5" * 32, isvsvn=0)
        assert await epochs("ear-4") == [second, first]
        begun = [entry["epoch"] for entry in await records(owner) if entry["event"] == "epoch.begun"]
    assert begun == [1, 2]


@pytest.mark.attack("F02")
async def test_every_refusal_is_one_sentence_on_the_wire(desk: Any) -> None:
    other = WireWorker(desk.pki, desk.worker.platform)
    heard = []
    async with desk.as_worker() as peer:
        for token, model, changes in (
            (desk.token(), "unknown", {}),
            (desk.token(mrenclave="e5" * 32, isvsvn=0), MODEL, {}),
            (desk.token(simulated=True, hardware=96), MODEL, {}),
            (desk.token(audience="mesh"), MODEL, {}),
            ("no.such.token", MODEL, {}),
            (desk.token(other), MODEL, {}),
            (desk.token(), MODEL, {"proof": bytes(64)}),
        ):
            with pytest.raises(KeyRefused) as refused:
                await desk.worker.released(peer, token, model, **changes)
            heard.append((str(refused.value), refused.value.reason))
        await desk.worker.released(peer, desk.token(), MODEL)
    assert set(heard) == {("the request was refused", "key.refused")}
    async with desk.running.as_role("auditor") as auditor:
        reasons = [entry["reason"] for entry in await records(auditor) if entry["event"] == "key.refused"]
    assert reasons == [
        "model.unknown",
        "measurement.not_allowed",
        "hardware.simulated",
        "token.audience",
        "token.malformed",
        "peer.other",
        "proof.invalid",
    ]


@pytest.mark.attack("F01")
async def test_a_stolen_result_is_worth_nothing_over_another_key(desk: Any) -> None:
    thief = WireWorker(desk.pki, desk.worker.platform)
    async with desk.as_worker(thief) as peer:
        with pytest.raises(KeyRefused):
            await desk.worker.released(peer, desk.token(), MODEL)


async def test_of_all_uses_of_one_nonce_at_once_one_succeeds(desk: Any) -> None:
    async with desk.as_worker() as peer:
        challenge = await stub_of(peer).ChallengeRelease(pb.ChallengeReleaseRequest(), timeout=CALL_S)

        async def use(token: str) -> bool:
            try:
                await desk.worker.released(peer, token, MODEL, nonce=challenge.nonce)
            except ChallengeExpired:
                return False
            return True

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(use(desk.token())) for _ in range(CALLS_OF_A_PEER - 4)]
    assert sum(task.result() for task in tasks) == 1


async def test_a_result_serves_once(desk: Any) -> None:
    token = desk.token()
    async with desk.as_worker() as peer:
        await desk.worker.released(peer, token, MODEL)
        with pytest.raises(KeyRefused):
            await desk.worker.released(peer, token, MODEL)


@pytest.mark.attack("F04")
@pytest.mark.parametrize("name", ["", "../iris", "Iris", "iris\0", "a" * 4096, "ïris"])
async def test_names_that_are_none_are_refused_before_anything(desk: Any, name: str) -> None:
    async with desk.as_worker() as peer:
        with pytest.raises(InvalidRequest):
            await desk.worker.released(peer, desk.token(), name)
        with pytest.raises(InvalidRequest):
            await desk.worker.released(peer, desk.token(), MODEL, version=2**64 - 1)


async def test_an_owner_sees_its_own_models_and_overseers_see_all(desk: Any) -> None:
    async with desk.owner() as alice, desk.owner("bob") as bob, desk.running.as_role("operator") as operator:
        asked = [stub_of(peer).ListModels(pb.ListModelsRequest(), timeout=CALL_S) for peer in (alice, bob, operator)]
        models = [(await answer).models for answer in asked]
        assert [len(found) for found in models] == [1, 0, 1]
        assert MODEL_KEY.reveal() not in models[0][0].SerializeToString()
        assert (models[0][0].name, models[0][0].version, models[0][0].policy.version) == (MODEL, 2, 1)
        assert models[0][0].owner.endswith("/owner/alice")
        assert [entry["event"] for entry in await records(alice)] == ["model.registered", "policy.set"]
        assert await records(bob) == []
        with pytest.raises(NotAllowed):
            await records(operator)


async def test_the_record_is_told_from_a_number_on(desk: Any) -> None:
    async with desk.running.as_role("auditor") as auditor:
        assert [entry["sequence"] for entry in await records(auditor, after_sequence=2)] == [3]
        assert await records(auditor, model_name="other") == []


@pytest.mark.attack("F15")
async def test_what_an_owner_may_not_do(desk: Any) -> None:
    async with desk.owner() as alice, desk.owner("bob") as bob:
        with pytest.raises(AlreadyExists):
            await desk.register(bob, version=3)
        with pytest.raises(AlreadyExists):
            await desk.register(alice, version=2)
        with pytest.raises(NotFound):
            await desk.allow(bob, version=2)
        with pytest.raises(AlreadyExists):
            await desk.allow(alice, version=1)
        with pytest.raises(InvalidRequest):
            await desk.allow(alice, version=2, tcb_statuses=["Revoked"])
        desk.owner_key = Ed25519PrivateKey.generate()
        with pytest.raises(SealBroken):
            await desk.allow(alice, version=2)


_CALLS: dict[str, tuple[Any, set[str]]] = {
    "RegisterModel": (pb.RegisterModelRequest(), {"owner"}),
    "SetReleasePolicy": (pb.SetReleasePolicyRequest(), {"owner"}),
    "SetSigners": (pb.SetSignersRequest(), {"owner"}),
    "ListModels": (pb.ListModelsRequest(), {"owner", "operator", "auditor"}),
    "ChallengeRelease": (pb.ChallengeReleaseRequest(), {"worker"}),
    "ReleaseKey": (pb.ReleaseKeyRequest(), {"worker"}),
    "ListAudit": (pb.ListAuditRequest(), {"owner", "auditor"}),
    "GetCheckpoint": (pb.GetCheckpointRequest(), {"owner", "auditor", "operator"}),
    "ProveInclusion": (pb.ProveInclusionRequest(), {"owner", "auditor", "operator"}),
    "ProveConsistency": (pb.ProveConsistencyRequest(), {"owner", "auditor", "operator"}),
    "RotateRoot": (pb.RotateRootRequest(), {"operator"}),
    "GetVaultStatus": (pb.GetVaultStatusRequest(), {"operator", "auditor"}),
}


@pytest.mark.attack("F15")
@pytest.mark.parametrize("role", ["verifier", "gateway", "worker", "enrol", "owner", "client", "operator", "auditor"])
async def test_each_role_calls_what_it_may_and_nothing_else(desk: Any, role: str) -> None:
    async with desk.running.as_role(role, "ab" * 16 if role == "worker" else "main") as peer:
        for method, (request, allowed) in _CALLS.items():
            call = getattr(stub_of(peer), method)(request, timeout=CALL_S)
            try:
                await (call.read() if method == "ListAudit" else call)
            except NotAllowed:
                assert role not in allowed, method
            except (InvalidRequest, SealBroken, NotReady):
                assert role in allowed, method
            else:
                assert role in allowed, method


async def test_a_restart_keeps_models_and_voids_nonces(desk: Any) -> None:
    async with desk.as_worker() as peer:
        challenge = await stub_of(peer).ChallengeRelease(pb.ChallengeReleaseRequest(), timeout=CALL_S)
    async with running_provisioner(desk.running.settings, desk.pki) as again:
        desk.running = again
        async with desk.as_worker() as peer:
            with pytest.raises(ChallengeExpired):
                await desk.worker.released(peer, desk.token(), MODEL, nonce=challenge.nonce)
            await desk.worker.released(peer, desk.token(), MODEL)


async def test_a_result_that_was_used_serves_nobody_after_a_restart(desk: Any) -> None:
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=20)  # as is the verifier's clock
    token = desk.token(issued_at=ahead, expires_at=ahead + timedelta(minutes=5))
    async with desk.as_worker() as peer:
        await desk.worker.released(peer, token, MODEL)
    async with running_provisioner(desk.running.settings, desk.pki) as again:
        desk.running = again
        async with desk.as_worker() as peer:
            with pytest.raises(NotReady):
                await desk.worker.released(peer, token, MODEL)
        async with again.as_role("auditor") as auditor:
            assert (await records(auditor))[-1]["reason"] == "token.before_start"


async def test_another_root_key_is_refused_at_the_start(desk: Any, pki: MeshPki) -> None:
    private_file(desk.running.settings.vault.file.key_file, b"x" * 32)
    with pytest.raises(NotReady, match="the root key is not the one"):
        async with running_provisioner(desk.running.settings, pki):
            pass
