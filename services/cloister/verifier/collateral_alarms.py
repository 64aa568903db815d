"""What an operator should hear about collateral, in log and metrics: when it ends, and when a clock is wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cloister.appraisal import freshness
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.family import Family
from cloister.errors import Unavailable
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.verifier.collateral import CollateralStore

# Intel's collateral lives 30 days: warn while there is time to fetch another.
WARN_BEFORE: Final = timedelta(days=10)

_log = get_logger()


def look(store: CollateralStore, metrics: Metrics, now: datetime) -> None:
    """Look at the operator's file and at what is in force, and say what is wrong with it. Blocking."""
    try:
        store.look(now)
        store.again(now)
    except Unavailable as error:
        _log.error("collateral.not_remembered", error=error, consequence="newer collateral does not come into force")
    expiring = _expiring(store, metrics, now)
    future = _from_future(store, now)
    if future:
        _log.error("clock.suspected", meaning="collateral is from the future, or this machine's clock is behind")
    if not store.held:
        reasons = sorted({error.reason for error in store.objections.values()})
        _log.error("collateral.unusable", reasons=reasons, consequence="every new appraisal is refused")
    metrics.collateral_watched(expiring=expiring, from_future=future)


def _from_future(store: CollateralStore, now: datetime) -> bool:
    if any(one.verified.valid_from > now for one in store.held.values()):
        return True
    return any(freshness.from_future(Collateral.parse(raw), now) for raw in store.refused)


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
