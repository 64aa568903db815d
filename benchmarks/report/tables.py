"""Results for the eye, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report.half_load import HalfLoad
from benchmarks.report.samples import Row, Sample
from benchmarks.report.targets import Verdict
from rich.table import Table

FIRST = ("gateway", "worker")


def table(network: str, rows: Sequence[Row], rounds: int) -> Table:
    """One line for each kind of turn."""
    shown = Table(title=f"{network}: medians of {rounds} alternating rounds; CPU in µs for each answer")
    for name in ("in flight", "system", "asked by"):
        shown.add_column(name)
    for name in (
        "answers/s",
        "of limit",
        "by CPU",
        "p50 ms",
        "p99 ms",
        "CPU",
        "least – most",
        "by process",
        "load's CPU",
        "MB",
    ):
        shown.add_column(name, justify="right")
    last = 0
    for row in rows:
        if last and row.kind.in_flight != last:
            shown.add_section()
        last = row.kind.in_flight
        shown.add_row(
            str(row.kind.in_flight),
            row.kind.system,
            row.kind.carrier,
            f"{row.per_s:.1f}" if row.per_s < 100 else f"{row.per_s:.0f}",
            f"{row.of_limit:.2f}",
            f"{row.cpu_of_limit:.2f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            f"{row.total_cpu_us:.0f}",
            "{:.0f} – {:.0f}".format(*row.spread_us),
            by_process(row.cpu_us),
            "" if row.kind.carrier == "in process" else f"{row.load_cpu_us:.0f}",
            f"{row.memory_mb:.0f}",
        )
    return shown


def by_process(cpu_us: Mapping[str, float]) -> str:
    """What each process takes, gateway first; one process needs no listing."""
    if len(cpu_us) < 2:
        return ""
    known = [name for name in cpu_us if name.startswith(FIRST)]
    shown = [f"{name} {cpu_us[name]:.0f}" for name in sorted(known)]
    others = sum(used for name, used in cpu_us.items() if name not in known)
    return " + ".join([*shown, f"others {others:.0f}"])


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Targets and what was found."""
    shown = Table("target", "", "found", "")
    for verdict in verdicts:
        shown.add_row(verdict.what, verdict.target, verdict.found, "met" if verdict.met else "missed")
    return shown


def document(
    network: str,
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    rounds: Sequence[Sequence[Sample]],
    halves: Sequence[HalfLoad],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """All of it: the medians, and every sample and turn at half load they come from."""
    return {
        "network": network,
        **about,
        "rows": [{**row.kind._asdict(), **{k: v for k, v in asdict(row).items() if k != "kind"}} for row in rows],
        "targets": [verdict._asdict() for verdict in verdicts],
        "half_load": [asdict(half) for half in halves],
        "rounds": [[asdict(sample) for sample in each] for each in rounds],
    }


def write(path: Path, found: Mapping[str, Any]) -> None:
    """As JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
