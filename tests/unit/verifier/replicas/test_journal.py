"""What a replica knows by itself: no clock but its own, no Redis (attacks D02, D10, H03)."""

from __future__ import annotations

import pytest

from cloister.errors import ChallengeExpired, NotReady
from cloister.verifier.replicas.journal import SILENCE_S, Journal
from fakes.results import Clock

ID, OTHER_ID = b"i" * 16, b"o" * 16


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(clock: Clock) -> Journal:
    return Journal(ttl_s=60, monotonic=clock)


def tick(journal: Journal, clock: Clock, *, after_s: float = 1.0) -> None:
    """Time goes by, and then what is written comes back."""
    clock.pass_s(after_s)
    number = journal.next_number()
    journal.hear(journal.session, number)
    journal.tick(clock())


def test_what_was_issued_now_is_fresh(journal: Journal) -> None:
    journal.check_fresh(journal.sight())


@pytest.mark.attack("D02")
def test_a_challenge_ends_by_our_own_clock_within_a_tick_of_its_life(journal: Journal, clock: Clock) -> None:
    tick(journal, clock)
    sight = journal.sight()
    for _ in range(59):
        tick(journal, clock)
        journal.check_fresh(sight)
    tick(journal, clock)
    with pytest.raises(ChallengeExpired):
        journal.check_fresh(sight)


@pytest.mark.attack("D10")
def test_nothing_from_before_the_session_is_fresh(journal: Journal, clock: Clock) -> None:
    for _ in range(5):
        tick(journal, clock)
    restarted = Journal(ttl_s=60, monotonic=clock)
    with pytest.raises(ChallengeExpired):
        restarted.check_fresh(journal.sight())


def expired(journal: Journal, sight: dict[bytes, int]) -> bool:
    """Whether one of the two checks objects."""
    try:
        journal.check_unused(ID)
        journal.check_fresh(sight)
    except ChallengeExpired:
        return True
    return False


@pytest.mark.attack("H03")
def test_whatever_was_used_is_remembered_until_it_is_too_old(journal: Journal, clock: Clock) -> None:
    sight = journal.sight()
    journal.use(ID, b"peer", 7)
    for _ in range(1000):
        tick(journal, clock)
        assert expired(journal, sight)
    journal.check_unused(ID)


def test_a_use_is_that_of_one_entry(journal: Journal) -> None:
    journal.use(ID, b"peer", 7)
    journal.use(ID, b"peer", 7)
    journal.use(OTHER_ID, b"peer", 8)
    for session, number in ((b"peer", 9), (journal.session, 7)):
        with pytest.raises(ChallengeExpired):
            journal.use(ID, session, number)


@pytest.mark.attack("H03")
@pytest.mark.parametrize("numbers", [(1, 3), (1, 2, 2), (1, 2, 1)], ids=["a gap", "twice", "backwards"])
def test_an_entry_out_of_order_voids_what_was_issued(journal: Journal, clock: Clock, numbers: tuple[int, ...]) -> None:
    *good, bad = numbers
    for number in good:
        journal.hear(b"peer", number)
    sight = journal.sight()
    journal.check_fresh(sight)
    with pytest.raises(NotReady):
        journal.hear(b"peer", bad)
    with pytest.raises(ChallengeExpired):
        journal.check_fresh(sight)
    assert journal.must_write
    tick(journal, clock)
    journal.check_fresh(journal.sight())


def test_a_peer_met_in_the_midst_may_have_used_what_was_issued_before(journal: Journal) -> None:
    sight = journal.sight()
    journal.hear(b"new", 1)
    journal.check_fresh(sight)
    journal.hear(b"old", 7)
    with pytest.raises(ChallengeExpired):
        journal.check_fresh(sight)


def test_a_peer_that_was_silent_is_met_anew(journal: Journal, clock: Clock) -> None:
    journal.hear(b"peer", 1)
    for _ in range(int(SILENCE_S) + 1):
        tick(journal, clock)
    assert b"peer" not in journal.sight()
    sight = journal.sight()
    journal.hear(b"peer", 2)
    with pytest.raises(ChallengeExpired):
        journal.check_fresh(sight)


def test_a_pause_voids_what_was_issued_before(journal: Journal, clock: Clock) -> None:
    sight = journal.sight()
    assert journal.hears_itself
    clock.pass_s(SILENCE_S + 1)
    assert not journal.hears_itself
    tick(journal, clock)
    with pytest.raises(ChallengeExpired):
        journal.check_fresh(sight)
