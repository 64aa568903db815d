"""The calls of recovery over real mutual TLS, while the root key is there: who may make them, and at which door."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from cloister import dsse
from cloister.api.v1 import recovery_pb2 as pb
from cloister.api.v1.recovery_pb2_grpc import RecoveryStub
from cloister.ear import SigningKey
from cloister.errors import InvalidRequest, NotAllowed, NotReady
from cloister.kit.recovery_cards import ORDER_TYPE, RecoveryCard, deal_order
from cloister.rpc.channel import Peer
from fakes.pki import MeshPki
from fakes.recovery_holders import holders
from fakes.running_services import CALL_S, provisioner_settings, running_provisioner

_CALLS: dict[str, tuple[Any, set[str]]] = {
    "DealRecovery": (pb.DealRecoveryRequest(), {"operator"}),
    "GetRecovery": (pb.GetRecoveryRequest(), {"owner", "operator", "auditor"}),
    "BeginRecovery": (pb.BeginRecoveryRequest(), {"owner", "operator"}),
    "ContributeShare": (pb.ContributeShareRequest(), {"owner"}),
}


def stub_of(peer: Peer) -> Any:
    return peer.stub(RecoveryStub)


@pytest.mark.parametrize("role", ["verifier", "gateway", "worker", "enrol", "owner", "client", "operator", "auditor"])
async def test_each_role_calls_what_it_may_and_nothing_else(desk: Any, role: str) -> None:
    async with desk.running.as_role(role, "ab" * 16 if role == "worker" else "main") as peer:
        for method, (request, allowed) in _CALLS.items():
            try:
                await getattr(stub_of(peer), method)(request, timeout=CALL_S)
            except NotAllowed:
                assert role not in allowed, method
            except (InvalidRequest, NotReady):
                assert role in allowed, method
            else:
                assert role in allowed, method


async def test_who_holds_shares_is_told_to_every_owner(desk: Any) -> None:
    two = holders("alice", "bob", cluster=desk.pki.cluster)
    async with desk.running.as_role("operator") as operator, desk.owner("carol") as carol:
        assert not (await stub_of(carol).GetRecovery(pb.GetRecoveryRequest(), timeout=CALL_S)).HasField("deal")
        read = [RecoveryCard.read(each.card, cluster=desk.pki.cluster) for each in two]
        order = dsse.sign(deal_order(desk.pki.cluster, 1, 2, read), ORDER_TYPE, [desk.owner_key])
        request = pb.DealRecoveryRequest(cards=[each.card for each in two], threshold=2, order=order)
        dealt = await stub_of(operator).DealRecovery(request, timeout=CALL_S)
        found = await stub_of(carol).GetRecovery(pb.GetRecoveryRequest(), timeout=CALL_S)
    assert (dealt.generation, dealt.secrets) == (1, 2)  # the log's key, and the model's
    assert [share.card for share in found.deal.shares] == [each.card for each in two]
    assert not found.root_lost


@pytest.mark.attack("F15")
async def test_recovery_is_at_the_owners_door_where_they_have_one(tmp_path: Path, pki: MeshPki) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    settings = provisioner_settings(tmp_path, pki, SigningKey.generate(), owner_listen=address)
    async with running_provisioner(settings, pki) as running, running.as_role("owner") as at_the_other:
        with pytest.raises(NotAllowed):
            await stub_of(at_the_other).GetRecovery(pb.GetRecoveryRequest(), timeout=CALL_S)
        async with Peer(address, pki.identity("owner", "main").held(), f"provisioner.{pki.cluster}") as owner:
            await stub_of(owner).GetRecovery(pb.GetRecoveryRequest(), timeout=CALL_S)
