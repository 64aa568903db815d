"""Collateral: all that Intel publishes about a platform and its quoting enclave, and the check that it did.

`Collateral.parse` reads the JSON form that quote verification libraries exchange (QuoteCollateralV3: PEM chains, hex
CRLs and signatures, the two signed documents as text). Nothing is believed until `Collateral.verified` has led every
piece back to an anchor at a given time. That is more work than the rest of an appraisal, and the same for every quote
of a platform family, so its result, `VerifiedCollateral`, can be kept and used for as long as it says.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cloister.appraisal import certs, crls, signature, strict_json
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.certs import Certificate, Role
from cloister.appraisal.chains import VerifiedChains
from cloister.appraisal.crls import RevocationList
from cloister.appraisal.endorsements import MAX_DOCUMENT_BYTES, QeIdentity, TcbInfo, parse_qe_identity, parse_tcb_info
from cloister.appraisal.steps import Step, rejected
from cloister.appraisal.strict_json import Record

MAX_COLLATERAL_BYTES: Final = 256 * 1024

_MEMBERS: Final = (
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "pck_crl",
    "tcb_info_issuer_chain",
    "tcb_info",
    "tcb_info_signature",
    "qe_identity_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
    "pck_certificate_chain",
)
_MAX_CHAIN_CHARACTERS: Final = 16 * 1024
_MAX_CRL_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """Well-formed collateral, believed by nobody yet.

    Attributes:
        pck_certificate_chain: Of the platform, where the source added it; must then be the quote's own. None otherwise.
        sha256: Of the JSON it was read from.
    """

    pck_crl_issuer_chain: str = field(repr=False)
    root_ca_crl: bytes = field(repr=False)
    pck_crl: bytes = field(repr=False)
    tcb_info_issuer_chain: str = field(repr=False)
    tcb_info_document: str = field(repr=False)
    tcb_info_signature: bytes = field(repr=False)
    qe_identity_issuer_chain: str = field(repr=False)
    qe_identity_document: str = field(repr=False)
    qe_identity_signature: bytes = field(repr=False)
    pck_certificate_chain: str | None = field(repr=False)
    tcb_info: TcbInfo = field(repr=False)
    qe_identity: QeIdentity = field(repr=False)
    sha256: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Collateral:
        """Read collateral.

        Args:
            raw: UTF-8 JSON, at most 256 KiB; what Intel publishes takes about 50.

        Raises:
            InvalidRequest: Reason `collateral.malformed` or `collateral.unsupported`; the message names the member.
        """
        record = strict_json.parse(raw, path="collateral", max_bytes=MAX_COLLATERAL_BYTES)
        record.refuse_others(*_MEMBERS)
        tcb_info_document = record.text("tcb_info", max_length=MAX_DOCUMENT_BYTES)
        qe_identity_document = record.text("qe_identity", max_length=MAX_DOCUMENT_BYTES)
        return cls(
            pck_crl_issuer_chain=record.text("pck_crl_issuer_chain", max_length=_MAX_CHAIN_CHARACTERS),
            root_ca_crl=record.octets("root_ca_crl", max_length=_MAX_CRL_BYTES),
            pck_crl=record.octets("pck_crl", max_length=_MAX_CRL_BYTES),
            tcb_info_issuer_chain=record.text("tcb_info_issuer_chain", max_length=_MAX_CHAIN_CHARACTERS),
            tcb_info_document=tcb_info_document,
            tcb_info_signature=record.octets("tcb_info_signature", 64),
            qe_identity_issuer_chain=record.text("qe_identity_issuer_chain", max_length=_MAX_CHAIN_CHARACTERS),
            qe_identity_document=qe_identity_document,
            qe_identity_signature=record.octets("qe_identity_signature", 64),
            pck_certificate_chain=_optional_chain(record),
            tcb_info=parse_tcb_info(tcb_info_document),
            qe_identity=parse_qe_identity(qe_identity_document),
            sha256=hashlib.sha256(raw).digest(),
        )

    def to_json(self) -> bytes:
        """The QuoteCollateralV3 JSON of these parts; of the documents, the exact text that is signed."""
        chain = {} if self.pck_certificate_chain is None else {"pck_certificate_chain": self.pck_certificate_chain}
        members = {
            "pck_crl_issuer_chain": self.pck_crl_issuer_chain,
            "root_ca_crl": self.root_ca_crl.hex(),
            "pck_crl": self.pck_crl.hex(),
            "tcb_info_issuer_chain": self.tcb_info_issuer_chain,
            "tcb_info": self.tcb_info_document,
            "tcb_info_signature": self.tcb_info_signature.hex(),
            "qe_identity_issuer_chain": self.qe_identity_issuer_chain,
            "qe_identity": self.qe_identity_document,
            "qe_identity_signature": self.qe_identity_signature.hex(),
        }
        return json.dumps(members | chain).encode()

    def verified(self, anchor: TrustAnchor, now: datetime) -> VerifiedCollateral:
        """Lead every piece back to `anchor`, at `now`.

        Raises:
            EvidenceRejected: Step 2, with a reason that begins with `anchor`, `certificate`, `chain`, `collateral`
                or `crl`.
        """
        certs.check(anchor.root, Role.ROOT, now)
        root_crl = crls.verify(self.root_ca_crl, anchor.root, now)
        root_crl.check(anchor.root)
        pck_ca = _issued_by_root(self.pck_crl_issuer_chain, Role.PCK_CA, anchor, root_crl, now)
        pck_crl = crls.verify(self.pck_crl, pck_ca, now)
        signers = [
            self._check_document(chain, document, signed, anchor, root_crl, now)
            for chain, document, signed in (
                (self.tcb_info_issuer_chain, self.tcb_info_document, self.tcb_info_signature),
                (self.qe_identity_issuer_chain, self.qe_identity_document, self.qe_identity_signature),
            )
        ]
        _check_dates(self.tcb_info.issue_date, self.tcb_info.next_update, now)
        _check_dates(self.qe_identity.issue_date, self.qe_identity.next_update, now)
        begins = [self.tcb_info.issue_date, self.qe_identity.issue_date, root_crl.this_update, pck_crl.this_update]
        ends = [self.tcb_info.next_update, self.qe_identity.next_update, root_crl.next_update, pck_crl.next_update]
        certificates = (anchor.root, pck_ca, *signers)
        return VerifiedCollateral(
            collateral=self,
            anchor=anchor,
            pck_ca=pck_ca,
            root_crl=root_crl,
            pck_crl=pck_crl,
            valid_from=max(begins + [certificate.not_before for certificate in certificates]),
            valid_until=min(ends + [certificate.not_after for certificate in certificates]),
        )

    @staticmethod
    def _check_document(
        chain: str, document: str, signed: bytes, anchor: TrustAnchor, root_crl: RevocationList, now: datetime
    ) -> Certificate:
        signer = _issued_by_root(chain, Role.TCB_SIGNER, anchor, root_crl, now)
        signature.check(
            signer.public_key,
            signed,
            document.encode("utf-8"),
            step=Step.CHAIN,
            reason="collateral.signature_broken",
        )
        return signer


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCollateral:
    """Collateral that leads back to `anchor` at any time from `valid_from` until before `valid_until`.

    Attributes:
        pck_ca: The CA whose certificates `pck_crl` is about; a quote's PCK certificate must be of this CA.
        chains: PCK chains that were verified under exactly this; never passed on to a copy.
    """

    collateral: Collateral
    anchor: TrustAnchor
    pck_ca: Certificate = field(repr=False)
    root_crl: RevocationList = field(repr=False)
    pck_crl: RevocationList = field(repr=False)
    valid_from: datetime
    valid_until: datetime
    chains: VerifiedChains = field(init=False, repr=False, compare=False, default_factory=VerifiedChains)

    @property
    def tcb_info(self) -> TcbInfo:
        """Patch levels of the platform family."""
        return self.collateral.tcb_info

    @property
    def qe_identity(self) -> QeIdentity:
        """The quoting enclave there should be."""
        return self.collateral.qe_identity

    @property
    def evaluation(self) -> int:
        """Evaluation data number that all of it reaches: the smaller of the two documents'."""
        return min(self.tcb_info.evaluation, self.qe_identity.evaluation)

    def verified(self, anchor: TrustAnchor, now: datetime) -> VerifiedCollateral:
        """Check that what was found then holds for `anchor` and `now` too; the cheap half of `Collateral.verified`.

        Raises:
            EvidenceRejected: Step 2; another anchor, or a time outside the window.
        """
        if anchor != self.anchor:
            raise rejected(Step.CHAIN, "anchor.untrusted", "the collateral was verified under another trust anchor")
        _check_dates(self.valid_from, self.valid_until, now)
        return self


def _optional_chain(record: Record) -> str | None:
    name = "pck_certificate_chain"
    return record.text(name, max_length=_MAX_CHAIN_CHARACTERS) if record.has(name) else None


def _issued_by_root(
    chain: str, role: Role, anchor: TrustAnchor, root_crl: RevocationList, now: datetime
) -> Certificate:
    """Verify a chain of two: a certificate of this role, and the anchor's root."""
    ders = certs.split_pem(chain.encode("utf-8"))
    certificate = certs.load(ders[0])
    certs.check(certificate, role, now)
    if len(ders) != 2:
        raise rejected(Step.CHAIN, "chain.broken", f"the {role.name} chain is not of two certificates")
    anchor.check_is_root(ders[1])
    certs.check_issued(certificate, anchor.root, below=1 if role is Role.PCK_CA else 0)
    root_crl.check(certificate)
    return certificate


def _check_dates(begin: datetime, end: datetime, now: datetime) -> None:
    if now < begin:
        raise rejected(Step.CHAIN, "collateral.not_yet_valid", "the collateral is from the future")
    if now >= end:
        raise rejected(Step.CHAIN, "collateral.expired", "the collateral has expired")
