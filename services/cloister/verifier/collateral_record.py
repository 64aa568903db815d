"""What the record and the metrics hear of collateral: what came into force, and what was refused and why.

Collateral decides which platforms are believed, so an auditor must find in the record when which of it began to count.
A record that cannot be written stops nothing here: appraisals, which need it too, are refused as long as that lasts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cloister.appraisal.family import Family
from cloister.errors import Unavailable
from cloister.kit.audit import AuditLog
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.verifier.collateral_adoption import Endorsements

_log = get_logger()


class CollateralRecord:
    """Writes both. Blocking and thread safe."""

    def __init__(self, audit: AuditLog, metrics: Metrics) -> None:
        self._audit = audit
        self._metrics = metrics

    def adopted(self, families: Collection[Family], held: Mapping[Family, Endorsements]) -> None:
        """Other collateral is in force for these families."""
        for family in sorted(families):
            verified = held[family].verified
            self._append(
                "collateral.adopted",
                family=str(family),
                evaluation=verified.evaluation,
                valid_until=verified.valid_until.isoformat(),
                collateral_sha256=verified.collateral.sha256.hex(),
            )

    def refused(self, reason: str, family: Family | None) -> None:
        """Something was offered and is not in force; `family` is None where that could not be read."""
        self._metrics.collateral_refused(reason)
        self._append("collateral.refused", family=str(family) if family else None, reason=reason)

    def _append(self, event: str, **fields: str | int | None) -> None:
        try:
            self._audit.append(event, **fields)
        except Unavailable as error:
            _log.error("record.not_written", about=event, error=error)
