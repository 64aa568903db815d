"""A short fuzzing run of every target, and the proof that the oracle sees what it is there for."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

import pytest

from fuzz.__main__ import NAMES
from fuzz.quotes import Quotes
from fuzz.requests import Requests
from fuzz.target import ACCEPTED, Findings, Target, outcome, run
from fuzz.targets import TARGETS

RUNS = 300
SEED = 20261125


def fuzzed(target: Target) -> Findings:
    found = run(target, RUNS, SEED)
    assert sum(found.outcomes.values()) + len(found.failures) == RUNS
    return found


@pytest.mark.attack("A23")
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_crashes_hangs_or_accepts_what_was_not_signed(name: str) -> None:
    target = TARGETS[name]()
    found = fuzzed(target)
    assert not found.failures, found.failures[0][:2]
    assert 0 < found.outcomes[ACCEPTED] < RUNS
    # One seed of collateral withdraws the platform; all others are good.
    assert {outcome(target, seed) for seed in target.seeds} <= {ACCEPTED, "certificate.revoked"}


def test_the_command_line_knows_every_target() -> None:
    assert set(NAMES) == set(TARGETS)


def test_a_verifier_that_checks_no_signature_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Quotes()
    monkeypatch.setattr("cloister.appraisal.signature.check", lambda *_, **__: None)
    assert any("nobody signed" in told for _, told, _ in fuzzed(target).failures)


@pytest.mark.attack("G22")
def test_a_gateway_that_is_laxer_than_the_workers_parser_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Requests()
    assert not fuzzed(target).failures
    monkeypatch.setattr("cloister.gateway.wire.text", lambda raw: bytes(raw).decode("utf-8", "replace"))
    assert any("does not parse" in told for _, told, _ in fuzzed(target).failures)


class Careless:
    """A target whose judge does one thing."""

    name = "careless"

    def __init__(self, judge: Callable[[bytes], None]) -> None:
        self.seeds = [b"seed"]
        self.judge = judge

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        return raw + bytes([rng.randrange(256)])


def test_a_parser_that_takes_too_long_is_found_out() -> None:
    def dawdle(_: bytes) -> None:
        begun = time.thread_time()
        while time.thread_time() - begun < 0.06:
            pass

    (_, told, _), *_ = run(Careless(dawdle), 1, SEED).failures
    assert "ms of CPU" in told


def test_a_parser_that_breaks_is_found_out() -> None:
    def stumble(raw: bytes) -> None:
        raise IndexError(len(raw))

    (_, told, raw), *_ = run(Careless(stumble), 1, SEED).failures
    assert "IndexError" in told
    assert raw.startswith(b"seed")
