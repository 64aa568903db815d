"""What an owner withdraws, and gives back with the signatures of as many as must (attack J14)."""

from __future__ import annotations

from typing import Any

from cloister.api.v1.provisioner_pb2 import (
    GetCheckpointRequest,
    LiftWithdrawalRequest,
    LiftWithdrawalResponse,
    ListWithdrawalsRequest,
    Withdrawal,
    WithdrawRequest,
    WithdrawResponse,
)
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.kit.log_origin import LogOrigin
from cloister.kit.withdrawal import Withdrawn, lift_order
from cloister.rpc.channel import Peer
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.note import SignedNote


async def withdraw(provisioner: Peer, what: Withdrawn, reason: str, timeout_s: float = 10.0) -> WithdrawResponse:
    """Have a model, or a version of it, served no longer; says how many leases went. Roles: owner, operator.

    Raises:
        NotFound: The caller has no such model.
        AlreadyExists: It is withdrawn already.
        CloisterError: As the call.
    """
    request = WithdrawRequest(model_name=what.name, model_version=what.version, reason=reason)
    answer: WithdrawResponse = await provisioner.stub(ProvisionerStub).Withdraw(request, timeout=timeout_s)
    return answer


async def lift_withdrawal(
    provisioner: Peer, what: Withdrawn, reason: str, order: bytes, timeout_s: float = 10.0
) -> LiftWithdrawalResponse:
    """Give it back, by an order that as many of the model's signers signed as must. Roles: owner, operator.

    Raises:
        NotAllowed: The order is not signed by as many, or is for another withdrawal (`withdrawal.lift_unsigned`).
        NotFound: It is not withdrawn.
        CloisterError: As the call.
    """
    request = LiftWithdrawalRequest(model_name=what.name, model_version=what.version, reason=reason, order=order)
    answer: LiftWithdrawalResponse = await provisioner.stub(ProvisionerStub).LiftWithdrawal(request, timeout=timeout_s)
    return answer


async def lift_payload(provisioner: Peer, cluster: str, withdrawal: Withdrawal, timeout_s: float = 10.0) -> bytes:
    """What people sign to have a withdrawal lifted that was listed. Roles: owner, operator, auditor.

    Raises:
        CloisterError: As the call.
    """
    stub: Any = provisioner.stub(ProvisionerStub)
    head = await stub.GetCheckpoint(GetCheckpointRequest(), timeout=timeout_s)
    generation = LogOrigin.parse(Checkpoint.parse(SignedNote.parse(head.checkpoint).text).origin).generation
    what = Withdrawn(withdrawal.model_name, withdrawal.model_version)
    return lift_order(cluster, what, withdrawal.sequence, withdrawal.withdrawn_at_ms, generation)


async def withdrawals(provisioner: Peer, timeout_s: float = 10.0) -> list[Withdrawal]:
    """What is withdrawn now, and why; oldest first. Roles: owner (its own), operator and auditor (all)."""
    stub: Any = provisioner.stub(ProvisionerStub)
    answer = await stub.ListWithdrawals(ListWithdrawalsRequest(), timeout=timeout_s)
    return list(answer.withdrawals)
