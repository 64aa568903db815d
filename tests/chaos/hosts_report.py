"""The figures of hosts that were cut off and killed: for a person, as JSON, and for a page of the documentation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.report.machine import described
from rich.table import Table

from chaos.asked import LATE_S, Asked, answered_again_s, errors
from chaos.asking import STOCK
from chaos.found import Found
from chaos.hosts import Storm, Struck, Weathered
from chaos.work import Kind

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guides" / "when-a-host-fails.md"
"""Shows the figures of one run, between two marks."""
FIGURES = PAGE.with_suffix(".json")
MARKS = ("<!-- figures: make chaos-hosts OPTIONS=--keep -->", "<!-- end of figures -->")
LATE_JOB_S = 2.0
"""A job that takes longer, from when its client had it to when that saw its end, is late."""
COLUMNS = (
    "host",
    "what",
    "asked",
    "late or failed",
    "failed",
    "longest s",
    "stock failed",
    "back s",
    "links s",
    "first answer s",
    "in time s",
    "jobs late",
    "longest job s",
    "load",
)


def document(asked: Storm, came: Weathered) -> dict[str, Any]:
    """All figures, and where and when they were made."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": machine(),
        "cut_s": asked.lasts_s,
        "rate": asked.rate,
        "timeout_s": asked.timeout_s,
        "seed": asked.seed,
        "lasted_s": round(came.lasted_s, 1),
        "wire": came.carried,
        "requests": requests(came.asks.all),
        "jobs": {
            "accepted": came.verdict.accepted,
            "answered": came.verdict.answers,
            "dead letters": came.verdict.dead,
            "refused as too late": came.verdict.refused,
            "given to workers": {_times(attempts): count for attempts, count in sorted(came.verdict.attempts.items())},
        },
        "broken": came.verdict.complaints,
        "blows": [_figures(each, came) for each in came.struck],
    }


def machine() -> str:
    """What this is."""
    here = described(ROOT)
    what = f"{here['processors']} x {here['processor']}, {here['memory_gb']} GB"
    return f"{what}, Linux {here['kernel']}, Python {here['python']}"


def requests(asks: Sequence[Asked]) -> dict[str, Any]:
    """How many there were, and what became of them, by way."""
    ways = sorted({each.way for each in asks})
    return {way: _counts([each for each in asks if each.way == way]) for way in ways}


def table(written: Mapping[str, Any]) -> Table:
    """What happened, and how soon all was well."""
    found = Table(*COLUMNS)
    for row in rows(written):
        found.add_row(*row)
    return found


def page(written: Mapping[str, Any]) -> str:
    """The same, and the rest, for a page."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows(written)]
    shown = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*shown, "", *(f"- {line}" for line in summary(written))])


def write(path: Path, asked: Storm, came: Weathered) -> dict[str, Any]:
    """Write all figures, and return them as whoever reads them has them."""
    path.write_text(json.dumps(document(asked, came), indent=1) + "\n")
    return kept(path)


def keep(written: Mapping[str, Any], page_path: Path = PAGE, figures: Path = FIGURES) -> None:
    """Have the page show this run, and lay its figures beside it."""
    figures.write_text(json.dumps(written, indent=1) + "\n")
    before, _, rest = page_path.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page_path.write_text(f"{before}{MARKS[0]}\n{page(written)}\n{MARKS[1]}{after}")


def summary(written: Mapping[str, Any]) -> Iterator[str]:
    """The rest, in lines."""
    yield f"{written['made']}, {written['machine']}"
    wire = written["wire"]
    yield (
        f"{written['lasted_s']:.0f} s; each frame {wire['delay_ms']} ms ± {wire['jitter_ms']} ms one way, "
        f"{wire['loss']:.1%} lost; {wire['carried']} carried, {wire['lost']} lost, {wire['swallowed']} while cut off"
    )
    for way, counts in written["requests"].items():
        yield f"{way}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    for what, told in written["jobs"].items():
        each = ", ".join(f"{count} {name}" for name, count in told.items()) if isinstance(told, Mapping) else str(told)
        yield f"jobs {what}: {each or 0}"


def rows(written: Mapping[str, Any]) -> Iterator[list[str]]:
    """Of the table."""
    for each in written["blows"]:
        yield [_cell(each[column]) for column in COLUMNS]


def _figures(struck: Struck, came: Weathered) -> dict[str, Any]:
    asks = came.asks.between(struck.began_at, struck.next_at)
    ours = [each for each in asks if each.way != STOCK]
    again = answered_again_s(ours, struck.over_at)
    late = late_jobs(came.everything, struck.began_at, struck.next_at)
    every_way = len(again) == len({each.way for each in ours})
    return {
        "host": struck.blow.host,
        "what": struck.blow.kind.value,
        "lasted s": struck.over_at - struck.began_at,
        "asked": len(ours),
        "late or failed": sum(not each.in_time for each in ours),
        "failed": errors(asks, of_stock=False),
        "longest s": max((each.took_s for each in ours if each.y is not None), default=0.0),
        "stock failed": errors(asks, of_stock=True),
        "back s": struck.back_s,
        "links s": struck.links_s,
        "first answer s": max(again.values()) if every_way and again else None,
        "in time s": struck.well_s,
        "jobs late": len(late),
        "longest job s": max(late, default=0.0),
        "load": struck.load,
    }


def late_jobs(everything: Found, start_at: float, end_at: float) -> list[float]:
    """Seconds of each job that ended in that time and had been late; those that may expire are left out."""
    took = (
        (job.ends[0]["at"] - job.kept_at, job.ends[0]["at"])
        for job in everything.jobs
        if job.ends and job.wanted.kind is not Kind.BRIEF
    )
    return [took_s for took_s, ended_at in took if took_s > LATE_JOB_S and start_at <= ended_at < end_at]


def _counts(asks: Sequence[Asked]) -> dict[str, int]:
    failed = Counter(each.failed_as for each in asks if each.error)
    answered = sum(each.y is not None for each in asks)
    late = sum(each.y is not None and each.took_s > LATE_S for each in asks)
    unseen = len(asks) - answered - failed.total()
    return {"asked": len(asks), "answered": answered, "of them late": late, **failed, "lost with their client": unseen}


def _times(attempts: int) -> str:
    return {0: "never", 1: "once"}.get(attempts, f"{attempts} times")


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {what}" for what, count in sorted(value.items())) or "0"
    if isinstance(value, float):
        return f"{value:.1f}"
    return "never" if value is None else str(value)


def kept(path: Path) -> dict[str, Any]:
    """What was written of an earlier run."""
    return dict(json.loads(path.read_text()))
