"""The judge of an upgrade sees what it is there for: each rule is broken once in what clients noted, and it says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from upgrade.askers import KINDS, Note
from upgrade.rolling import Rolled, Step
from upgrade.verdict import complaints, longest_pause_s, slowest_s, steps_table, within

OLD, NEW = "aa" * 32, "bb" * 32
CLIENTS = ("old", "new")
STEPS = (
    Step(name="the gateway is replaced", to="new", began=100.0, ended=110.0, away_s=2.0),
    Step(name="the worker is replaced", to="new", began=110.0, ended=120.0, away_s=3.0),
)


def good() -> Rolled:
    """Every client has an answer of each kind in each step, from the old worker and then from the new one."""
    notes = [
        Note(client=client, kind=kind, began=at - 0.5, at=at, error="", by="" if kind == "plain" else by, attempts=0)
        for at, by in ((104.0, OLD), (116.0, NEW))
        for client in CLIENTS
        for kind in KINDS
    ]
    return Rolled(steps=STEPS, notes=notes, same_code=False, audit="nothing has changed in the record", queued=0)


def changed(found: Rolled, number: int, **fields: object) -> Rolled:
    """With another note in place of one."""
    notes = list(found.notes)
    notes[number] = replace(notes[number], **fields)  # type: ignore[arg-type]
    return replace(found, notes=notes)


def test_what_went_well_is_not_complained_of() -> None:
    assert list(complaints(good(), (OLD, NEW))) == []


BREAKS: dict[str, tuple[Callable[[Rolled], Rolled], str]] = {
    "failed": (lambda found: changed(found, 0, error="Unavailable peer.unavailable: gone"), "1 failed: old sealed"),
    "silent": (lambda found: changed(found, 0, at=99.0), "no answer to old sealed while the gateway is replaced"),
    "unreached": (lambda found: changed(found, 8, by=OLD), f"old sealed was never answered by {NEW}"),
    "audit": (lambda found: replace(found, audit="a line is missing"), "the record does not prove itself"),
    "queue": (lambda found: replace(found, queued=2), "2 jobs were left in a queue"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_what_did_not_is(broken: str) -> None:
    change, complaint = BREAKS[broken]
    assert any(each.startswith(complaint) for each in complaints(change(good()), (OLD, NEW)))


def test_the_figures_are_those_of_the_notes() -> None:
    found = changed(good(), 0, at=106.0, attempts=3)
    (gateway, _) = STEPS
    assert len(within(found.notes, gateway)) == 8
    assert longest_pause_s(found.notes, gateway) == 4.0
    assert slowest_s(found.notes, gateway) == 2.5
    assert steps_table(found).row_count == 2
