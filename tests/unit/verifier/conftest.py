from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes.held_collateral import HeldCollateral
from fakes.sim import simulated_platform


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def held(tmp_path: Path, now: datetime) -> HeldCollateral:
    """A simulated platform's collateral in a file, and a store that has not looked at it yet."""
    made = HeldCollateral(tmp_path, simulated_platform(now))
    made.publish()
    made.restart()
    return made
