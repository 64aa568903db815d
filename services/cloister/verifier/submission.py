"""What a caller sends in answer to a challenge, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cloister.appraisal.quote import MAX_QUOTE_BYTES
from cloister.appraisal.steps import Step, rejected
from cloister.evidence.binding import MAX_CLAIMS_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a caller sends in answer to a challenge; `tls_spki` is the DER of the key that the claims carry."""

    challenge_id: bytes = field(repr=False)
    claims: bytes = field(repr=False)
    quote: bytes = field(repr=False)
    tls_spki: bytes
    endpoint: str

    @property
    def oversized(self) -> bool:
        """Whether quote or claims are larger than any can be."""
        return len(self.quote) > MAX_QUOTE_BYTES or len(self.claims) > MAX_CLAIMS_BYTES

    def check_size(self) -> None:
        """Refuse what is oversized, as the appraisal would; raises EvidenceRejected."""
        if len(self.quote) > MAX_QUOTE_BYTES:
            raise rejected(Step.QUOTE, "quote.too_large", "the quote is larger than any can be")
        if len(self.claims) > MAX_CLAIMS_BYTES:
            raise rejected(Step.BINDING, "claims.malformed", "the claims are larger than any can be")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The answer to believed evidence; the chain (PEM, leaf first) is empty unless the purpose was MESH."""

    attestation_result: str = field(repr=False)
    certificate_chain: bytes
    expires_at: datetime
