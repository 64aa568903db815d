"""The provisioner's root keys, as an operator and an auditor see them: names and numbers, never a key."""

from __future__ import annotations

from cloister.api.v1.provisioner_pb2 import (
    GetVaultStatusRequest,
    GetVaultStatusResponse,
    RootKey,
    RotateRootRequest,
    RotateRootResponse,
)
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.rpc.channel import Peer


async def root_keys(provisioner: Peer, timeout_s: float = 10.0) -> list[RootKey]:
    """Every root key that is open or that something lies under, the one that wraps first. Roles: auditor, operator."""
    answer: GetVaultStatusResponse = await provisioner.stub(ProvisionerStub).GetVaultStatus(
        GetVaultStatusRequest(), timeout=timeout_s
    )
    return list(answer.root_keys)


async def rotate_root(provisioner: Peer, timeout_s: float = 60.0) -> RotateRootResponse:
    """Have all wrapped under the next root key; it goes on after the answer. Role: operator."""
    answer: RotateRootResponse = await provisioner.stub(ProvisionerStub).RotateRoot(
        RotateRootRequest(), timeout=timeout_s
    )
    return answer
