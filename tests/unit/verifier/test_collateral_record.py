"""An auditor finds in the record which collateral began to count, and what was refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.kit.audit import AuditLog
from cloister.kit.metrics import Metrics
from cloister.verifier.collateral_record import CollateralRecord
from cloister_simulator.platform import Platform
from fakes.held_collateral import HeldCollateral, family_of
from fakes.sim import simulated_platform


class Recorded:
    """Collateral that is recorded, and what has been."""

    def __init__(self, folder: Path, platform: Platform, audit: AuditLog) -> None:
        self.held = HeldCollateral(folder, platform)
        self.held.publish()
        self.metrics = Metrics()
        self.audit = audit
        record, store = CollateralRecord(audit, self.metrics), self.held.restart()
        store.on_refused.append(record.refused)
        store.on_adopted.append(lambda families: record.adopted(families, store.held))

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(entry.record) for entry in self.audit.records()]

    def counted(self, reason: str) -> float | None:
        return self.metrics.registry.get_sample_value("cloister_collateral_refusals_total", {"reason": reason})


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    with AuditLog.opened(tmp_path / "audit.db") as audit:
        yield Recorded(tmp_path, simulated_platform(), audit)


def test_what_comes_into_force_is_on_record(recorded: Recorded) -> None:
    found = recorded.held.current(datetime.now(UTC)).verified
    (entry,) = recorded.entries()
    assert entry["event"] == "collateral.adopted"
    assert entry["family"] == str(family_of(recorded.held.platform))
    assert entry["collateral_sha256"] == found.collateral.sha256.hex()
    assert entry["valid_until"] == found.valid_until.isoformat()


@pytest.mark.attack("G5")
def test_a_refusal_is_counted_and_recorded_once(recorded: Recorded) -> None:
    now = datetime.now(UTC)
    recorded.held.current(now)
    recorded.held.platform.tcb_evaluation -= 1
    recorded.held.publish()
    for _ in range(3):
        recorded.held.current(now)
    refusals = [entry for entry in recorded.entries() if entry["event"] == "collateral.refused"]
    assert [entry["reason"] for entry in refusals] == ["collateral.rolled_back"]
    assert recorded.counted("collateral.rolled_back") == 1


@pytest.mark.attack("G5")
def test_what_cannot_be_read_is_refused_without_a_family(recorded: Recorded) -> None:
    now = datetime.now(UTC)
    recorded.held.current(now)
    recorded.held.publish(b"<html>")
    recorded.held.current(now)
    assert recorded.entries()[-1]["family"] is None
    assert recorded.counted("collateral.malformed") == 1


def test_a_record_that_is_closed_stops_no_collateral(recorded: Recorded, tmp_path: Path) -> None:
    with AuditLog.opened(tmp_path / "closed.db") as closed:
        record = CollateralRecord(closed, recorded.metrics)
    record.refused("collateral.malformed", None)
    assert recorded.counted("collateral.malformed") == 1
