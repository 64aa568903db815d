"""The appraisal: evidence, collateral, policy, anchor and time in; what to believe out (RFC 9334 section 8).

Each check raises `EvidenceRejected` with its number in `steps.Step` and a stable reason. Nothing here waits for anyone
outside, but an appraisal computes for a millisecond or two: call it off an event loop.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from datetime import datetime

from cloister.appraisal import second
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.body import EnclaveReport, TdReport, Tee
from cloister.appraisal.collateral import Collateral, VerifiedCollateral
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.policy import AFFIRMING, NO_CLAIM, Policy, Verdict
from cloister.appraisal.quote import Quote
from cloister.appraisal.steps import Step, rejected
from cloister.appraisal.verify import VerifiedQuote, verify_quote
from cloister.errors import InvalidRequest
from cloister.evidence import binding
from cloister.evidence.binding import Claims
from cloister.td_measurement import TdMeasurement

__all__ = ["Appraisal", "Evidence", "Expected", "VerifiedQuote", "appraise", "verify_quote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an Attester sends: a quote, and the claims it is over."""

    raw_quote: bytes = field(repr=False)
    claims_bytes: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What claims must say. A field that is None is not compared: whoever sent no challenge has no nonce to compare.

    Attributes:
        tee: Technology of the quote: an enclave unless somebody asks for something else (`Policy.tee`).
    """

    nonce: bytes | None = None
    audience: str | None = None
    cluster: str | None = None
    role: str | None = None
    spiffe_id: str | None = None
    instance: str | None = None
    tls_spki_sha256: bytes | None = None
    hpke_suite: str | None = None
    hpke_public: bytes | None = None
    receipt_key: bytes | None = None
    config_digest: bytes | None = None
    tee: Tee | None = Tee.SGX


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """Evidence that was believed, and on what grounds: all that an Attestation Result says.

    Attributes:
        mrenclave: 32 bytes; empty, with the other enclave fields zero, for a trust domain.
        td: What a trust domain measures as; None for an enclave.
        ppid_sha256: Of the platform's PPID, for records that need not show it.
        platform_instance_id: 16 bytes; None under the Processor CA.
        hardware: AR4SI trust vector value, as are `executables` and `configuration`.
    """

    claims: Claims
    tee: Tee
    mrenclave: bytes
    mrsigner: bytes
    isvprodid: int
    isvsvn: int
    td: TdMeasurement | None
    debug: bool
    tcb_status: TcbStatus
    advisory_ids: tuple[str, ...]
    tcb_evaluation: int
    tcb_date: datetime
    fmspc: bytes
    ppid_sha256: bytes
    platform_instance_id: bytes | None
    smt_enabled: bool | None
    collateral_sha256: bytes
    collateral_valid_until: datetime
    anchor: str
    simulated: bool
    hardware: int
    executables: int
    configuration: int
    policy_id: str
    policy_digest: bytes
    appraised_at: datetime

    @property
    def measurement(self) -> bytes:
        """What stands for the code, 32 bytes: MRENCLAVE, or the digest of a trust domain's measurements."""
        return self.mrenclave if self.td is None else self.td.digest


def appraise(
    evidence: Evidence,
    collateral: Collateral | VerifiedCollateral,
    policy: Policy,
    anchor: TrustAnchor,
    now: datetime,
    *,
    expect: Expected,
) -> Appraisal:
    """Decide what to believe about `evidence`. Pure: the same arguments give the same answer.

    Args:
        evidence: As it came.
        collateral: Of the quote's platform family; the verified form saves most of the work.
        policy: What is believed of what is genuine.
        anchor: What quote and collateral must lead back to.
        now: Aware.
        expect: What the claims must say.

    Raises:
        EvidenceRejected: `step` is the number of the check that objected.
    """
    verified = verify_quote(evidence.raw_quote, collateral, anchor, now)  # 1 to 4, and 6: a genuine quote
    claims = verify_binding(verified.quote, evidence.claims_bytes, expect)  # 5 for this challenge and these keys
    verdict = policy.evaluate(verified, now)  # 7 of a platform and code we want
    second.confirm(verified, now)  # 8 and another verifier says so too
    return _appraisal(verified, claims, verdict, policy, expect, now)


def verify_binding(quote: Quote, claims_bytes: bytes, expect: Expected) -> Claims:
    """Check that the quote is over exactly these claims, and that they say what is expected.

    Raises:
        EvidenceRejected: Step 5, reason `claims.unbound`, `claims.malformed`, `tee.unexpected`, or
            `claims.<field>_mismatched`.
    """
    if quote.body.report_data != binding.report_data(claims_bytes):
        raise rejected(Step.BINDING, "claims.unbound", "the quote is not over these claims")
    if expect.tee is not None and quote.tee is not expect.tee:
        raise rejected(Step.BINDING, "tee.unexpected", "the quote is of another technology than expected")
    try:
        claims = binding.decode(claims_bytes)
    except InvalidRequest:
        raise rejected(Step.BINDING, "claims.malformed", "the claims are not in their canonical form") from None
    for name in (expected.name for expected in fields(expect) if expected.name != "tee"):
        wanted = getattr(expect, name)
        if wanted is not None and getattr(claims, name) != wanted:
            raise rejected(Step.BINDING, f"claims.{name}_mismatched", f"the claim {name} is not what is expected")
    return claims


def _appraisal(
    verified: VerifiedQuote, claims: Claims, verdict: Verdict, policy: Policy, expect: Expected, now: datetime
) -> Appraisal:
    report, platform = verified.quote.body, verified.platform
    # A digest the enclave claims is worth what the enclave is.
    configured = expect.config_digest is not None and verdict.executables != NO_CLAIM
    enclave = report if isinstance(report, EnclaveReport) else None
    return Appraisal(
        claims=claims,
        tee=verified.quote.tee,
        mrenclave=enclave.mrenclave if enclave else b"",
        mrsigner=enclave.mrsigner if enclave else b"",
        isvprodid=enclave.isvprodid if enclave else 0,
        isvsvn=enclave.isvsvn if enclave else 0,
        td=report.measurement if isinstance(report, TdReport) else None,
        debug=report.debug,
        tcb_status=verified.tcb.status,
        advisory_ids=verified.tcb.advisory_ids,
        tcb_evaluation=verified.evaluation,
        tcb_date=verified.tcb.tcb_date,
        fmspc=platform.fmspc,
        ppid_sha256=hashlib.sha256(platform.ppid).digest(),
        platform_instance_id=platform.platform_instance_id,
        smt_enabled=platform.smt_enabled,
        collateral_sha256=verified.endorsed.collateral.sha256,
        collateral_valid_until=verified.endorsed.valid_until,
        anchor=verified.anchor.name,
        simulated=verified.anchor.simulated,
        hardware=verdict.hardware,
        executables=verdict.executables,
        configuration=AFFIRMING if configured else verdict.configuration,
        policy_id=policy.policy_id,
        policy_digest=policy.digest,
        appraised_at=now,
    )
