"""Which key a worker announces, what it says of it, and what is left of a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.seal import hpke
from cloister.seal.hpke import X25519, XWING, KeyPair
from cloister.seal.job_epoch import verify_epoch
from cloister.seal.keys import Secret
from cloister.worker.job_epochs import MARGIN_MS, JobEpochs, JobStatements
from fakes.job_epochs import DAY_MS, epoch_key, held

INSTANCE = "ab" * 16


def announced(now_ms: int, *keys: tuple[int, int, bytes]) -> int | None:
    """Which epoch, of numbers, ends of sealing and policies."""
    made = [epoch_key(number, seal_until_ms=until, policy=policy) for number, until, policy in keys]
    found = JobEpochs.of(made).announced(now_ms)
    return found.number if found else None


@pytest.mark.parametrize("suite", sorted(hpke.SUITES))
def test_a_seed_becomes_a_pair_and_is_wiped(suite: str) -> None:
    key = epoch_key(3, suite=suite)
    pair = KeyPair.from_seed(suite, key.seed.reveal())
    (epoch,) = held(key)
    assert key.seed == Secret(bytes(32))
    assert (epoch.number, epoch.pair.public) == (3, pair.public)
    assert JobEpochs([epoch]).find(pair.key_id, 0) is epoch.pair


def test_a_key_opens_until_its_end_and_is_dropped_then() -> None:
    epochs = JobEpochs.of([epoch_key(2), epoch_key(1, open_until_ms=1_000, seal_until_ms=1)])
    two, one = epochs.newest_first
    assert epochs.find(one.pair.key_id, 999) is one.pair
    assert epochs.find(one.pair.key_id, 1_000) is None
    assert epochs.find(b"other", 0) is None
    epochs.drop_ended(999)
    assert epochs.newest_first == (two, one)
    epochs.drop_ended(1_000)
    assert epochs.newest_first == (two,)


def test_of_one_policy_the_one_that_ends_first_is_announced_while_it_lasts() -> None:
    """So that nobody seals to a key that is not everywhere yet."""
    two, one = (2, 2 * DAY_MS, b"p"), (1, DAY_MS, b"p")
    assert announced(0, two, one) == 1
    assert announced(DAY_MS - MARGIN_MS - 1, two, one) == 1
    assert announced(DAY_MS - MARGIN_MS, two, one) == 2


def test_a_new_policy_is_announced_at_once() -> None:
    assert announced(0, (3, 3 * DAY_MS, b"new"), (2, 2 * DAY_MS, b"old"), (1, DAY_MS, b"old")) == 3


def test_a_new_suite_is_announced_at_once() -> None:
    epochs = JobEpochs.of([epoch_key(2, suite=XWING, seal_until_ms=2 * DAY_MS), epoch_key(1, suite=X25519)])
    found = epochs.announced(0)
    assert found is not None
    assert found.number == 2


def test_one_that_a_clock_which_was_ahead_began_is_not_announced_where_there_is_another() -> None:
    assert announced(0, (2, DAY_MS, b"p"), (1, 365 * DAY_MS, b"p")) == 2


def test_the_last_one_is_announced_to_its_very_end() -> None:
    assert announced(DAY_MS - 1, (1, DAY_MS, b"p")) == 1
    assert announced(DAY_MS, (1, DAY_MS, b"p")) is None
    assert announced(0) is None


@dataclass
class Saying:
    """A worker that says what it has."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.statements = JobStatements("demo.cloister.internal", INSTANCE, self.key, lambda: self.now)


def test_what_is_said_is_signed_by_the_receipt_key_under_the_present_result() -> None:
    worker, epochs = Saying(), JobEpochs.of([epoch_key(7)])
    assert worker.statements.of("iris", epochs) is None  # no result yet
    for ear_id in ("ear-1", "ear-2"):
        worker.statements.attested(ear_id)
        signed = worker.statements.of("iris", epochs)
        assert signed is not None
        said = verify_epoch(signed, worker.key.public_key().public_bytes_raw())
        assert (said.cluster, said.instance, said.ear_id) == ("demo.cloister.internal", INSTANCE, ear_id)
        assert (said.model_name, said.epoch, said.hpke_suite) == ("iris", 7, X25519)
        assert said.hpke_public == epochs.newest_first[0].pair.public
        assert (said.seal_until_ms, said.open_until_ms) == (DAY_MS, 2 * DAY_MS)
        assert (said.policy.policy, said.policy.signature) == (b"policy", b"s" * 64)
    worker.now += timedelta(milliseconds=DAY_MS)
    assert worker.statements.of("iris", epochs) is None
    assert worker.statements.of("iris", JobEpochs()) is None
