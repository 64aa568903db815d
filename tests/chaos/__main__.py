"""Prove that no job is lost: `make crash-jobs`, `make cut-jobs`, `make chaos-hosts`.

    python -m chaos crash --jobs 5000 --kills 300 --fsync everysec --seed 1     processes are killed
    python -m chaos cut --jobs 2000 --cuts 48 --seed 1                          the network is cut, as root
    python -m chaos hosts --jobs 3000 --lasts 10                                hosts are cut off and killed, as root

A whole mesh of real processes, three clients, everything drawn from the seed; the machine says when each thing happens.
Ends with 1 when a rule did not hold. All that was kept stays in the folder (`.bench/chaos`), also for a look at logs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from chaos import hosts_report, lan, report
from chaos.crash import Crash, crash
from chaos.cut import cut, cuts
from chaos.hosts import HOSTS, Kind, Storm, blows, weathered
from chaos.namespaces import missing

FOLDER = Path(".bench/chaos")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main(words: Sequence[str]) -> int:
    """Do what the command line asks for."""
    asked = arguments(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    shutil.rmtree(asked.folder, ignore_errors=True)
    try:
        return {"crash": crashed, "cut": healed, "hosts": stormed}[asked.what](asked)
    except AssertionError as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """How much of what."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", choices=("crash", "cut", "hosts"))
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--lasts", type=float, default=10.0, help="seconds that a host is cut off")
    parser.add_argument("--kinds", nargs="+", choices=[kind.name.lower() for kind in Kind], default=["cut", "killed"])
    parser.add_argument("--hosts", nargs="+", choices=HOSTS, default=HOSTS, help="which are struck")
    parser.add_argument("--keep", action="store_true", help="have the guide show what came of 'hosts'")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--cuts", type=int, default=48)
    parser.add_argument("--gap", type=float, default=1.5, help="seconds between kills, on average")
    parser.add_argument(
        "--fsync", choices=("everysec", "always"), default="everysec", help="of Redis's append-only file"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    return parser.parse_args(words)


def crashed(asked: argparse.Namespace) -> int:
    """Kill, and say what came of it."""
    burnt = crash(
        Crash(
            folder=asked.folder.absolute(),
            jobs=asked.jobs,
            kills=asked.kills,
            gap_s=asked.gap,
            fsync=asked.fsync,
            seed=asked.seed,
        ),
        console.print,
    )
    console.print(f"appendfsync {asked.fsync}, seed {asked.seed}: {burnt.lasted_s:.0f} s")
    console.print(report.kills_table(burnt), report.jobs_table(burnt.verdict))
    report.print_verdict(console, burnt.verdict)
    (asked.folder / "crash.json").write_text(json.dumps(report.document(burnt), indent=1) + "\n")
    return 0 if burnt.verdict.held else 1


def healed(asked: argparse.Namespace) -> int:
    """Cut, and say what came of it."""
    if why := missing():
        console.print(f"[bold yellow]SKIPPED[/]: {why}")
        return 0
    planned = cuts(asked.seed, asked.cuts)
    came = cut(asked.folder.absolute(), asked.jobs, planned, asked.seed, console.print)
    console.print(f"seed {asked.seed}: {came.lasted_s:.0f} s")
    console.print(report.cuts_table(came), report.jobs_table(came.verdict))
    report.print_verdict(console, came.verdict)
    return 0 if came.verdict.held else 1


def stormed(asked: argparse.Namespace) -> int:
    """Cut hosts off and kill them, and say what came of it."""
    if why := lan.missing():
        console.print(f"[bold yellow]SKIPPED[/]: {why}")
        return 0
    planned = blows([Kind[kind.upper()] for kind in asked.kinds], asked.hosts)
    storm = Storm(folder=asked.folder.absolute(), blows=planned, jobs=asked.jobs, lasts_s=asked.lasts, seed=asked.seed)
    came = weathered(storm, console.print)
    written = hosts_report.document(storm, came)
    (asked.folder / "hosts.json").write_text(json.dumps(written, indent=1) + "\n")
    console.print(hosts_report.table(written), *hosts_report.summary(written), sep="\n")
    report.print_verdict(console, came.verdict)
    if asked.keep and came.verdict.held:
        hosts_report.keep(written)
    return 0 if came.verdict.held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
