"""Grace: for how long a platform that misses fixes is lived with, by its TCB status (docs/decisions/0009).

Counted from the TCB date of what is behind. Intel gives each TCB level that date, and promises that every advisory
published until then is accounted for; so a fix that the platform misses has been public for no longer than the grace,
whatever Intel published since, and whichever rows the collateral has. Intel's own appraisal counts the same way. Grace
waives the status and nothing else: advisories still have to be accepted by name, and nothing waives `Revoked`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.steps import Step, rejected
from cloister.appraisal.tcb import Tcb
from cloister.errors import InvalidRequest

MAX_GRACE_DAYS: Final = 3650

LATE: Final = frozenset(
    {
        TcbStatus.OUT_OF_DATE,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
        TcbStatus.TD_RELAUNCH_ADVISED,
        TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
    }
)
"""The statuses that say a fix is missing. Waiting mends no setting of a machine, so no other status has grace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """How many days of grace one status has.

    Raises:
        InvalidRequest: A status that has none, or a number of days out of range.
    """

    status: TcbStatus
    days: int

    def __post_init__(self) -> None:
        if self.status not in LATE or not 1 <= self.days <= MAX_GRACE_DAYS:
            raise InvalidRequest(
                f"grace_days gives {self.status} a grace of {self.days} days, which no policy can",
                reason="policy.malformed",
            )

    def check(self, tcb: Tcb, now: datetime) -> None:
        """Check that the grace is not over; its last second is still within.

        Raises:
            EvidenceRejected: Step 7, reason `grace.exceeded`.
        """
        if now - tcb.patched_to > timedelta(days=self.days):
            raise rejected(
                Step.POLICY,
                "grace.exceeded",
                f"TCB status {tcb.status} is accepted for {self.days} days after the TCB date, and they are over",
            )
