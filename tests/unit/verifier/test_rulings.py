from __future__ import annotations

import json
from datetime import timedelta
from itertools import permutations

import pytest

from cloister.errors import InvalidRequest, NotFound, Unavailable
from cloister.kit.revocation import Kind, Name
from cloister.verifier import revocations as module
from cloister.verifier.lift_orders import milliseconds
from cloister.verifier.revocations import Revocations
from cloister.verifier.rulings import Revocation, Ruling, decoded, encoded, succeeding
from fakes.replicas import Kept
from fakes.results import INSTANCE, NOW

NAME = Name(Kind.INSTANCE, INSTANCE)
HOUR = timedelta(hours=1)
MILLISECOND = timedelta(milliseconds=1)


def made(by: str = "a", minutes: int = 0, ends: timedelta | None = None) -> Revocation:
    at = NOW + timedelta(minutes=minutes)
    return Revocation(name=NAME, reason="", by=by, revoked_at=at, ends_at=at + ends if ends else None)


def lifted(ruling: Ruling) -> Ruling:
    return Ruling(ruling.revocation, ruling.version, lifted=True, order=b"order")


def held(*rulings: Ruling) -> Revocations:
    return Revocations(Kept(rulings), now=lambda: NOW)


FIRST = succeeding(None, made())
SECOND = succeeding(lifted(FIRST), made("b", minutes=-5))
SAME_TIME = succeeding(None, made("c"))
FOR_AN_HOUR = succeeding(None, made("d", minutes=1, ends=HOUR))


@pytest.mark.attack("H03")
@pytest.mark.parametrize("order", list(permutations([FIRST, lifted(FIRST), SECOND, SAME_TIME, FOR_AN_HOUR])))
async def test_in_whatever_order_rulings_are_heard_the_last_counts(order: tuple[Ruling, ...]) -> None:
    at = held()
    for ruling in (*order, *order):
        await at.merge([ruling])
    assert at.rulings == [SECOND]


@pytest.mark.attack("J14")
async def test_an_older_copy_undoes_neither_a_lift_nor_a_newer_revocation() -> None:
    at = held(FIRST)
    await at.lift(NAME)
    await at.merge([FIRST])
    assert not at.in_force
    await at.add(made("b", minutes=-5))  # even by a verifier whose clock is behind
    await at.merge([FIRST, lifted(FIRST)])
    assert [each.by for each in at.in_force] == ["b"]


async def test_one_that_ends_takes_the_place_of_none_that_lasts() -> None:
    at = held(FIRST)
    await at.add(made("d", minutes=1, ends=HOUR))
    assert at.rulings == [FIRST]
    elsewhere = held()
    await elsewhere.add(made("d", minutes=1, ends=HOUR))
    await elsewhere.merge([FIRST])
    assert elsewhere.rulings == [FIRST]


@pytest.mark.attack("J14")
async def test_no_version_that_somebody_makes_up_lifts_what_lasts() -> None:
    at = held(SECOND)
    for rewritten in (FIRST.revocation, made(minutes=-1)):
        with pytest.raises(InvalidRequest):
            Ruling(rewritten, SECOND.version + 1, lifted=True, order=b"for the first")
    for is_lifted in (False, True):
        await at.merge([Ruling(FOR_AN_HOUR.revocation, SECOND.version + 1, is_lifted, b"for the hour")])
    assert at.rulings == [SECOND]


@pytest.mark.parametrize("later_ms", range(50))
def test_a_revocation_after_another_is_made_later(later_ms: int) -> None:
    before = succeeding(None, Revocation(name=NAME, reason="", by="a", revoked_at=NOW + later_ms * MILLISECOND))
    after = succeeding(lifted(before), made("b", minutes=-5))
    assert after.version == before.version + 1 == milliseconds(after.revocation.revoked_at)
    assert decoded(encoded([after])) == [after]


async def test_what_has_ended_is_not_heard() -> None:
    at = held()
    await at.merge([succeeding(None, made(minutes=-61, ends=HOUR))])
    assert not at.rulings
    assert at.version == 1


async def test_what_is_heard_counts_even_when_it_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    at = held()

    def full(_: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(at._store, "save", full)
    with pytest.raises(Unavailable):
        await at.merge([FIRST])
    assert at.names == {NAME}


async def test_what_was_lifted_is_not_lifted_again() -> None:
    with pytest.raises(NotFound):
        await held(lifted(FIRST)).lift(NAME)


async def test_of_too_many_lifts_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REVOCATIONS", 2)
    at = held()
    names = [Name(Kind.INSTANCE, f"{number:032x}") for number in range(4)]
    for name in names:
        await at.add(Revocation(name=name, reason="", by="a", revoked_at=NOW))
        if name != names[0]:
            await at.lift(name)
    assert [(each.name, each.lifted) for each in at.rulings] == [
        (names[0], False),
        (names[2], True),
        (names[3], True),
    ]


def test_rulings_are_read_as_they_were_written() -> None:
    rulings = [FIRST, lifted(SECOND), FOR_AN_HOUR]
    assert decoded(encoded(rulings)) == rulings


def test_a_file_that_has_no_versions_is_read() -> None:
    rows = json.loads(encoded([FIRST]))
    older = [{key: row[key] for key in ("kind", "value", "reason", "by", "revoked_at", "ends_at")} for row in rows]
    assert decoded(json.dumps(older).encode()) == [FIRST]
