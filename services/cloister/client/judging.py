"""One quote, judged by all that production judges by, with every finding kept: what an appraisal alone does not tell.

`appraise` says what to believe or raises; whoever wants to know what a refused quote is wants what was found up to
there too. The checks are the appraisal's own, in its order; none is done here. Pure: no clock, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cloister.appraisal import second
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Expected, verify_binding
from cloister.appraisal.body import EnclaveReport
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.appraisal.quote import Quote
from cloister.appraisal.steps import Step, rejected
from cloister.appraisal.verify import VerifiedQuote, verify_quote
from cloister.client.bundle import TrustBundle
from cloister.client.code_pins import check_code
from cloister.client.trust import WORKER_ROLE
from cloister.ear import AttestationResult
from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest
from cloister.evidence.binding import Claims
from cloister.evidence.ratls import RaTlsEvidence
from cloister.td_measurement import TdMeasurement

_STEPS: Final[dict[int, str]] = {
    Step.QUOTE: "The bytes are a quote of a kind that is known.",
    Step.CHAIN: "Collateral and platform certificate are genuine, current, and about this platform.",
    Step.QUOTING_ENCLAVE: "A known quoting enclave on that platform vouches for the key that signed.",
    Step.SIGNATURE: "That key signed exactly these bytes.",
    Step.BINDING: "The quote is for the claims that came with it, and they are the expected ones.",
    Step.TCB: "The platform is at a known patch level that is not revoked.",
    Step.POLICY: "Platform and code are what the policy allows.",
    Step.SECOND: "Another verifier, written by others, says the same.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What was found about a quote, as far as the checks got.

    Attributes:
        policy_id: Of the policy that decided, or would have.
        pins_code: Whether a trust bundle says which code is believed.
        collateral: None where it does not even parse. Believed only if there is `verified`.
        verified: The quote, if it is genuine under the anchor at the time.
        claims: What the quote is over, if it is over the claims that came with it.
        result: What the mesh's verifier found of it, where that came along and agrees.
        attester: What an RA-TLS certificate says, where the quote came in one and that much is in order.
        refusal: The check that objected; None when everything is believed.
    """

    anchor: TrustAnchor
    policy_id: str
    pins_code: bool
    judged_at: datetime
    collateral: Collateral | None = field(repr=False)
    verified: VerifiedQuote | None
    claims: Claims | None
    refusal: EvidenceRejected | InvalidRequest | None
    result: AttestationResult | None = None
    attester: RaTlsEvidence | None = None

    @classmethod
    def unread(
        cls, objection: EvidenceRejected | InvalidRequest, anchor: TrustAnchor, policy: Policy, now: datetime
    ) -> Judgement:
        """The judgement of what was refused before there was a quote to look at."""
        return cls(
            anchor=anchor,
            policy_id=policy.policy_id,
            pins_code=False,
            judged_at=now,
            collateral=None,
            verified=None,
            claims=None,
            refusal=objection,
        )

    @property
    def believed(self) -> bool:
        """Whether every check was passed."""
        return self.refusal is None

    @property
    def step(self) -> int | None:
        """Number of the check that objected, 0 for one that is no step of an appraisal; None when none did."""
        return None if self.refusal is None else step_of(self.refusal)


def judge(
    raw_quote: bytes,
    raw_collateral: bytes,
    anchor: TrustAnchor,
    policy: Policy,
    now: datetime,
    *,
    claims_bytes: bytes | None = None,
    report_data: bytes | None = None,
    trust: TrustBundle | None = None,
) -> Judgement:
    """Judge a quote, and keep what was found. Whatever the bytes are, the answer is a judgement.

    Args:
        raw_quote: As it came.
        raw_collateral: JSON with the QuoteCollateralV3 names.
        anchor: What both must lead back to.
        policy: What is believed of what is genuine.
        now: Aware.
        claims_bytes: Claims of a Cloister worker, which the quote must be over; None for any other quote.
        report_data: What REPORTDATA must be; None where nothing says.
        trust: Whose measurements, cluster and verifier must be met as well.
    """
    collateral, verified, claims, refusal = None, None, None, None
    try:
        collateral = Collateral.parse(raw_collateral)
        verified = verify_quote(raw_quote, collateral, anchor, now)
        if claims_bytes is not None:
            claims = verify_binding(verified.quote, claims_bytes, _expected(trust))
        if report_data not in (None, verified.quote.body.report_data):
            raise rejected(Step.BINDING, "claims.unbound", "the quote is not over what came with it")
        policy.evaluate(verified, now)
        if trust is not None:
            check_code(_code(verified.quote), trust)
        second.confirm(verified, now)
    except (EvidenceRejected, InvalidRequest) as error:
        refusal = error
    return Judgement(
        anchor=anchor,
        policy_id=policy.policy_id,
        pins_code=trust is not None and trust.pins_code,
        judged_at=now,
        collateral=collateral,
        verified=verified,
        claims=claims,
        refusal=refusal,
    )


def step_of(error: CloisterError) -> int:
    """Number of the appraisal's check that objected; 0 where it was none of them."""
    if isinstance(error, EvidenceRejected):
        return error.step
    # Collateral that does not even parse is no genuine collateral.
    return int(Step.CHAIN) if error.reason.startswith("collateral.") else 0


def step_meaning(step: int) -> str:
    """What the check with this number asks for."""
    return _STEPS.get(step, "What came can be read, and is what the trust bundle names.")


def _expected(trust: TrustBundle | None) -> Expected:
    """What the claims must say; of which technology the quote may be, the trust bundle's pins say."""
    if trust is None:
        return Expected(tee=None)
    return Expected(cluster=trust.cluster, audience=trust.verifier_id, role=WORKER_ROLE, tee=None)


def _code(quote: Quote) -> EnclaveReport | TdMeasurement:
    return quote.body if isinstance(quote.body, EnclaveReport) else quote.body.measurement
