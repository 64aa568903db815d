"""Where gateway and worker spend their time while a load asks: py-spy's stacks, added up, and CPU by thread."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmarks import processes
from benchmarks.load.turns import Turn
from benchmarks.report.samples import Sample
from benchmarks.systems.loads import Load
from benchmarks.systems.running import REPOSITORY
from rich.table import Table

SPY = REPOSITORY / ".venv-plots" / "bin" / "py-spy"
RATE = 200  # stacks a second
SHOWN = 14
ENTRY, LOOP = "Runner.run (asyncio/runners.py)", "the loop itself, gRPC and TLS in C"
WAITING = "Thread.run (threading.py)"  # gRPC's poller waits in C, which py-spy takes for work


@dataclass(frozen=True, slots=True)
class Profile:
    """Shares of the loop's samples in which a function itself ran, and in which it or what it called did."""

    itself: Mapping[str, float]
    within: Mapping[str, float]

    @classmethod
    def of(cls, lines: Iterable[str]) -> Profile:
        """From py-spy's raw form: `frame;frame;frame count`, innermost last. What runs the loop is left out."""
        itself, within = Counter[str](), Counter[str]()
        for line in lines:
            stack, _, count = line.rpartition(" ")
            frames = [function(frame) for frame in stack.split(";")]
            if frames[-1] == WAITING:
                continue
            if ENTRY in frames:
                frames = frames[frames.index(ENTRY) + 1 :] or [LOOP]
            itself[frames[-1]] += int(count)
            within.update(dict.fromkeys(frames, int(count)))
        total = itself.total() or 1
        return cls(*({name: count / total for name, count in each.most_common()} for each in (itself, within)))


def function(frame: str) -> str:
    """`name (folder/file.py:12)` without the line, and with no more of the path than tells it."""
    name, _, place = frame.partition(" (")
    path = PurePosixPath(place.rstrip(")").rpartition(":")[0] or place.rstrip(")"))
    return f"{name} ({'/'.join(path.parts[-2:])})"


def profiled(load: Load, turn: Turn, folder: Path) -> tuple[Sample, dict[str, Profile], dict[str, dict[str, float]]]:
    """One turn of `load`, watched.

    Returns:
        The sample, which the watching slows; by service, its profile and the CPU share of each of its threads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watched = {name: pid for name, pid in load.services.items() if name.startswith(("gateway", "worker"))}
    before = {name: processes.threads_cpu_s(pid) for name, pid in watched.items()}
    spies = [_spy(pid, folder / f"{name}.txt", turn.seconds) for name, pid in watched.items()]
    sample = load.sample(turn)
    for spy in spies:
        spy.wait()
    used = {name: _shares(before[name], processes.threads_cpu_s(pid)) for name, pid in watched.items()}
    found = {name: Profile.of((folder / f"{name}.txt").read_text().splitlines()) for name in watched}
    return sample, found, used


def table(title: str, profile: Profile, threads: Mapping[str, float]) -> Table:
    """The largest shares."""
    shown = Table("it itself", "", "it and what it calls", "", title=title)
    shown.caption = "CPU by thread: " + ", ".join(f"{name} {share:.0%}" for name, share in threads.items())
    pairs = zip(list(profile.itself.items())[:SHOWN], list(profile.within.items())[:SHOWN], strict=False)
    for (mine, own), (other, all_of_it) in pairs:
        shown.add_row(mine, f"{own:.0%}", other, f"{all_of_it:.0%}")
    return shown


def _spy(pid: int, path: Path, seconds: float) -> subprocess.Popen[bytes]:
    options = ["--format", "raw", "--output", str(path), "--duration", str(max(1, round(seconds))), "--rate", str(RATE)]
    command = [str(SPY), "record", "--pid", str(pid), "--nonblocking", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - fixed words


def _shares(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    used = {name: after[name] - before.get(name, 0.0) for name in after}
    total = sum(used.values()) or 1.0
    return {name: share / total for name, share in sorted(used.items(), key=lambda each: -each[1]) if share > 0}
