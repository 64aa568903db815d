"""How long an epoch lasts, and when the next one begins. Pure.

An epoch is in force for `epoch_s`. Who is given its key on the last day of that may go on with it for one lease, so it
is sealed to for a lease longer, and a little more, since clocks differ: whoever has a lease has a key that jobs may be
sealed to. The key opens for the longest life of a job beyond that, and is destroyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cloister.provisioner.models.epoch_store import StoredEpoch
from cloister.seal.hpke import SUITES, XWING
from cloister.seal.release_policy import MAX_LEASE_S, ReleasePolicy

DAY_S: Final = 86_400
OVERLAP_S: Final = 600
"""So long beyond the last lease an epoch is sealed to; twice what two clocks of a mesh may differ by."""
TOLERANCE_S: Final = 300
"""An epoch that begins so much later than now was begun by a clock that was ahead, and is in force no longer."""
MOST_BY_AGE: Final = 12
"""Epochs of one model that settings may have kept at once while its policy stays as it is."""
MOST_BY_POLICY: Final = 8
"""While so many are kept, a new policy begins none."""
MOST_JOB_LIFE_S: Final = 7 * DAY_S
MOST_EPOCH_S: Final = 7 * DAY_S


class Due(Enum):
    """When the next epoch begins."""

    NOW = "now"
    LATER = "later"
    DEFERRED = "deferred"
    """Its policy is not the one in force, and too many are kept to begin another for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochTerms:
    """What new epochs are like.

    Attributes:
        suite: Of their key pairs.
        epoch_s: After so long the next one begins.
        job_life_s: The longest that a job may wait for its answer.
    """

    suite: str = XWING
    epoch_s: int = DAY_S
    job_life_s: int = DAY_S

    def __post_init__(self) -> None:
        """Check them; raises ValueError."""
        if self.suite not in SUITES:
            raise ValueError(f"epoch_suite must be one of {', '.join(sorted(SUITES))}")
        if not 60 <= self.job_life_s <= MOST_JOB_LIFE_S:
            raise ValueError(f"job_life_s must be 60 to {MOST_JOB_LIFE_S}")
        least_s = -(-(self.job_life_s + MAX_LEASE_S + OVERLAP_S) // (MOST_BY_AGE - 2))
        if not least_s <= self.epoch_s <= MOST_EPOCH_S:
            raise ValueError(f"epoch_s must be {least_s} to {MOST_EPOCH_S} where job_life_s is {self.job_life_s}")

    def ends_ms(self, began_ms: int, lease_s: int) -> tuple[int, int]:
        """Until when an epoch is sealed to, and until when it is opened, in Unix time.

        Args:
            began_ms: When it begins.
            lease_s: The lease of the policy under which it does.
        """
        seal_until_ms = began_ms + (self.epoch_s + lease_s + OVERLAP_S) * 1000
        return seal_until_ms, seal_until_ms + self.job_life_s * 1000

    def next_is_due(self, kept: Sequence[StoredEpoch], policy: ReleasePolicy, now_ms: int) -> Due:
        """When the next one begins.

        Args:
            kept: What there is, newest first.
            policy: In force.
            now_ms: Unix time.
        """
        if not kept:
            return Due.NOW
        age_s = (now_ms - kept[0].began_ms) / 1000
        if not -TOLERANCE_S <= age_s < self.epoch_s:
            return Due.NOW
        if kept[0].seal_until_ms < now_ms + policy.lease_s * 1000:  # leases were shorter when it began, or epochs
            return Due.NOW
        if (kept[0].policy_digest, kept[0].suite) == (policy.digest, self.suite):
            return Due.LATER
        return Due.NOW if len(kept) < MOST_BY_POLICY else Due.DEFERRED
