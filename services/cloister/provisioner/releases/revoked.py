"""Whether an Attestation Result is of something that has been revoked since it was signed (attacks E11, J14, H05)."""

from __future__ import annotations

from typing import Protocol

from cloister.ear import AttestationResult
from cloister.errors import KeyRefused
from cloister.kit.revocation import names_of, revoked
from cloister.kit.trust_feed import TrustFeed


class Standing(Protocol):
    """Whether a result still counts."""

    def check(self, result: AttestationResult) -> None:
        """Raise KeyRefused when it does not, NotReady when that cannot be told. For any thread."""


class Followed:
    """What the verifier told last; nothing is released while it has not been heard for too long.

    Args:
        feed: Follows the verifier.
        silence_s: How long without a sign of life keys are still released.
    """

    def __init__(self, feed: TrustFeed, *, silence_s: float) -> None:
        self._feed = feed
        self._silence_s = silence_s

    def check(self, result: AttestationResult) -> None:
        """See `Standing`."""
        self._feed.check_heard(self._silence_s)
        found = revoked(names_of(result), self._feed.revoked)
        if found is not None:
            raise KeyRefused(f"its {found.kind.value} is revoked", reason=found.kind.refusal)


class Unfollowed:
    """For settings that name no verifier to follow: results count until they end, five minutes at most."""

    def check(self, result: AttestationResult) -> None:
        """See `Standing`."""
