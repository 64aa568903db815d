"""Evidence in a file: a quote as it is, or an evidence bundle, which brings claims and collateral along."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from google.protobuf.message import DecodeError

from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.appraisal.anchors import INTEL_SGX
from cloister.appraisal.policy import Policy
from cloister.client.bundle import TrustBundle
from cloister.client.judging import Judgement, judge
from cloister.rpc.files import read_public


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFile:
    """Evidence as it was kept; nothing in it is believed yet.

    Attributes:
        claims_bytes: What the quote should be over; None for a quote by itself.
        raw_collateral: Empty where there is none.
    """

    raw_quote: bytes = field(repr=False)
    claims_bytes: bytes | None = field(default=None, repr=False)
    raw_collateral: bytes = field(default=b"", repr=False)

    @classmethod
    def read(cls, path: Path, collateral: Path | None = None) -> EvidenceFile:
        """Read evidence, with other collateral than it may bring along where a file of it is named.

        Raises:
            NotReady: A file cannot be read.
        """
        found = cls.parse(read_public(path))
        if collateral is None:
            return found
        return cls(raw_quote=found.raw_quote, claims_bytes=found.claims_bytes, raw_collateral=read_public(collateral))

    @classmethod
    def parse(cls, raw: bytes) -> EvidenceFile:
        """Tell a bundle from a quote; what is not a bundle with a quote in it is judged as a quote.

        No quote parses as a bundle: it begins with its version, 3 to 5, and no message with a byte below 8.
        """
        try:
            bundle = EvidenceBundle.FromString(raw)
        except DecodeError:
            return cls(raw_quote=raw)
        return cls.of(bundle) if bundle.evidence.quote else cls(raw_quote=raw)

    @classmethod
    def of(cls, bundle: EvidenceBundle) -> EvidenceFile:
        """The evidence in a bundle."""
        return cls(
            raw_quote=bundle.evidence.quote,
            claims_bytes=bundle.evidence.claims,
            raw_collateral=bundle.collateral,
        )

    @property
    def is_bundle(self) -> bool:
        """Whether claims came with the quote."""
        return self.claims_bytes is not None


def judge_file(evidence: EvidenceFile, trust: TrustBundle | None, now: datetime) -> Judgement:
    """Judge evidence by a trust bundle, or where there is none, by Intel's root and the default policy."""
    return judge(
        evidence.raw_quote,
        evidence.raw_collateral,
        INTEL_SGX if trust is None else trust.anchor,
        Policy.default() if trust is None else trust.policy(),
        now,
        claims_bytes=evidence.claims_bytes,
        trust=trust,
    )
