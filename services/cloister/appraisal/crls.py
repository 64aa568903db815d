"""Certificate revocation lists: by the right CA, current at `now`, and without doubt about what they cover.

RFC 5280 section 5. A missing, stale or future list is a reason to refuse, never a reason to carry on without one. Every
entry counts as revoked whatever its reason code; delta and indirect lists announce themselves by critical extensions,
and those are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import SignatureAlgorithmOID

from cloister.appraisal.certs import Certificate
from cloister.appraisal.steps import Step, rejected

_MALFORMED: Final = (
    ValueError,
    TypeError,
    UserWarning,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """A verified list: these serials of the issuer are revoked. Good from `this_update` until before `next_update`."""

    issuer: x509.Name
    issuer_spki: bytes = field(repr=False)
    this_update: datetime
    next_update: datetime
    serials: frozenset[int] = field(repr=False)

    def check(self, certificate: Certificate) -> None:
        """Check that `certificate`, which must be of this list's issuer, is not revoked.

        Raises:
            EvidenceRejected: Step 2.
        """
        if certificate.issuer != self.issuer:
            raise rejected(Step.CHAIN, "crl.issuer_mismatched", "a revocation list is not about this certificate")
        if certificate.serial in self.serials:
            raise rejected(Step.CHAIN, "certificate.revoked", f"{certificate.common_name} is revoked")


def verify(der: bytes, issuer: Certificate, now: datetime) -> RevocationList:
    """Read a revocation list that `issuer`, whose own chain the caller checks, must have signed.

    Raises:
        EvidenceRejected: Step 2.
    """
    try:
        crl = x509.load_der_x509_crl(der)
        named = crl.issuer  # parsed no sooner than it is asked for, as are the others
        this_update, next_update = crl.last_update_utc, crl.next_update_utc
        critical = [extension.oid for extension in crl.extensions if extension.critical]
        serials = frozenset(entry.serial_number for entry in crl)
    except _MALFORMED:
        raise rejected(Step.CHAIN, "crl.malformed", "a revocation list does not parse") from None
    if critical or next_update is None:
        raise rejected(Step.CHAIN, "crl.malformed", "a revocation list is partial, indirect or without an end")
    if named != issuer.subject:
        raise rejected(Step.CHAIN, "crl.issuer_mismatched", "a revocation list is of another CA")
    if crl.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256 or not crl.is_signature_valid(
        issuer.public_key
    ):
        raise rejected(Step.CHAIN, "crl.signature_broken", "a revocation list is not signed by its CA")
    if not this_update <= now < next_update:
        raise rejected(Step.CHAIN, "crl.expired", "a revocation list is not current at this time")
    return RevocationList(
        issuer=named,
        issuer_spki=issuer.spki,
        this_update=this_update,
        next_update=next_update,
        serials=serials,
    )
