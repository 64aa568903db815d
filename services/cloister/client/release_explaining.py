"""What each attested worker would get of a model's key, and why: the provisioner's own rules, asked here.

The verifier says who is attested, with Attestation Results for the mesh; they are checked here by the keys in the trust
bundle. Then the same rules decide that decide at a release (`kit.release_rules`), under the policy in force or one that
is not signed yet. What they cannot tell is what only a release shows: a fresh Result, whose evidence may have changed
since; how often somebody has asked; and what the bundle's owner would believe himself, which is not asked here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cloister import ear
from cloister.api.v1.provisioner_pb2 import ModelSummary
from cloister.client import operator
from cloister.client.bundle import TrustBundle
from cloister.client.trust import MESH_AUDIENCE, MESH_LIFE
from cloister.ear import AttestationResult
from cloister.errors import EvidenceRejected
from cloister.kit.release_rules import Finding, judged
from cloister.kit.signed_policy import verified_policy
from cloister.rpc.channel import Peer
from cloister.seal.release_policy import ReleasePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedWorker:
    """An attested worker, and what the rules come to for it.

    Attributes:
        instance: 32 hex digits, random for each start.
        result: The verifier's Attestation Result; None where it is not the verifier's, or over.
        refusal: Why it counts for nothing; None where it counts.
        findings: Of each rule, in order; none where the Result counts for nothing.
    """

    instance: str
    result: AttestationResult | None = None
    refusal: EvidenceRejected | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def entitled(self) -> bool:
        """Whether it would get the key."""
        return self.result is not None and all(each.met for each in self.findings)


def explain_worker(
    instance: str, token: str, trust: TrustBundle, policy: ReleasePolicy, *, model_version: int, now: datetime
) -> ExplainedWorker:
    """Judge one worker by every rule; pure.

    Args:
        instance: As the verifier names it.
        token: Its Attestation Result for the mesh.
        trust: Names the verifier and its keys.
        policy: To judge by.
        model_version: Of the model that it would ask for.
        now: Aware.
    """
    try:
        result = ear.check(
            token, trust.keys(), issuer=trust.verifier_id, audience=MESH_AUDIENCE, now=now, max_life=MESH_LIFE
        )
        if result.instance != instance:
            raise EvidenceRejected("the Attestation Result is another worker's", reason="instance.other")
    except EvidenceRejected as refusal:
        return ExplainedWorker(instance=instance, refusal=refusal)
    findings = judged(result, policy, model_version=model_version, cluster=trust.cluster)
    return ExplainedWorker(instance=instance, result=result, findings=findings)


async def explained_workers(
    verifier: Peer, trust: TrustBundle, policy: ReleasePolicy, *, model_version: int
) -> AsyncIterator[ExplainedWorker]:
    """Judge everyone attested now. Roles: owner, auditor, operator.

    Raises:
        InvalidRequest: The verifier's keys are not signed by those whom the trust bundle names.
        NotAllowed, Unauthenticated, Unavailable, TimeoutError: As they say.
    """
    newest = await operator.published_keys(verifier) if trust.signers is not None else b""
    known = trust.learned(newest)
    async for instance, bundle in operator.attested_evidence(verifier):
        now = datetime.now(UTC)
        token = bundle.attestation_result
        yield explain_worker(instance, token, known, policy, model_version=model_version, now=now)


def policy_listed(model: ModelSummary) -> ReleasePolicy | None:
    """The policy in force of a model that the provisioner lists, found signed by those who may; None where it has none.

    Raises:
        InvalidRequest, SealBroken: It is not, going by the owner's key in the list.
    """
    if not model.HasField("signed_policy"):
        return None
    signed = model.signed_policy
    return verified_policy(signed.policy, signed.signature, model.manifest.public_key, model.signer_sets)
