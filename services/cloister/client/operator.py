"""The operator's and the auditor's calls: what the mesh looks like, and what was decided in it. None shows a secret."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from cloister.api.oip.inference_pb2 import (
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
)
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.api.v1.gateway_pb2 import GetStatusRequest, GetStatusResponse
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.api.v1.provisioner_pb2 import ListAuditRequest, ResumeRequest, ResumeResponse
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.api.v1.verifier_pb2 import (
    ApplyPolicyRequest,
    ApplyPolicyResponse,
    GetKeysRequest,
    GetKeysResponse,
    GetPolicyRequest,
    GetPolicyResponse,
    LiftRevocationRequest,
    LiftRevocationResponse,
    ListAppraisalsRequest,
    ListEvidenceRequest,
    ListRevocationsRequest,
    Revocation,
    RevokeRequest,
    RevokeResponse,
)
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.errors import InvalidRequest, LogBroken
from cloister.kit.revocation import KIND_NUMBERS, Name
from cloister.rpc.channel import Peer
from cloister.tlog.merkle import leaf_hash

_INSTANCE: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of an append-only record: its number, its content, the hash that its log commits to, its exact bytes."""

    sequence: int
    content: dict[str, Any]
    leaf_hash: bytes
    record: bytes = field(default=b"", repr=False)


async def mesh_status(gateway: Peer, timeout_s: float = 10.0) -> GetStatusResponse:
    """The mesh as the gateway sees it. Roles: auditor, operator."""
    answer: GetStatusResponse = await gateway.stub(GatewayStub).GetStatus(GetStatusRequest(), timeout=timeout_s)
    return answer


async def model_index(gateway: Peer, timeout_s: float = 10.0) -> RepositoryIndexResponse:
    """Every version of a model that some worker serves or should serve. Roles: client, owner, operator."""
    stub = gateway.stub(GRPCInferenceServiceStub)
    answer: RepositoryIndexResponse = await stub.RepositoryIndex(RepositoryIndexRequest(), timeout=timeout_s)
    return answer


async def load_model(gateway: Peer, model: str, timeout_s: float = 300.0) -> None:
    """Have the workers load `name` or `name@version`, and wait until they have. Role: operator.

    Raises:
        NotReady: Some have not, or none could (`memory.full`, `model.missing`, ...).
        NotAllowed: No worker's settings let anybody do this.
        CloisterError: As the call.
    """
    stub = gateway.stub(GRPCInferenceServiceStub)
    await stub.RepositoryModelLoad(RepositoryModelLoadRequest(model_name=model), timeout=timeout_s)


async def unload_model(gateway: Peer, model: str, timeout_s: float = 300.0) -> None:
    """Have the workers drop `name` or `name@version` once what is under way is answered. Role: operator."""
    stub = gateway.stub(GRPCInferenceServiceStub)
    await stub.RepositoryModelUnload(RepositoryModelUnloadRequest(model_name=model), timeout=timeout_s)


async def appraisals(
    verifier: Peer, after: int = 0, timeout_s: float = 60.0, *, newest: int = 0
) -> AsyncGenerator[AuditLine, None]:
    """Every appraisal, believed or not, and why; oldest first. Roles: owner, auditor, operator.

    With `newest`, of so many lines at the record's end only.
    """
    request = ListAppraisalsRequest(after_sequence=after, newest=newest)
    async for record in verifier.stub(VerifierStub).ListAppraisals(request, timeout=timeout_s):
        yield audit_line(record)


async def apply_policy(verifier: Peer, policy: bytes, timeout_s: float = 120.0) -> ApplyPolicyResponse:
    """Put an appraisal policy (TOML or an envelope) in force, and judge every member by it. Role: operator."""
    request = ApplyPolicyRequest(policy=policy)
    answer: ApplyPolicyResponse = await verifier.stub(VerifierStub).ApplyPolicy(request, timeout=timeout_s)
    return answer


async def policy_in_force(verifier: Peer, timeout_s: float = 10.0) -> GetPolicyResponse:
    """The verifier's appraisal policy as it was signed. Roles: owner, auditor, operator."""
    answer: GetPolicyResponse = await verifier.stub(VerifierStub).GetPolicy(GetPolicyRequest(), timeout=timeout_s)
    return answer


