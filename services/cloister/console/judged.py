"""Evidence of a worker with the console's own judgement of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cloister import ear
from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.client import EvidenceFile, Judgement, TrustBundle, judge_file
from cloister.ear import AttestationResult
from cloister.errors import EvidenceRejected


@dataclass(frozen=True, slots=True)
class Judged:
    """What a worker showed.

    Attributes:
        bundle: As the verifier handed it over.
        judgement: By our trust bundle, when it came.
        result: What the Attestation Result says; believed only where `judgement` is. None where it is no Result.
    """

    bundle: EvidenceBundle = field(repr=False)
    judgement: Judgement
    result: AttestationResult | None


def judged(bundle: EvidenceBundle, trust: TrustBundle, now: datetime) -> Judged:
    """Judge evidence as any client of this mesh would; some milliseconds of work."""
    try:
        result = ear.unverified(bundle.attestation_result)
    except EvidenceRejected:
        result = None
    return Judged(bundle, judge_file(EvidenceFile.of(bundle), trust, now), result)
