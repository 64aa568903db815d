"""What an operator should hear about collateral, in log and metrics: when it ends, and when a clock is wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cloister.appraisal.family import Family
from cloister.errors import Unavailable
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.verifier.collateral import CollateralStore

# Intel's collateral lives 30 days: warn while there is time to fetch another.
WARN_BEFORE: Final = timedelta(days=10)
FROM_FUTURE: Final = "collateral.not_yet_valid"

_log = get_logger()


def look(store: CollateralStore, metrics: Metrics, now: datetime) -> None:
    """Look at the operator's file and at what is in force, and say what is wrong with it. Blocking."""
    try:
        store.look(now)
        store.again(now)
    except Unavailable as error:
        _log.error("collateral.not_remembered", error=error, consequence="newer collateral does not come into force")
    expiring = _expiring(store, metrics, now)
    reasons = [error.reason for family, error in store.objections.items() if family not in store.held]
    future = FROM_FUTURE in reasons or any(one.verified.valid_from > now for one in store.held.values())
    if future:
        _log.error("clock.suspected", meaning="collateral is from the future, or this machine's clock is behind")
    if not store.held:
        _log.error("collateral.unusable", reasons=sorted(set(reasons)), consequence="every new appraisal is refused")
    metrics.collateral_watched(expiring=expiring, from_future=future)


def _expiring(store: CollateralStore, metrics: Metrics, now: datetime) -> int:
    """How many families are near their end, or past it."""
    count = 0
    for family, one in store.held.items():
        until = one.verified.valid_until
        metrics.collateral_held(str(family), until.timestamp(), revoked=len(one.verified.pck_crl.serials))
        if until - now < WARN_BEFORE:
            count += 1
            _warn(family, until, now)
    return count


def _warn(family: Family, until: datetime, now: datetime) -> None:
    if until <= now:
        _log.error("collateral.expired", family=str(family), consequence="its new appraisals are refused")
    else:
        _log.warning("collateral.expiring", family=str(family), valid_until=until)
