"""Who signs for a model, and where its owner calls, over real mutual TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloister import dsse
from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.cli.ports import free_ports
from cloister.client import lift_withdrawal, withdraw, withdrawals
from cloister.client.owner import OwnerClient
from cloister.client.owner_documents import DocumentKind, OwnerDocument
from cloister.client.release_explaining import policy_listed
from cloister.client.release_terms import ReleaseTerms
from cloister.ear import SigningKey
from cloister.errors import AlreadyExists, InvalidRequest, NotAllowed
from cloister.kit.revocation import ORDER_TYPE
from cloister.kit.withdrawal import Withdrawn, lift_order
from cloister.rpc.channel import Peer
from fakes.pki import MeshPki
from fakes.results import MODEL, MRENCLAVE
from fakes.running_services import CALL_S, provisioner_settings, running_provisioner
from fakes.signer_sets import ALICE, BOB, CAROL, signed_set, signer_set

TERMS = ReleaseTerms(mrenclave=[MRENCLAVE], min_model_version=2)


async def test_an_owner_hands_a_model_to_others_who_then_decide(desk: Any) -> None:
    async with desk.owner() as peer:
        owner = OwnerClient(peer, desk.pki.cluster, desk.owner_key)
        signers = signer_set(1, 2, ALICE, BOB, CAROL, cluster=desk.pki.cluster)
        envelope = signed_set(signers, desk.owner_key, ALICE, BOB)
        await owner.apply(OwnerDocument(DocumentKind.SIGNER_SET, signers.document(), envelope))
        assert await owner.signers(MODEL) == signers
        with pytest.raises(InvalidRequest) as alone:
            await owner.allow(MODEL, mrenclave=[MRENCLAVE])
        assert alone.value.reason == "signature.insufficient"
        draft = OwnerDocument(
            DocumentKind.POLICY, (await owner.draft(MODEL, TERMS)).SerializeToString(deterministic=True)
        )
        await owner.apply(draft.signed(ALICE).signed(CAROL))
        with pytest.raises(AlreadyExists):
            await owner.apply(draft.signed(ALICE).signed(CAROL))
        (model,) = await owner.models()
        read = policy_listed(model)
    assert read is not None
    assert (read.version, read.signer_set, model.policy.signer_set) == (2, 1, 1)
    async with desk.as_worker() as worker:
        await desk.worker.released(worker, desk.token(), MODEL)


@pytest.mark.attack("J14")
async def test_who_signs_for_a_model_lifts_what_was_withdrawn_and_its_owner_alone_no_more(desk: Any) -> None:
    async with desk.owner() as peer, desk.as_worker() as worker:
        owner = OwnerClient(peer, desk.pki.cluster, desk.owner_key)
        signers = signer_set(1, 2, ALICE, BOB, CAROL, cluster=desk.pki.cluster)
        envelope = signed_set(signers, desk.owner_key, ALICE, BOB)
        await owner.apply(OwnerDocument(DocumentKind.SIGNER_SET, signers.document(), envelope))
        await withdraw(peer, Withdrawn(MODEL), "a drill")
        (found,) = await withdrawals(peer)
        order = lift_order(desk.pki.cluster, Withdrawn(MODEL), found.sequence, found.withdrawn_at_ms)
        for people in ([desk.owner_key], [desk.owner_key, ALICE]):
            with pytest.raises(NotAllowed):
                await lift_withdrawal(peer, Withdrawn(MODEL), "over", dsse.sign(order, ORDER_TYPE, people))
        await lift_withdrawal(peer, Withdrawn(MODEL), "over", dsse.sign(order, ORDER_TYPE, [BOB, CAROL]))
        await desk.worker.released(worker, desk.token(), MODEL)


@pytest.mark.attack("F15")
async def test_owners_and_workers_have_doors_of_their_own_where_the_settings_say_so(
    tmp_path: Path, pki: MeshPki
) -> None:
    (port,) = free_ports(1, first=34_000)
    settings = provisioner_settings(tmp_path, pki, SigningKey.generate(), owner_listen=f"127.0.0.1:{port}")
    list_models, challenge = pb.ListModelsRequest(), pb.ChallengeReleaseRequest()
    async with running_provisioner(settings, pki) as running:

        def at_owners_door(role: str, name: str = "main") -> Peer:
            return Peer(f"127.0.0.1:{port}", pki.identity(role, name).held(), f"provisioner.{pki.cluster}")

        async with running.as_role("owner") as owner, running.as_role("worker", "ab" * 16) as worker:
            with pytest.raises(NotAllowed):
                await _stub(owner).ListModels(list_models, timeout=CALL_S)
            await _stub(worker).ChallengeRelease(challenge, timeout=CALL_S)
        async with at_owners_door("owner") as owner, at_owners_door("worker", "ab" * 16) as worker:
            await _stub(owner).ListModels(list_models, timeout=CALL_S)
            with pytest.raises(NotAllowed):
                await _stub(worker).ChallengeRelease(challenge, timeout=CALL_S)


def _stub(peer: Peer) -> Any:
    return peer.stub(ProvisionerStub)
