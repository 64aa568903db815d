"""Refused releases on record: each with its reason, but no more of one caller than the disk can bear.

A record that cannot be written stops all releases, and a refusal costs its caller nothing. So whoever has a worker's
TLS identity, and no more than that, could fill the disk with lines. Of one caller so many a minute have their line;
that there were others is a line of its own, and all of them are counted (attacks F01, F14).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from cloister.ear import AttestationResult
from cloister.errors import CloisterError, Overloaded
from cloister.kit.metrics import Metrics
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.releases.lines import objections, result_facts
from cloister.provisioner.releases.rates import Rates

REFUSED: Final = "key.refused"
MUTED: Final = "refusals.muted"
LINES_A_MINUTE: Final = 120


class Refusals:
    """Counts refusals, and has them recorded.

    Args:
        ledger: With the record.
        metrics: Count all of them.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(self, ledger: Ledger, metrics: Metrics, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._lines = Rates(per_minute=LINES_A_MINUTE, monotonic=monotonic)
        self._muted = Rates(per_minute=1, monotonic=monotonic)

    async def record(
        self, refusal: CloisterError, *, model: str, version: int, peer: str, result: AttestationResult | None
    ) -> None:
        """Record one.

        Args:
            refusal: Why.
            model: That was asked for.
            version: Of it; 0 for the newest.
            peer: SPIFFE id of who asked.
            result: That was brought, as far as it was believed.

        Raises:
            Unavailable: It cannot be written.
        """
        simulated = result.simulated if result is not None else None
        self._metrics.key_asked(released=False, simulated=simulated, reason=refusal.reason)
        try:
            self._lines.take(peer)
        except Overloaded:
            await self._mute(peer)
            return
        await self._ledger.appended(
            REFUSED,
            reason=refusal.reason,
            model=model,
            version=version,
            peer=peer,
            **(result_facts(result) if result is not None else {}),
            **objections(refusal),
        )

    async def _mute(self, peer: str) -> None:
        try:
            self._muted.take(peer)
        except Overloaded:
            return
        await self._ledger.appended(MUTED, peer=peer, lines_a_minute=LINES_A_MINUTE)
