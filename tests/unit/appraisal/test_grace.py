"""Grace: a platform that misses fixes is lived with for some days after its TCB date, to the second, and never longer.

The date is that of what is furthest behind, and grace waives the status alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from cloister.appraisal import second
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.grace import LATE, MAX_GRACE_DAYS, Grace
from cloister.appraisal.policy import Policy
from cloister.appraisal.tcb import Tcb
from cloister.appraisal.verify import VerifiedQuote
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister_simulator.platform import Platform
from fakes import corpus
from fakes.corpus import Evaluation

Verify = Callable[[], VerifiedQuote]
SECOND = timedelta(seconds=1)
TCB_DATE = datetime(2026, 8, 12, tzinfo=UTC)  # the simulator's
OVER_AT = TCB_DATE + timedelta(days=120)
POLICY = Policy(policy_id="grace", grace=(Grace(status=TcbStatus.OUT_OF_DATE, days=120),))


def refusal(policy: Policy, verified: VerifiedQuote, now: datetime) -> str:
    with pytest.raises(EvidenceRejected) as refused:
        policy.evaluate(verified, now)
    assert refused.value.step == 7
    return refused.value.reason


@pytest.mark.attack("B15")
def test_grace_ends_with_its_last_second(sim: Platform, verify: Verify, now: datetime) -> None:
    sim.tcb_status = "OutOfDate"
    found = verify()
    assert POLICY.evaluate(found, now).hardware == 96
    POLICY.evaluate(found, OVER_AT)
    assert refusal(POLICY, found, OVER_AT + SECOND) == "grace.exceeded"
    assert refusal(Policy.default(), found, now) == "tcb_status.refused"


@pytest.mark.attack("B15")
def test_grace_never_covers_a_revoked_platform(sim: Platform, verify: Verify) -> None:
    sim.tcb_status = "Revoked"
    with pytest.raises(EvidenceRejected) as refused:
        POLICY.evaluate(verify(), TCB_DATE)
    assert (refused.value.step, refused.value.reason) == (6, "tcb.revoked")
    with pytest.raises(InvalidRequest):
        Grace(status=TcbStatus.REVOKED, days=1)
    with pytest.raises(InvalidRequest):
        Policy.from_toml(b'policy_id = "x"\n[grace_days]\nRevoked = 1')


@pytest.mark.attack("B15")
def test_grace_counts_from_what_is_furthest_behind(sim: Platform, verify: Verify, now: datetime) -> None:
    sim.qe_isvsvn = 5  # out of date since long, under a platform that is not
    found = verify()
    assert (found.tcb.status, found.tcb.tcb_date) == ("OutOfDate", TCB_DATE)
    assert found.tcb.patched_to < TCB_DATE - timedelta(days=120)
    assert refusal(POLICY, found, now) == "grace.exceeded"
    sim.tcb_status = "OutOfDate"
    assert verify().tcb.patched_to == found.tcb.patched_to


def test_a_part_that_is_not_behind_does_not_begin_the_grace(sim: Platform, verify: Verify) -> None:
    sim.tcb_date = "2018-01-01T00:00:00Z"
    sim.qe_isvsvn = 5
    found = verify()
    assert found.tcb.tcb_date < found.tcb.patched_to
    sim.qe_isvsvn = 8
    current = verify().tcb
    assert (current.status, current.patched_to) == ("UpToDate", current.tcb_date)


def test_grace_waives_the_status_and_no_advisory(sim: Platform, verify: Verify, now: datetime) -> None:
    sim.tcb_status, sim.advisory_ids = "OutOfDate", ["INTEL-SA-99003"]
    found = verify()
    assert refusal(POLICY, found, now) == "advisory.refused"
    replace(POLICY, accepted_advisories=frozenset({"INTEL-SA-99003"})).evaluate(found, now)


def test_grace_of_one_status_is_not_that_of_another(sim: Platform, verify: Verify, now: datetime) -> None:
    sim.tcb_status = "OutOfDateConfigurationNeeded"
    assert refusal(POLICY, verify(), now) == "tcb_status.refused"


def test_grace_is_for_statuses_that_a_fix_ends() -> None:
    assert {str(status) for status in TcbStatus if "OutOf" in status or "Relaunch" in status} == LATE
    for status in set(TcbStatus) - LATE:
        with pytest.raises(InvalidRequest):
            Grace(status=status, days=1)
    for days in (0, -1, MAX_GRACE_DAYS + 1):
        with pytest.raises(InvalidRequest):
            Grace(status=TcbStatus.OUT_OF_DATE, days=days)


def test_no_date_is_too_far_away_to_count_with() -> None:
    latest = datetime.max.replace(tzinfo=UTC)
    tcb = Tcb(status=TcbStatus.OUT_OF_DATE, advisory_ids=(), tcb_date=latest, patched_to=latest)
    Grace(status=TcbStatus.OUT_OF_DATE, days=MAX_GRACE_DAYS).check(tcb, latest)


def test_a_minimum_tcb_date(sim: Platform, verify: Verify, now: datetime) -> None:
    found = verify()
    replace(POLICY, minimum_tcb_date=date(2026, 8, 12)).evaluate(found, now)
    later = replace(POLICY, minimum_tcb_date=date(2026, 8, 13))
    assert refusal(later, found, now) == "tcb_date.outdated"


LATE_QUOTES = [one for one in corpus.evaluations() if one.expected.verified and one.expected.tcb_status in LATE]


@pytest.mark.attack("B15")
@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
@pytest.mark.parametrize(
    "one", [one for one in LATE_QUOTES if one.expected.reason == "tcb_status"], ids=lambda one: one.name
)
def test_real_platforms_that_are_late_have_grace_to_the_second(one: Evaluation) -> None:
    found = corpus.verified(one)
    days = (one.now - found.tcb.patched_to).days + 1
    policy = Policy(
        policy_id="late",
        grace=(Grace(status=found.tcb.status, days=days),),
        accepted_advisories=frozenset(found.tcb.advisory_ids),
        allow_zero_padding=True,
    )
    policy.evaluate(found, one.now)
    second.confirm(found, one.now)
    over = found.tcb.patched_to + timedelta(days=days)
    policy.evaluate(found, over)
    assert refusal(policy, found, over + SECOND) == "grace.exceeded"
