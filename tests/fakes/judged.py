"""Quotes judged as production judges them, for tests that play attacks: those of the corpus, and a simulator's."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pytest

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.client import Judgement, judge
from cloister_simulator.platform import Platform
from fakes import corpus
from fakes.corpus import Evaluation
from fakes.sim import simulated_platform
from fakes.sim_breaks import BREAKS

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def of_corpus(*patterns: str) -> pytest.MarkDecorator:
    """Run a test for every evaluation `one` whose name fits; a pattern that fits none is a mistake in the test."""
    found = [one for one in corpus.evaluations() if any(fnmatchcase(one.name, pattern) for pattern in patterns)]
    for pattern in patterns if corpus.present() else ():
        if not any(fnmatchcase(one.name, pattern) for one in found):
            raise ValueError(f"no evaluation of the corpus is called {pattern}")
    skipped = [pytest.param(None, marks=pytest.mark.skip(reason=corpus.ABSENT))]
    return pytest.mark.parametrize("one", found or skipped, ids=lambda one: one.name if one else "absent")


def judged(one: Evaluation, policy: Policy | None = None) -> Judgement:
    """An evaluation of the corpus under the default policy, or another."""
    raw_quote, raw_collateral = one.quote.read_bytes(), one.collateral.read_bytes()
    return judge(raw_quote, raw_collateral, one.anchor(), policy or Policy.default(), one.now)


def objection(found: Judgement) -> tuple[int, str]:
    """Step and reason of a refusal."""
    assert found.refusal is not None, "it was accepted"
    assert found.step is not None
    return found.step, found.refusal.reason


def judged_of(
    sim: Platform,
    *,
    quote: bytes | None = None,
    collateral: bytes | None = None,
    now: datetime = NOW,
    policy: Policy | None = None,
) -> Judgement:
    """A quote of the simulated platform under its own root; what is given takes the place of what is good."""
    anchor = TrustAnchor("simulator", sim.root_der())
    raw_quote = sim.quote(bytes(64)) if quote is None else quote
    raw_collateral = sim.collateral() if collateral is None else collateral
    return judge(raw_quote, raw_collateral, anchor, policy or Policy.default(), now)


def broken(name: str) -> tuple[Judgement, tuple[int, str]]:
    """A platform broken as `sim_breaks` says, judged, with step and reason that must object."""
    sim = simulated_platform(NOW)
    BREAKS[name].apply(sim, NOW)
    return judged_of(sim), (BREAKS[name].step, BREAKS[name].reason)


def cost(act: Callable[[], object]) -> tuple[float, int]:
    """CPU seconds and the most bytes that `act` has at once; measured apart, since measuring one costs the other."""
    begun = time.thread_time()
    act()
    took_s = time.thread_time() - begun
    tracemalloc.start()
    try:
        act()
        return took_s, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
