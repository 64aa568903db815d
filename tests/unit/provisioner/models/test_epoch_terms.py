"""How long an epoch lasts, and when the next one begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloister.provisioner.models.epoch_terms import (
    DAY_S,
    MOST_BY_AGE,
    MOST_BY_POLICY,
    MOST_JOB_LIFE_S,
    OVERLAP_S,
    TOLERANCE_S,
    Due,
    EpochTerms,
)
from cloister.seal.grant import MAX_EPOCHS
from cloister.seal.hpke import X25519, XWING
from cloister.seal.release_policy import MAX_LEASE_S, parse_policy
from fakes.results import good_policy
from fakes.stored import EPOCH

RAW = good_policy().SerializeToString()
POLICY = parse_policy(RAW)
TERMS = EpochTerms(suite=X25519)
NOW_MS = 1_800_000_000_000
CURRENT = replace(EPOCH, policy=RAW, began_ms=NOW_MS, seal_until_ms=TERMS.ends_ms(NOW_MS, POLICY.lease_s)[0])


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "p256"},
        {"job_life_s": 59},
        {"job_life_s": MOST_JOB_LIFE_S + 1},
        {"epoch_s": 0},
        {"epoch_s": 3600},
        {"epoch_s": 8 * DAY_S},
        {"job_life_s": MOST_JOB_LIFE_S, "epoch_s": DAY_S // 2},
    ],
    ids=str,
)
def test_terms_that_cannot_be_meant(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^(epoch_)?{next(reversed(change))} must be"):
        EpochTerms(**change)


@pytest.mark.parametrize("job_life_s", [60, DAY_S, MOST_JOB_LIFE_S])
def test_the_shortest_epochs_that_settings_allow_are_few_at_once(job_life_s: int) -> None:
    with pytest.raises(ValueError, match="epoch_s must be") as refused:
        EpochTerms(epoch_s=1, job_life_s=job_life_s)
    epoch_s = int(str(refused.value).split()[3])
    _, open_until_ms = EpochTerms(epoch_s=epoch_s, job_life_s=job_life_s).ends_ms(0, MAX_LEASE_S)
    assert open_until_ms / 1000 / epoch_s <= MOST_BY_AGE
    assert MOST_BY_AGE + MOST_BY_POLICY <= MAX_EPOCHS


def test_an_epoch_is_sealed_to_for_longer_than_any_lease_that_has_no_newer_one() -> None:
    last_release_ms = NOW_MS + DAY_S * 1000 - 1
    assert TERMS.next_is_due([CURRENT], POLICY, last_release_ms) is Due.LATER
    seal_until_ms, open_until_ms = TERMS.ends_ms(NOW_MS, POLICY.lease_s)
    assert seal_until_ms - (last_release_ms + POLICY.lease_s * 1000) == OVERLAP_S * 1000 + 1
    assert open_until_ms - seal_until_ms == DAY_S * 1000


def test_the_first_begins_at_once() -> None:
    assert TERMS.next_is_due([], POLICY, NOW_MS) is Due.NOW


@pytest.mark.parametrize(
    ("age_s", "due"),
    [
        (0, Due.LATER),
        (DAY_S - 1, Due.LATER),
        (DAY_S, Due.NOW),
        (-TOLERANCE_S, Due.LATER),
        (-TOLERANCE_S - 1, Due.NOW),
    ],
)
def test_the_next_begins_by_age_and_where_a_clock_was_ahead(age_s: int, due: Due) -> None:
    assert TERMS.next_is_due([CURRENT], POLICY, NOW_MS + age_s * 1000) is due


def test_one_that_ends_before_a_lease_that_is_given_now_is_followed_by_the_next() -> None:
    """Also where a new policy with longer leases would wait."""
    longer = parse_policy(good_policy(version=2, lease_s=MAX_LEASE_S).SerializeToString())
    kept = [replace(CURRENT, number=number) for number in range(MOST_BY_POLICY, 0, -1)]
    last_ms = CURRENT.seal_until_ms - MAX_LEASE_S * 1000
    assert TERMS.next_is_due(kept, longer, last_ms) is Due.DEFERRED
    assert TERMS.next_is_due(kept, longer, last_ms + 1) is Due.NOW
    assert EpochTerms(suite=X25519, epoch_s=3 * DAY_S).next_is_due(kept, POLICY, CURRENT.seal_until_ms) is Due.NOW


def test_another_policy_or_suite_begins_the_next() -> None:
    other = parse_policy(good_policy(version=2).SerializeToString())
    assert TERMS.next_is_due([CURRENT], other, NOW_MS) is Due.NOW
    assert EpochTerms(suite=XWING).next_is_due([CURRENT], POLICY, NOW_MS) is Due.NOW


def test_a_new_policy_waits_where_many_are_kept_and_age_does_not() -> None:
    other = parse_policy(good_policy(version=2).SerializeToString())
    kept = [replace(CURRENT, number=number) for number in range(MOST_BY_POLICY, 0, -1)]
    assert TERMS.next_is_due(kept[1:], other, NOW_MS) is Due.NOW
    assert TERMS.next_is_due(kept, other, NOW_MS) is Due.DEFERRED
    assert TERMS.next_is_due(kept, other, NOW_MS + DAY_S * 1000) is Due.NOW
