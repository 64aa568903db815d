"""A simulated platform at a fixed time, whose evidence is wholly valid until a test breaks one thing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.verify import VerifiedQuote, verify_quote
from cloister_simulator.platform import Platform
from fakes.sim import simulated_platform


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def sim(now: datetime) -> Platform:
    return simulated_platform(now)


@pytest.fixture
def anchor(sim: Platform) -> TrustAnchor:
    return TrustAnchor("simulator", sim.root_der())


Verify = Callable[[], VerifiedQuote]


@pytest.fixture
def verify(sim: Platform, anchor: TrustAnchor, now: datetime) -> Verify:
    """Verify a quote of the platform as it is when this is called."""
    return lambda: verify_quote(sim.quote(bytes(64)), Collateral.parse(sim.collateral()), anchor, now)
