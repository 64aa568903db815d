"""Who judges evidence: the seam between an answered challenge and the computation that decides what to believe.

`Threads` judges in this process. It suits tests and places where a process may start no other, as in an enclave. The
pool in `judge_pool.py` judges in processes of their own, so that no judgement holds this one's event loop up.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Appraisal, Evidence, Expected, appraise
from cloister.appraisal.policy import Policy
from cloister.verifier.collateral import Endorsements


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One piece of evidence, and all that it is judged by. `now` is aware UTC."""

    evidence: Evidence = field(repr=False)
    expect: Expected = field(repr=False)
    endorsements: Endorsements
    policy: Policy
    now: datetime


class Judge(Protocol):
    """Judges one case at a time, or several."""

    async def judge(self, case: Case) -> Appraisal:
        """What to believe.

        Raises:
            EvidenceRejected: A check objected.
            Unavailable: The judgement did not come to an end; another attempt may.
            InternalError: It failed for a reason that is ours, and would again.
        """


class Threads:
    """Judges under one trust anchor, on threads of this process."""

    def __init__(self, anchor: TrustAnchor) -> None:
        self._anchor = anchor

    async def judge(self, case: Case) -> Appraisal:
        """As `Judge.judge`."""
        return await asyncio.to_thread(self._judged, case)

    def _judged(self, case: Case) -> Appraisal:
        verified = case.endorsements.verified
        return appraise(case.evidence, verified, case.policy, self._anchor, case.now, expect=case.expect)
