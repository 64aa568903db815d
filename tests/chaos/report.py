"""The figures of a run, for a person and as JSON."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from chaos.crash import Burnt
from chaos.cut import PAIRS, Healed
from chaos.strikes import Target
from chaos.verdict import Verdict

SHOWN = 8


def kills_table(burnt: Burnt) -> Table:
    """By what was killed: how often, and how soon it was there again, and jobs ended again."""
    table = Table("SIGKILL of", "times", "back p50 s", "back max s", "next end p50 s", "next end max s")
    for target in Target:
        mine = [kill for kill in burnt.kills if kill.target is target]
        if mine:
            backs, nexts = [kill.back_s for kill in mine], next_ends_s([kill.at for kill in mine], burnt.ended_at)
            figures = (median(backs), max(backs), median(nexts), max(nexts))
            table.add_row(target.value, str(len(mine)), *(f"{figure:.2f}" for figure in figures))
    return table


def cuts_table(healed: Healed) -> Table:
    """By whom was cut from whom: how often, for how long, and how soon after the healing jobs ended again."""
    table = Table("cut", "times", "one way", "longest s", "next end after it p50 s", "max s")
    for pair in PAIRS:
        mine = [
            (each, at) for each, at in zip(healed.cuts, healed.began_at, strict=True) if set(each.pair) == set(pair)
        ]
        if mine:
            nexts = next_ends_s([at + each.lasts_s for each, at in mine], healed.ended_at)
            one_way = sum(not each.back for each, _ in mine)
            figures = (max(each.lasts_s for each, _ in mine), median(nexts), max(nexts))
            words = (f"{figure:.2f}" for figure in figures)
            table.add_row(" from ".join(pair), str(len(mine)), str(one_way), *words)
    return table


def next_ends_s(moments: Sequence[float], ended_at: Sequence[float]) -> list[float]:
    """After each, how long until some client saw the end of some job; 0 where none was left to see."""
    ats = ((at, bisect_right(ended_at, at)) for at in moments)
    return [ended_at[number] - at if number < len(ended_at) else 0.0 for at, number in ats]


def jobs_table(verdict: Verdict) -> Table:
    """What became of the jobs."""
    table = Table("jobs", str(verdict.jobs))
    table.add_row("accepted", str(verdict.accepted))
    table.add_row("refused: its time had passed before it came", str(verdict.refused))
    for what, count in sorted(verdict.answers.items()):
        table.add_row(f"answered: {what}", str(count))
    for reason, count in sorted(verdict.dead.items()):
        table.add_row(f"dead letter: {reason}", str(count))
    histogram = ", ".join(f"{attempts}: {count}" for attempts, count in sorted(verdict.attempts.items()))
    table.add_row("given to a worker so often", histogram)
    return table


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Whether it held, or which rules did not, with some of the jobs that say so."""
    for rule, jobs in verdict.complaints.items():
        more = f" and {len(jobs) - SHOWN} more" if len(jobs) > SHOWN else ""
        console.print(f"[bold red]broken:[/] {rule} ({len(jobs)}): {'; '.join(jobs[:SHOWN])}{more}")
    if verdict.held:
        console.print("[bold green]held[/]: every accepted job has one result or one dead letter, and it is its own")


def document(burnt: Burnt) -> Mapping[str, Any]:
    """All figures."""
    verdict = burnt.verdict
    return {
        "jobs": verdict.jobs,
        "accepted": verdict.accepted,
        "refused": verdict.refused,
        "answers": verdict.answers,
        "dead": verdict.dead,
        "attempts": verdict.attempts,
        "complaints": verdict.complaints,
        "lasted_s": burnt.lasted_s,
        "kills": [{"target": kill.target.value, "at": kill.at, "back_s": kill.back_s} for kill in burnt.kills],
    }
