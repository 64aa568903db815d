"""A recovery session: which shares it takes, and that it forgets what it held (attack F12)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import pytest

from cloister.errors import CloisterError, InvalidRequest, NotReady, Overloaded
from cloister.provisioner.recovery.session import (
    LIFE_S,
    MOST_REFUSED,
    PAUSE_S,
    RecoverySession,
    RecoverySessions,
    ShareRefused,
)
from cloister.provisioner.recovery.shares import split
from cloister.seal.keys import Secret
from cloister.seal.recovery import Share
from fakes.recovery_holders import CLUSTER, Holder, contribution, dealt, holders


@dataclass
class Table:
    """Three owners, two of whom are enough, and the sessions of one provisioner."""

    now_s: float = 1000.0
    ended: list[tuple[str, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.owners = holders()
        self.deal, self.seed = dealt(self.owners, generation=2)
        self.sessions = RecoverySessions(
            self.deal, CLUSTER, monotonic=lambda: self.now_s, ended=lambda *said: self.ended.append(said)
        )

    @property
    def session(self) -> RecoverySession:
        return self.sessions.begun()[0]

    def give(self, share: Share, session: RecoverySession | None = None, **changes: object) -> Secret | None:
        session = session or self.session
        sealed = contribution(session.session_id, session.public, share, **changes)
        return self.sealed(sealed, session)

    def sealed(self, sealed: bytes, session: RecoverySession | None = None) -> Secret | None:
        session_id = (session or self.session).session_id

        def told(error: ShareRefused) -> None:
            self.refused.append(error.reason)

        return self.sessions.contributed(session_id, sealed, by="alice", refused=told)[2]

    def share(self, of: Holder) -> Share:
        return of.share(self.deal)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.mark.parametrize("how", ["with the seed", "out of time", "the service ends"])
def test_a_session_that_ended_has_its_key_and_shares_no_more(table: Table, how: str) -> None:
    alice, bob, carol = table.owners
    session = table.session
    private = session._pair._private  # type: ignore[union-attr]
    table.give(table.share(carol))
    match how:
        case "with the seed":
            table.give(table.share(alice))
        case "out of time":
            table.now_s += LIFE_S
            table.sessions.current()
        case _:
            table.sessions.end()
    assert session.given == []
    assert sys.getrefcount(private) == 2  # by our name, and by this very call
    with pytest.raises(ShareRefused) as refused:
        session.take(contribution(session.session_id, session.public, table.share(bob)), "bob")
    assert refused.value.reason == "share.unopened"


def test_enough_shares_give_the_seed_and_end_the_session(table: Table) -> None:
    alice, _, carol = table.owners
    session = table.session
    assert table.give(table.share(carol)) is None
    assert (session.given, session.missing, session.given_by) == ([2], 1, ["alice"])
    assert table.give(table.share(alice)) == table.seed
    assert table.sessions.current() is None
    assert table.ended == []
    with pytest.raises(NotReady, match="no such recovery session"):
        table.give(table.share(alice), session)


@pytest.mark.attack("F12")
def test_one_share_fewer_than_it_takes_gives_nothing(table: Table) -> None:
    assert table.give(table.share(table.owners[0])) is None
    with pytest.raises(InvalidRequest):
        table.session.seed()
    assert table.refused == []


def _other_words() -> Secret:
    return split(Secret.random(), 2, 3)[0]


@pytest.mark.attack("F12")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"words": Secret(b"")}, "share.malformed"),
        ({"words": Secret(b"academic acid")}, "share.malformed"),
        ({"words": _other_words()}, "share.wrong"),
        ({"index": 1}, "share.wrong"),
        ({"index": 9}, "share.wrong"),
        ({"generation": 1}, "share.of_other_generation"),
        ({"generation": 3}, "share.of_other_generation"),
        ({"cluster": "other.cloister.internal"}, "share.of_other_mesh"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_share_of_this_deal_is_refused_when_it_comes(
    table: Table, changes: dict[str, object], reason: str
) -> None:
    share = table.share(table.owners[0])
    with pytest.raises(ShareRefused) as refused:
        table.give(share, **changes)
    assert (refused.value.reason, table.refused, table.session.given) == (reason, [reason], [])
    assert table.give(share) is None


@pytest.mark.attack("F12")
def test_a_share_counts_once(table: Table) -> None:
    share = table.share(table.owners[0])
    table.give(share)
    with pytest.raises(ShareRefused) as refused:
        table.give(share)
    assert (refused.value.reason, table.session.given, table.session.missing) == ("share.given", [0], 1)


@pytest.mark.attack("F12")
def test_a_share_of_the_deal_before_is_refused(table: Table) -> None:
    before, _ = dealt(table.owners, generation=1)
    with pytest.raises(ShareRefused) as refused:
        table.give(table.owners[0].share(before))
    assert refused.value.reason == "share.of_other_generation"
    # And where it is said to be of this one, it is none that was dealt.
    with pytest.raises(ShareRefused) as refused:
        table.give(table.owners[0].share(before), generation=2)
    assert refused.value.reason == "share.wrong"


def test_what_is_sealed_to_another_session_is_not_opened(table: Table) -> None:
    share, session = table.share(table.owners[0]), table.session
    other = Table().session
    for sealed in (
        b"",
        contribution(session.session_id, other.public, share),
        contribution(other.session_id, session.public, share),
    ):
        with pytest.raises(ShareRefused) as refused:
            table.sealed(sealed)
        assert refused.value.reason == "share.unopened"


@pytest.mark.attack("F12")
def test_attempts_are_limited_and_a_pause_follows(table: Table) -> None:
    session = table.session
    kept = table.share(table.owners[0])
    table.give(kept)
    for _ in range(MOST_REFUSED):
        with pytest.raises(ShareRefused):
            table.sealed(b"guess", session)
    assert table.ended == [(session.session_id.hex(), "recovery.too_many_refused")]
    assert session.given == []
    with pytest.raises(NotReady):
        table.sealed(b"guess", session)
    with pytest.raises(Overloaded) as paused:
        table.sessions.begun()
    assert (paused.value.reason, paused.value.retry_after_s) == ("recovery.paused", PAUSE_S)
    table.now_s += PAUSE_S
    assert table.session.session_id != session.session_id
    assert len(table.refused) == MOST_REFUSED


def test_a_session_ends_in_time_and_forgets_its_shares(table: Table) -> None:
    share = table.share(table.owners[0])
    session, new = table.sessions.begun()
    assert new
    table.give(share)
    assert table.sessions.begun() == (session, False)
    held = session._shares[0].words
    table.now_s += LIFE_S
    assert table.sessions.current() is None
    assert table.ended == [(session.session_id.hex(), "recovery.out_of_time")]
    assert set(held.view) == {0}


def test_a_service_that_ends_forgets_its_shares(table: Table) -> None:
    table.give(table.share(table.owners[0]))
    held = table.session._shares[0].words
    table.sessions.end()
    assert (set(held.view), table.sessions.current()) == ({0}, None)


@pytest.mark.attack("F12")
def test_shares_that_give_another_key_than_was_dealt_give_nothing(table: Table) -> None:
    """Somebody has put another deal into the store, with the commitments of these shares."""
    other, _ = dealt(table.owners, generation=2)
    table.deal.public_key = other.public_key
    table.give(table.share(table.owners[0]))
    with pytest.raises(CloisterError) as refused:
        table.give(table.share(table.owners[1]))
    assert refused.value.reason == "share.other"
    assert [reason for _, reason in table.ended] == ["share.other"]
