from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from cloister.kit.metrics import Metrics
from cloister.verifier import collateral_alarms
from fakes.held_collateral import HeldCollateral, family_of


def looked(held: HeldCollateral, now: datetime) -> tuple[Metrics, list[tuple[str, str]]]:
    """The metrics, and event and level of what is in the log, apart from what comes into force."""
    metrics = Metrics()
    with capture_logs() as logs:
        collateral_alarms.look(held.store, metrics, now)
    return metrics, [(one["event"], one["log_level"]) for one in logs if one["event"] != "collateral.adopted"]


def test_fresh_collateral_raises_no_alarm(held: HeldCollateral, now: datetime) -> None:
    metrics, logs = looked(held, now)
    assert logs == []
    value = metrics.registry.get_sample_value
    family = {"family": str(family_of(held.platform))}
    until = held.store.held[family_of(held.platform)].verified.valid_until
    assert value("cloister_collateral_valid_until_seconds", family) == until.timestamp()
    assert value("cloister_collateral_revoked_platforms", family) == 0
    assert (value("cloister_collateral_expiring"), value("cloister_collateral_from_future")) == (0, 0)


@pytest.mark.attack("B17")
@pytest.mark.parametrize(
    ("days", "alarm"),
    [
        (19, []),
        (21, [("collateral.expiring", "warning")]),
        (31, [("collateral.expired", "error")]),
    ],
)
def test_the_end_is_announced_ten_days_ahead(
    held: HeldCollateral, now: datetime, days: int, alarm: list[tuple[str, str]]
) -> None:
    looked(held, now)
    metrics, logs = looked(held, now + timedelta(days=days))
    assert logs == alarm
    assert metrics.registry.get_sample_value("cloister_collateral_expiring") == len(alarm)


@pytest.mark.attack("B09")
@pytest.mark.parametrize("started", [True, False])
def test_a_clock_that_is_set_back_a_year_is_suspected(held: HeldCollateral, now: datetime, started: bool) -> None:
    if started:
        looked(held, now)
    past = now - timedelta(days=365)
    metrics, logs = looked(held, past)
    assert ("clock.suspected", "error") in logs
    assert metrics.registry.get_sample_value("cloister_collateral_from_future") == 1


def test_no_collateral_at_all_is_said_loudly(held: HeldCollateral, now: datetime) -> None:
    _, logs = looked(held, now + timedelta(days=31))
    assert ("collateral.unusable", "error") in logs