async def attested_evidence(verifier: Peer, timeout_s: float = 60.0) -> AsyncIterator[tuple[str, EvidenceBundle]]:
    """Instance (32 hex digits) and evidence of everyone attested now. Roles: owner, auditor, operator."""
    async for worker in verifier.stub(VerifierStub).ListEvidence(ListEvidenceRequest(), timeout=timeout_s):
        if not _INSTANCE.fullmatch(worker.instance):
            raise InvalidRequest("the verifier names a worker by no instance")
        yield worker.instance, worker.bundle


async def releases(
    provisioner: Peer, model: str = "", after: int = 0, timeout_s: float = 60.0, *, newest: int = 0
) -> AsyncGenerator[AuditLine, None]:
    """Registrations, policies, releases and refusals; oldest first. Roles: owner (its own models), auditor (all).

    With `newest`, of so many lines at the record's end only.
    """
    request = ListAuditRequest(model_name=model, after_sequence=after, newest=newest)
    async for record in provisioner.stub(ProvisionerStub).ListAudit(request, timeout=timeout_s):
        yield audit_line(record)


async def resume(provisioner: Peer, *, have: int, should: int, reason: str, timeout_s: float = 60.0) -> ResumeResponse:
    """Have a provisioner whose state was put back go on without what is lost. Role: operator.

    Args:
        provisioner: Connected as an operator.
        have: Lines that its log has.
        should: Lines that were countersigned.
        reason: Why, in a sentence; it is put on record.
        timeout_s: For the answer, which waits until witnesses have countersigned.

    Raises:
        NotReady: The state lacks nothing (`state.fresh`), or other than that (`state.other`).
        CloisterError: As the call.
    """
    request = ResumeRequest(have_size=have, should_size=should, reason=reason)
    answer: ResumeResponse = await provisioner.stub(ProvisionerStub).Resume(request, timeout=timeout_s)
    return answer


async def published_keys(verifier: Peer, timeout_s: float = 10.0) -> bytes:
    """The verifier's keys as their signers vouch for them (`TrustBundle.learned`); empty where nobody does. Any."""
    answer: GetKeysResponse = await verifier.stub(VerifierStub).GetKeys(GetKeysRequest(), timeout=timeout_s)
    return answer.key_set


async def revoke(verifier: Peer, name: Name, reason: str, timeout_s: float = 10.0) -> RevokeResponse:
    """Take trust from one thing; says how many workers went. Role: operator."""
    request = RevokeRequest(kind=KIND_NUMBERS[name.kind], value=name.value, reason=reason)
    answer: RevokeResponse = await verifier.stub(VerifierStub).Revoke(request, timeout=timeout_s)
    return answer


async def lift(
    verifier: Peer, name: Name, reason: str, order: bytes = b"", timeout_s: float = 10.0
) -> LiftRevocationResponse:
    """Give it back; `order` is signed by as many as must. Role: operator."""
    request = LiftRevocationRequest(kind=KIND_NUMBERS[name.kind], value=name.value, reason=reason, order=order)
    answer: LiftRevocationResponse = await verifier.stub(VerifierStub).LiftRevocation(request, timeout=timeout_s)
    return answer


async def revocations(verifier: Peer, timeout_s: float = 10.0) -> list[Revocation]:
    """What is revoked now, and why; oldest first. Roles: owner, auditor, operator."""
    answer: Any = await verifier.stub(VerifierStub).ListRevocations(ListRevocationsRequest(), timeout=timeout_s)
    return list(answer.revocations)


def audit_line(record: AuditRecord) -> AuditLine:
    """A record as it came.

    Raises:
        LogBroken: Its hash is not that of its bytes, or it is no line (`line.altered`).
    """
    if leaf_hash(record.record) != record.leaf_hash:
        raise LogBroken(f"line {record.sequence} does not have the hash that it is listed with", reason="line.altered")
    try:
        content = json.loads(record.record)
    except (ValueError, RecursionError) as error:
        raise LogBroken(f"line {record.sequence} is not JSON", reason="line.altered") from error
    if not isinstance(content, dict):
        raise LogBroken(f"line {record.sequence} is no JSON object", reason="line.altered")
    return AuditLine(record.sequence, content, record.leaf_hash, record.record)
