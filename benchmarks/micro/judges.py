"""What judging in other processes adds: second half of `make bench-appraise`.

The same simulated evidence is put to the pool that a verifier uses (`verifier/judge_pool.py`) and judged on threads, in
turns, with a number of questions under way. CPU is that of the asking process, then of the judging one; the last column
is questions per second of the judging process's CPU, or of all CPU where threads judge.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Evidence, Expected
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.kit.lifecycle import Lifecycle
from cloister.verifier.collateral import Endorsements
from cloister.verifier.judge_pool import JudgePool
from cloister.verifier.judges import Case, Judge, Threads

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from fakes.sim import good_evidence

RUNS, QUESTIONS, IN_FLIGHT = 3, 1000, 8
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def simulated() -> tuple[Case, TrustAnchor]:
    """One good case."""
    good, now = good_evidence(), datetime.now(UTC)
    anchor = TrustAnchor("simulated", good.root_der)
    case = Case(
        evidence=Evidence(raw_quote=good.quote, claims_bytes=good.claims_bytes),
        expect=Expected(nonce=good.claims.nonce),
        endorsements=Endorsements(Collateral.parse(good.collateral).verified(anchor, now), good.collateral),
        policy=Policy.default(),
        now=now,
    )
    return case, anchor


def cpu_s(pids: tuple[int, ...]) -> float:
    """CPU seconds so far of other processes."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / TICKS_PER_S


async def asked(judge: Judge, case: Case, pids: tuple[int, ...]) -> tuple[float, float]:
    """CPU seconds for one question: here, and in the judging processes."""
    left = QUESTIONS

    async def one_after_the_other() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await judge.judge(case)

    here, there = time.process_time(), cpu_s(pids)
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(one_after_the_other())
    return (time.process_time() - here) / QUESTIONS, (cpu_s(pids) - there) / QUESTIONS


async def measured() -> dict[str, tuple[float, float]]:
    """The best of several runs that take turns."""
    case, anchor = simulated()
    best: dict[str, tuple[float, float]] = {}
    async with Lifecycle.running() as lifecycle, JudgePool.opened(anchor, 1, lifecycle=lifecycle) as pool:
        judges: dict[str, tuple[Judge, tuple[int, ...]]] = {
            "one process": (pool, pool.pids),
            "threads": (Threads(anchor), ()),
        }
        for _ in range(RUNS):
            for name, (judge, pids) in judges.items():
                best[name] = min(best.get(name, (1.0, 1.0)), await asked(judge, case, pids), key=sum)
    return best


def main() -> None:
    """Measure and print."""
    found = asyncio.run(measured())
    table = Table("judged in", "CPU here, µs", "CPU there, µs", "per second of CPU", title=f"{IN_FLIGHT} under way")
    for name, (here, there) in found.items():
        table.add_row(name, f"{here * 1e6:.0f}", f"{there * 1e6:.0f}", f"{1 / (there or here):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
