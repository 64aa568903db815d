"""What this client believes of a worker: nobody's word, its own appraisal.

The gateway hands over evidence, the collateral to judge it by, and the verifier's Attestation Result. Nothing is taken
from the gateway but bytes. Pure but for the arguments: no clock, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cloister import ear
from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.api.v1.gateway_pb2 import ServingWorker
from cloister.api.v1.model_pb2 import SignedJobEpoch
from cloister.appraisal.appraise import Appraisal, Evidence, Expected, appraise
from cloister.appraisal.body import Tee
from cloister.client.bundle import TrustBundle
from cloister.client.code_pins import Code, check_code
from cloister.client.collateral import KnownCollateral
from cloister.ear import AttestationResult
from cloister.errors import EvidenceRejected, InvalidRequest, SealBroken
from cloister.seal import manifest
from cloister.seal.manifest import ModelManifest
from cloister.seal.session import RecipientKey

MESH_AUDIENCE: Final = "mesh"
MESH_LIFE: Final = timedelta(hours=1)
WORKER_ROLE: Final = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedWorker:
    """A worker whose evidence this client has judged for itself.

    Attributes:
        instance: 32 hex digits, random for each start.
        result: The verifier's Attestation Result, which agrees with our own appraisal.
        appraisal: Ours.
        token: The Attestation Result as it came, for receipts.
        model: What it serves, as its owner signed it; receipts prove that it did.
        owner: The Ed25519 key that signed, 32 bytes.
        allow_plain: What it says of itself.
        job_epoch: What it says that jobs may be sealed to, not judged yet (`job_epochs`); None where it takes none.
    """

    instance: str
    result: AttestationResult
    appraisal: Appraisal
    token: str = field(repr=False)
    model: ModelManifest
    owner: bytes
    allow_plain: bool
    job_epoch: SignedJobEpoch | None = field(default=None, repr=False)

    @property
    def model_version(self) -> str:
        """As on the wire."""
        return str(self.model.version)

    @property
    def model_digest(self) -> bytes:
        """Of the sealed model, 32 bytes."""
        return self.model.digest

    @property
    def recipient(self) -> RecipientKey:
        """What requests are sealed to."""
        claims = self.appraisal.claims
        return RecipientKey(self.instance, claims.hpke_suite, claims.hpke_public, claims.seal_version)

    @property
    def simulated(self) -> bool:
        """Whether its quote says nothing about hardware."""
        return self.appraisal.simulated


def believe(
    serving: ServingWorker,
    model_name: str,
    trust: TrustBundle,
    now: datetime,
    *,
    collateral: KnownCollateral | None = None,
) -> VerifiedWorker:
    """Judge one worker that a gateway offers.

    Args:
        serving: What the gateway says, evidence and manifest included.
        model_name: The model it is offered for.
        trust: Whom to believe.
        now: Aware UTC.
        collateral: What was verified for other workers, and is not verified again.

    Returns:
        The worker, with the keys that requests may be sealed to.

    Raises:
        EvidenceRejected: It is not believed; `step` is that of our own appraisal where that objected.
        InvalidRequest: Something does not even parse.
    """
    result, appraisal = vouched(serving.bundle, trust, now, collateral=collateral)
    if result.instance != serving.instance:
        raise _rejected("the evidence is another worker's", "instance.other")
    model = check_model(serving, model_name, trust)  # and it serves a model of an owner that we accept
    return VerifiedWorker(
        instance=result.instance,
        result=result,
        appraisal=appraisal,
        token=serving.bundle.attestation_result,
        model=model,
        owner=serving.manifest.public_key,
        allow_plain=serving.allow_plain,
        job_epoch=serving.job_epoch if serving.HasField("job_epoch") else None,
    )


def vouched(
    bundle: EvidenceBundle, trust: TrustBundle, now: datetime, *, collateral: KnownCollateral | None = None
) -> tuple[AttestationResult, Appraisal]:
    """Judge evidence that a verifier has judged before: its Attestation Result, and our own appraisal, must agree.

    Raises:
        EvidenceRejected: Either is not believed, or they differ (`findings.other`).
        InvalidRequest: Something does not even parse.
    """
    result = ear.check(  # 1 the verifier we know vouches for it, to the mesh, now
        bundle.attestation_result,
        trust.keys(),
        issuer=trust.verifier_id,
        audience=MESH_AUDIENCE,
        now=now,
        max_life=MESH_LIFE,
    )
    check_believable(result, trust)  # 2 as a worker of this cluster, under our anchor, running code we pinned
    endorsed = (collateral or KnownCollateral()).verified(bundle.collateral, trust.anchor, now)
    appraisal = appraise(  # 3 its quote convinces our own two verifiers as well
        Evidence(raw_quote=bundle.evidence.quote, claims_bytes=bundle.evidence.claims),
        endorsed,
        trust.policy(),
        trust.anchor,
        now,
        expect=_claimed(result),  # 4 for exactly the keys and the run in the Result
    )
    _same_findings(result, appraisal)  # 5 and with the same findings
    trust.floors.check(appraisal.claims)  # 6 and it offers no less than this client asks for
    return result, appraisal


def check_model(serving: ServingWorker, model_name: str, trust: TrustBundle) -> ModelManifest:
    """Return the manifest of what a worker says it serves, signed by an owner that this client accepts.

    Raises:
        EvidenceRejected: Of another owner, not signed by it, or not of the model, version and digest that are offered.
    """
    signed = serving.manifest
    if trust.owners is not None and signed.public_key.hex() not in trust.owners:
        raise _rejected("the model is of an owner that the trust bundle does not name", "owner.unknown")
    try:
        model = manifest.verify(signed.manifest, signed.signature, signed.public_key)
    except (SealBroken, InvalidRequest) as error:
        raise _rejected("the model's manifest is not signed by its owner", "manifest.invalid") from error
    if (model.name, str(model.version), model.digest) != (model_name, serving.model_version, serving.model_digest):
        raise _rejected("the manifest is of another model than the one that is offered", "manifest.other")
    return model


def check_believable(result: AttestationResult, trust: TrustBundle) -> None:
    """Hold an Attestation Result that was found genuine against what this client accepts.

    Raises:
        EvidenceRejected: Another cluster or role, a simulated anchor where ours is not (or the reverse), a debug
            enclave, a policy of the verifier that is not among those that the bundle names, or code that is not pinned;
            and any code at all where the trust bundle pins none.
    """
    expected = f"spiffe://{trust.cluster}/{WORKER_ROLE}/{result.instance}"
    if (result.cluster, result.role, result.spiffe_id) != (trust.cluster, WORKER_ROLE, expected):
        raise _rejected("the Attestation Result is not of a worker of this mesh", "identity.other")
    if result.simulated is not trust.anchor.simulated:
        raise _rejected("its hardware is simulated, and the trust bundle accepts Intel's root only", "anchor.other")
    if result.debug:
        raise _rejected("the enclave is open to a debugger", "enclave.debug")
    if trust.verifier_policies is not None and result.policy_digest.hex() not in trust.verifier_policies:
        raise _rejected(
            "the verifier appraised it by a policy that the trust bundle does not name; see what changed, then "
            f"'cloister trust accept --verifier-policy {result.policy_digest.hex()}'",
            "policy.other",
        )
    measured = (bytes.fromhex(result.mrenclave), bytes.fromhex(result.mrsigner), result.isvprodid, result.isvsvn)
    check_code(Code(*measured) if result.td is None else result.td, trust)


def _claimed(result: AttestationResult) -> Expected:
    """What the quote's claims must say, word for word: the same as the Result, keys first."""
    return Expected(
        nonce=result.nonce,
        audience=result.issuer,
        cluster=result.cluster,
        role=result.role,
        spiffe_id=result.spiffe_id,
        instance=result.instance,
        tls_spki_sha256=result.tls_spki_sha256,
        hpke_suite=result.hpke_suite,
        hpke_public=result.hpke_public,
        receipt_key=result.receipt_key,
        config_digest=result.config_digest,
        tee=Tee(result.tee),
    )


def _same_findings(result: AttestationResult, appraisal: Appraisal) -> None:
    ours = (
        appraisal.tee.value,
        appraisal.td,
        appraisal.mrenclave.hex(),
        appraisal.mrsigner.hex(),
        appraisal.isvprodid,
        appraisal.isvsvn,
        appraisal.tcb_status.value,
        appraisal.advisory_ids,
        appraisal.simulated,
        appraisal.collateral_sha256,
    )
    theirs = (
        result.tee,
        result.td,
        result.mrenclave,
        result.mrsigner,
        result.isvprodid,
        result.isvsvn,
        result.tcb_status,
        result.advisory_ids,
        result.simulated,
        result.collateral_sha256,
    )
    if ours != theirs:
        raise _rejected("our own appraisal finds something else than the Attestation Result says", "findings.other")


def _rejected(message: str, reason: str) -> EvidenceRejected:
    return EvidenceRejected(message, reason=reason)
