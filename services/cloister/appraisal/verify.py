"""Whether a quote is genuine, and how far its platform is patched: what cryptography and Intel's collateral can say.

What is left for others: whether it is for this challenge (`appraise.py`) and whether its code and platform are wanted
(`policy.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cloister.appraisal import certs, signature
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.body import TdReport
from cloister.appraisal.certs import Certificate, Role
from cloister.appraisal.chains import VerifiedChain
from cloister.appraisal.collateral import Collateral, VerifiedCollateral
from cloister.appraisal.endorsements import QeIdentity, Standing
from cloister.appraisal.pck import Platform, parse_platform
from cloister.appraisal.quote import Quote, parse_quote
from cloister.appraisal.steps import Step, rejected
from cloister.appraisal.tcb import Tcb, enclave_standing, tcb_level

QE_AUTH_DATA_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote:
    """A genuine quote, the platform it comes from, and the collateral that says so."""

    quote: Quote
    platform: Platform
    tcb: Tcb
    endorsed: VerifiedCollateral

    @property
    def anchor(self) -> TrustAnchor:
        """What all of it leads back to."""
        return self.endorsed.anchor

    @property
    def evaluation(self) -> int:
        """TCB evaluation data number of the collateral used."""
        return self.endorsed.evaluation


def verify_quote(
    raw_quote: bytes, collateral: Collateral | VerifiedCollateral, anchor: TrustAnchor, now: datetime
) -> VerifiedQuote:
    """Decide whether a quote is genuine. Pure: the same arguments give the same answer.

    Args:
        raw_quote: As it came, at most 64 KiB.
        collateral: Of the quote's platform family; the verified form saves most of the work.
        anchor: What both must lead back to.
        now: Aware.

    Raises:
        EvidenceRejected: Steps 1 to 4 and 6.
    """
    quote = parse_quote(raw_quote)  # 1 the bytes are a quote
    endorsed = collateral.verified(anchor, now)  # 2 collateral and its key chain to the anchor
    chain = verify_chain(quote, endorsed, now)
    platform = chain.platform
    check_family(quote, platform, endorsed)
    quoting_enclave = verify_quoting_enclave(
        quote, chain.pck, endorsed.qe_identity
    )  # 3 a known quoting enclave vouches
    verify_signature(quote)  # 4 for exactly these bytes
    report = quote.body if isinstance(quote.body, TdReport) else None
    tcb = tcb_level(platform, report, quoting_enclave, endorsed.tcb_info)  # 6 on a platform patched thus far
    return VerifiedQuote(quote=quote, platform=platform, tcb=tcb, endorsed=endorsed)


def verify_chain(quote: Quote, endorsed: VerifiedCollateral, now: datetime) -> VerifiedChain:
    """Check that the quote's PCK certificate chains to the anchor and is not revoked, and read its platform.

    Raises:
        EvidenceRejected: Step 2.
    """
    known = endorsed.chains.find(quote.pck_chain)
    if known is not None:
        certs.check_date(known.ca, Role.PCK_CA, now)
        certs.check_date(known.pck, Role.PCK, now)
        return known
    chain = _new_chain(quote.pck_chain, endorsed, now)
    endorsed.chains.keep(quote.pck_chain, chain)
    return chain


def _new_chain(pck_chain: bytes, endorsed: VerifiedCollateral, now: datetime) -> VerifiedChain:
    ders = certs.split_pem(pck_chain)
    brought = endorsed.collateral.pck_certificate_chain
    # Where collateral brings a chain along, another verifier might look there first: it has to be the same one.
    if brought is not None and certs.split_pem(brought.encode("utf-8")) != ders:
        raise rejected(Step.CHAIN, "chain.ambiguous", "quote and collateral bring different PCK chains")
    if len(ders) != 3:
        raise rejected(Step.CHAIN, "chain.broken", "the PCK chain is not of three certificates")
    ca_der, root_der = _ca_and_root(ders[1], ders[2], endorsed)
    endorsed.anchor.check_is_root(root_der)
    ca = _pck_ca(ca_der, endorsed, now)
    pck = certs.load(ders[0])
    certs.check(pck, Role.PCK, now)
    certs.check_issued(pck, ca, below=0)
    endorsed.pck_crl.check(pck)
    return VerifiedChain(pck, ca, parse_platform(pck))


def _ca_and_root(second: bytes, third: bytes, endorsed: VerifiedCollateral) -> tuple[bytes, bytes]:
    """Tell the two behind the leaf apart: in some genuine quotes the root comes before the CA."""
    if second != endorsed.pck_ca.der and certs.load(second).common_name in Role.ROOT.value:
        return third, second
    return second, third


def _pck_ca(der: bytes, endorsed: VerifiedCollateral, now: datetime) -> Certificate:
    if der == endorsed.pck_ca.der:
        return endorsed.pck_ca
    ca = certs.load(der)
    certs.check(ca, Role.PCK_CA, now)
    certs.check_issued(ca, endorsed.anchor.root, below=1)
    endorsed.root_crl.check(ca)
    # Intel has certified the same CA key more than once; what matters is that the revocation list is of this CA.
    if ca.subject != endorsed.pck_crl.issuer or ca.spki != endorsed.pck_crl.issuer_spki:
        raise rejected(Step.CHAIN, "crl.issuer_mismatched", "the revocation list is of another PCK CA")
    return ca


def check_family(quote: Quote, platform: Platform, endorsed: VerifiedCollateral) -> None:
    """Check that the collateral is about the quote's TEE and platform family.

    Raises:
        EvidenceRejected: Step 2.
    """
    tcb_info = endorsed.tcb_info
    if tcb_info.tee is not quote.tee or endorsed.qe_identity.tee is not quote.tee:
        raise rejected(Step.CHAIN, "collateral.mismatched", "the collateral is about another TEE")
    if (tcb_info.fmspc, tcb_info.pce_id) != (platform.fmspc, platform.pce_id):
        raise rejected(Step.CHAIN, "collateral.mismatched", "the collateral is about another platform family")


def verify_quoting_enclave(quote: Quote, pck: Certificate, identity: QeIdentity) -> Standing:
    """Check that the quoting enclave Intel describes, on the platform of `pck`, vouches for the attestation key.

    Raises:
        EvidenceRejected: Step 3.
    """
    step = Step.QUOTING_ENCLAVE
    report = quote.qe_report
    signature.check(
        pck.public_key,
        quote.qe_report_signature,
        quote.qe_report_raw,
        step=step,
        reason="qe_report.signature_broken",
    )
    if len(quote.qe_auth_data) != QE_AUTH_DATA_BYTES:
        raise rejected(step, "qe_auth_data.malformed", "the quoting enclave's authentication data has a wrong length")
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest()
    if report.report_data != bound + bytes(32):
        raise rejected(step, "qe_report.data_mismatched", "the quoting enclave vouches for another attestation key")
    masked = bytes(one & mask for one, mask in zip(report.attributes, identity.attributes_mask, strict=True))
    if (
        report.debug
        or masked != identity.attributes
        or report.miscselect & identity.miscselect_mask != identity.miscselect
        or report.mrsigner != identity.mrsigner
        or report.isvprodid != identity.isvprodid
    ):
        raise rejected(step, "qe_identity.mismatched", "the quoting enclave is not the one Intel describes")
    return enclave_standing(identity.levels, report.isvsvn, step=step, reason="qe_identity.level_missing")


def verify_signature(quote: Quote) -> None:
    """Check that the attestation key signed the quote's header and body.

    Raises:
        EvidenceRejected: Step 4.
    """
    reason = "quote.signature_broken"
    key = signature.public_key(quote.attestation_key, step=Step.SIGNATURE, reason=reason)
    signature.check(key, quote.signature, quote.signed, step=Step.SIGNATURE, reason=reason)
