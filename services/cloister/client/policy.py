"""Appraisal policies for the people who decide about them: read, sign, and see whom a proposed one would refuse.

Pure but for the two that read files. Nothing here is believed for its signatures: whose count is the
verifier's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.appraisal.policy_document import PAYLOAD_TYPE, PolicyDocument
from cloister.client.evidence_file import EvidenceFile
from cloister.client.judging import Judgement, judge
from cloister.rpc.files import read_public

__all__ = [
    "Consequence",
    "KeptEvidence",
    "PolicyDocument",
    "consequences",
    "kept_in",
    "read_policy",
    "signed_policy",
]

OTHER_FAMILY: Final = "collateral.mismatched"


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """Evidence of one worker, and what people call it: its instance, or its file."""

    name: str
    evidence: EvidenceFile


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a policy would come to for one worker."""

    name: str
    found: Judgement

    @property
    def falls(self) -> bool:
        """Whether the policy would refuse it."""
        return not self.found.believed


def read_policy(path: Path) -> PolicyDocument:
    """Read a policy's file, TOML or an envelope.

    Raises:
        NotReady: It cannot be read.
        InvalidRequest: It is not a policy; the message names the key.
    """
    return PolicyDocument.read(read_public(path))


def signed_policy(document: PolicyDocument, key: Ed25519PrivateKey) -> bytes:
    """Return an envelope with one more signature on it.

    Raises:
        InvalidRequest: The policy has no version.
    """
    document.check_versioned()
    if document.enveloped:
        return dsse.countersigned(document.raw, PAYLOAD_TYPE, key)
    return dsse.sign(document.toml, PAYLOAD_TYPE, [key])


def consequences(
    policy: Policy, kept: Iterable[KeptEvidence], anchor: TrustAnchor, now: datetime, *, raw_collateral: bytes = b""
) -> Iterator[Consequence]:
    """Judge evidence anew under a policy, by the checks that the verifier judges members by.

    Args:
        policy: The proposal.
        kept: Evidence with the collateral that it brings along.
        anchor: What both must lead back to.
        now: Aware.
        raw_collateral: In place of what evidence of the same platform family brings along; empty for none.
    """

    def judged(evidence: EvidenceFile, collateral: bytes) -> Judgement:
        return judge(evidence.raw_quote, collateral, anchor, policy, now, claims_bytes=evidence.claims_bytes)

    for one in kept:
        found = judged(one.evidence, raw_collateral or one.evidence.raw_collateral)
        if raw_collateral and found.refusal is not None and found.refusal.reason == OTHER_FAMILY:
            found = judged(one.evidence, one.evidence.raw_collateral)
        yield Consequence(one.name, found)


def kept_in(folder: Path) -> list[KeptEvidence]:
    """Evidence bundles in the files `*.bundle` of a folder, by name.

    Raises:
        NotReady: One cannot be read.
    """
    return [KeptEvidence(path.stem, EvidenceFile.read(path)) for path in sorted(folder.glob("*.bundle"))]
