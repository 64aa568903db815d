"""The numbered checks of an appraisal, and the one way in which they object.

The numbers are those of `verify.verify_quote` and `appraise.appraise`; they and the reasons go into the audit record
and into metrics, so neither changes its meaning once given.
"""

from __future__ import annotations

from enum import IntEnum

from cloister.errors import EvidenceRejected


class Step(IntEnum):
    """Which check objected."""

    QUOTE = 1
    """The bytes are a quote we know."""
    CHAIN = 2
    """Collateral and platform certificate are genuine, current, and about this platform."""
    QUOTING_ENCLAVE = 3
    """A known quoting enclave on that platform vouches for the attestation key."""
    SIGNATURE = 4
    """The attestation key signed exactly these bytes."""
    BINDING = 5
    """The quote is for this challenge and these keys."""
    TCB = 6
    """The platform is at a known patch level that is not revoked."""
    POLICY = 7
    """Platform and code are what the appraisal policy allows."""
    SECOND = 8
    """Another verifier, written by others, says the same."""


def rejected(step: Step, reason: str, message: str) -> EvidenceRejected:
    """Return the error for a check that objects; the caller raises it."""
    return EvidenceRejected(message, step=int(step), reason=reason)
