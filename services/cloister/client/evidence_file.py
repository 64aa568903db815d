"""Evidence in a file: a quote, an RA-TLS certificate, or an evidence bundle with claims, collateral and EAR."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.client.bundle import TrustBundle
from cloister.client.judging import Judgement, judge
from cloister.client.trust import vouched
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.evidence import certificate, ratls
from cloister.rpc.files import read_public

# A SEQUENCE of more than 127 bytes, as every certificate is and no message with the fields of a bundle.
_DER_BEGIN: Final = (b"\x30\x81", b"\x30\x82", b"\x30\x83")


class Kind(StrEnum):
    """What a file was found to be, by its content."""

    QUOTE = "quote"
    CERTIFICATE = "RA-TLS certificate"
    BUNDLE = "evidence bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFile:
    """Evidence as it was kept; nothing in it is believed yet.

    Attributes:
        raw_quote: Empty for a certificate, whose quote is read when it is judged.
        claims_bytes: What the quote should be over; None where no claims of a Cloister worker came with it.
        raw_collateral: Empty where there is none.
        raw_certificate: Empty but for a certificate.
        bundle: As it came, for a bundle.
    """

    kind: Kind = Kind.QUOTE
    raw_quote: bytes = field(default=b"", repr=False)
    claims_bytes: bytes | None = field(default=None, repr=False)
    raw_collateral: bytes = field(default=b"", repr=False)
    raw_certificate: bytes = field(default=b"", repr=False)
    bundle: EvidenceBundle | None = field(default=None, repr=False)

    @classmethod
    def read(cls, path: Path, collateral: Path | None = None) -> EvidenceFile:
        """Read evidence, with other collateral than it may bring along where a file of it is named.

        Raises:
            NotReady: A file cannot be read.
        """
        found = cls.parse(read_public(path))
        return found if collateral is None else replace(found, raw_collateral=read_public(collateral))

    @classmethod
    def parse(cls, raw: bytes) -> EvidenceFile:
        """Tell the kinds apart; what is neither certificate nor bundle with a quote in it is judged as a quote.

        No quote parses as a bundle: it begins with its version, 3 to 5, and no message with a byte below 8.
        """
        if raw.lstrip().startswith(certificate.PEM_BEGIN) or raw.startswith(_DER_BEGIN):
            return cls(kind=Kind.CERTIFICATE, raw_certificate=raw)
        try:
            bundle = EvidenceBundle.FromString(raw)
        except DecodeError:
            return cls(raw_quote=raw)
        return cls.of(bundle) if bundle.evidence.quote else cls(raw_quote=raw)

    @classmethod
    def of(cls, bundle: EvidenceBundle) -> EvidenceFile:
        """The evidence in a bundle."""
        return cls(
            kind=Kind.BUNDLE,
            raw_quote=bundle.evidence.quote,
            claims_bytes=bundle.evidence.claims,
            raw_collateral=bundle.collateral,
            bundle=bundle,
        )


def judge_file(
    evidence: EvidenceFile, trust: TrustBundle | None, now: datetime, *, allow_legacy_ra_tls: bool = False
) -> Judgement:
    """Judge evidence by a trust bundle, or where there is none, by Intel's root and the default policy.

    An RA-TLS certificate is judged as what it is, any attester's: the trust bundle says which root, policy and code are
    believed, and its claims need not be a Cloister worker's. The Attestation Result in a bundle must agree; only a
    trust bundle says whose that may be.
    """
    if evidence.kind is Kind.CERTIFICATE:
        return _judge_certificate(evidence, trust, now, allow_legacy_ra_tls)
    anchor, policy = _root_and_policy(trust)
    found = judge(
        evidence.raw_quote,
        evidence.raw_collateral,
        anchor,
        policy,
        now,
        claims_bytes=evidence.claims_bytes,
        trust=trust,
    )
    if evidence.bundle is None or trust is None or not found.believed:
        return found
    try:
        result, _ = vouched(evidence.bundle, trust, now)
    except (EvidenceRejected, InvalidRequest) as error:
        return replace(found, refusal=error)
    return replace(found, result=result)


def _judge_certificate(
    evidence: EvidenceFile, trust: TrustBundle | None, now: datetime, allow_legacy: bool
) -> Judgement:
    anchor, policy = _root_and_policy(trust)
    try:
        attester = ratls.read(evidence.raw_certificate, now, allow_legacy=allow_legacy)
    except (EvidenceRejected, InvalidRequest) as error:
        return Judgement.unread(error, anchor, policy, now)
    found = judge(
        attester.raw_quote,
        evidence.raw_collateral,
        anchor,
        policy,
        now,
        report_data=attester.report_data,
        trust=trust,
    )
    return replace(found, attester=attester)


def _root_and_policy(trust: TrustBundle | None) -> tuple[TrustAnchor, Policy]:
    return (INTEL_SGX, Policy.default()) if trust is None else (trust.anchor, trust.policy())
