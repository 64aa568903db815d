"""Whether a roll went as promised, by what clients noted; and its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.table import Table

from upgrade.askers import KINDS, Note
from upgrade.rolling import Rolled, Step

SEALED = ("sealed", "stream", "job")


def complaints(rolled: Rolled, measurements: Sequence[str]) -> Iterator[str]:
    """What should not be.

    Args:
        rolled: What was done.
        measurements: Of the old version's workers and of the new one's.
    """
    failed = [note for note in rolled.notes if note.error]
    for what, count in Counter(f"{note.client} {note.kind}: {note.error[:300]}" for note in failed).items():
        yield f"{count} failed: {what}"
    clients = {note.client for note in rolled.notes}
    for step in rolled.steps:
        answered = {(note.client, note.kind) for note in within(rolled.notes, step) if not note.error}
        for missing in sorted({(client, kind) for client in clients for kind in KINDS} - answered):
            yield f"no answer to {' '.join(missing)} while {step.name}"
    for client in clients:
        for kind in SEALED:
            by = {note.by for note in rolled.notes if (note.client, note.kind) == (client, kind)}
            if missing_workers := set(measurements) - by:
                yield f"{client} {kind} was never answered by {', '.join(sorted(missing_workers))}"
    if "nothing has changed in the" not in rolled.audit:
        yield f"the record does not prove itself: {rolled.audit}"
    if rolled.queued:
        yield f"{rolled.queued} jobs were left in a queue"


def within(notes: Sequence[Note], step: Step) -> list[Note]:
    """What ended during a step."""
    return [note for note in notes if step.began <= note.at < step.ended]


def longest_pause_s(notes: Sequence[Note], step: Step) -> float:
    """The longest that no client had an answer of any kind, during a step."""
    moments = [step.began, *sorted(note.at for note in within(notes, step) if not note.error), step.ended]
    return max(later - earlier for earlier, later in pairwise(moments))


def slowest_s(notes: Sequence[Note], step: Step) -> float:
    """The longest that an answer took which came during a step, all attempts included; jobs left out."""
    return max((note.at - note.began for note in within(notes, step) if note.kind != "job"), default=0.0)


def steps_table(rolled: Rolled) -> Table:
    """Of each step, how long something was away and what clients felt of it."""
    heads = ("step", "to", "lasted s", "away s", "answers", "failed", "asked again", "longest pause s", "slowest s")
    table = Table(*heads)
    for step in rolled.steps:
        notes = within(rolled.notes, step)
        away = "" if step.away_s is None else f"{step.away_s:.1f}"
        counts = (len(notes), sum(bool(note.error) for note in notes), sum(note.attempts for note in notes))
        times = (longest_pause_s(rolled.notes, step), slowest_s(rolled.notes, step))
        lasted = f"{step.ended - step.began:.1f}"
        table.add_row(step.name, step.to, lasted, away, *map(str, counts), *(f"{each:.2f}" for each in times))
    return table


def totals(rolled: Rolled) -> str:
    """All of it, in a line."""
    by_kind = Counter(note.kind for note in rolled.notes)
    kinds = ", ".join(f"{by_kind[kind]} {kind}" for kind in KINDS)
    again = sum(note.attempts for note in rolled.notes)
    return (
        f"{len(rolled.notes)} asked ({kinds}), {sum(bool(n.error) for n in rolled.notes)} failed, {again} asked again"
    )
