"""What keeping jobs in Redis costs, step by step, and how much of it lasts: `make bench-job-store`.

Behind decision 0044. One store takes jobs in, reads and forgets them, as a gateway does; another claims and settles
them, as what gives them to workers does. So many at a time, in a real redis-server over mutual TLS, with nothing
computed in between. CPU is that of Redis and of the process with both stores for each job; jobs a second are of this
one loop, in which all take turns. Memory is what Redis uses before and after, when all jobs are forgotten and when none
is.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import uvloop
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from cloister.gateway.jobs.job import Ending
from cloister.gateway.jobs.keeping.redis_store import RedisJobStore
from fakes.job_store_on_redis import BOUNDS, MODEL, TENANT, Clock, jobs_redis, new_job, store_on
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer

REQUEST, RESPONSE = os.urandom(1900), os.urandom(1200)
"""A sealed job of a tiny model, most of which is the opening, and its answer."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SYNCS = {"no append-only file": "", "everysec": "everysec", "always": "always"}
STEPS = ("submit", "claim", "settle", "read", "forget")

T = TypeVar("T")


class Spent:
    """CPU seconds of Redis and of this process, by step."""

    def __init__(self, server: RedisServer) -> None:
        self._pid = int(server.admin("INFO", "server")["process_id"])
        self.by_step = dict.fromkeys(STEPS, (0.0, 0.0))

    async def on(self, step: str, work: Awaitable[T]) -> T:
        """Count what one step takes."""
        redis_s, own_s = self._redis_s(), time.process_time()
        result = await work
        before = self.by_step[step]
        self.by_step[step] = before[0] + self._redis_s() - redis_s, before[1] + time.process_time() - own_s
        return result

    def _redis_s(self) -> float:
        # In nanoseconds, where /proc/PID/stat has ticks of ten milliseconds.
        return int(Path(f"/proc/{self._pid}/schedstat").read_text().split()[0]) / 1e9


async def lives(
    store: RedisJobStore, runner: RedisJobStore, clock: Clock, spent: Spent, together: int, *, forget: bool
) -> None:
    """Whole lives of so many jobs at once."""
    jobs = [new_job(clock, request=REQUEST) for _ in range(together)]
    ids = [job.job_id for job in jobs]
    await spent.on("submit", store.submit(jobs, BOUNDS))
    claimed = await spent.on("claim", runner.claim(MODEL, together, 0))
    assert len(claimed) == together
    await spent.on("settle", runner.settle(MODEL, [Ending(each, response=RESPONSE) for each in claimed]))
    records = await spent.on("read", store.read(MODEL, TENANT, ids))
    assert all(record and record.response == RESPONSE for record in records)
    if forget:
        await spent.on("forget", store.forget(MODEL, TENANT, ids))


async def measured(sync: str, jobs: int, together: int, *, forget: bool = True) -> tuple[float, Spent, float]:
    """Jobs a second, CPU by step, and by how many bytes for each job Redis has grown."""
    lines = f"appendonly yes\nappendfsync {sync}" if sync else ""
    pki, clock = MeshPki(), Clock(int(time.time() * 1000))
    with TemporaryDirectory() as folder, jobs_redis(Path(folder) / "redis", pki, lines=lines) as server:
        async with store_on(server, pki.cluster, clock) as kept, store_on(server, pki.cluster, clock) as runner:
            await lives(kept.store, runner.store, clock, Spent(server), together, forget=forget)
            spent, used = Spent(server), int(server.admin("INFO", "memory")["used_memory"])
            began = time.perf_counter()
            for _ in range(jobs // together):
                await lives(kept.store, runner.store, clock, spent, together, forget=forget)
            rate = jobs / (time.perf_counter() - began)
            assert kept.dropped == runner.dropped == []
            return rate, spent, (int(server.admin("INFO", "memory")["used_memory"]) - used) / jobs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 16, 64, 128])
    parser.add_argument("--flat", type=int, default=0, help="jobs of one long run, whose memory is told")
    options = parser.parse_args()
    table = Table("append-only file", "together", *STEPS, "in all", "jobs/s", title="µs of Redis + of the store a job")
    for name, sync in SYNCS.items():
        for together in options.together:
            jobs = max(together, options.jobs // (10 if together == 1 else 1))
            rate, spent, _ = uvloop.run(measured(sync, jobs, together))
            costs = list(spent.by_step.values())
            cells = [(redis_s / jobs * 1e6, own_s / jobs * 1e6) for redis_s, own_s in costs]
            cells.append((sum(redis for redis, _ in cells), sum(own for _, own in cells)))
            table.add_row(name, str(together), *(f"{redis:.0f} + {own:.0f}" for redis, own in cells), f"{rate:.0f}")
    console = Console(width=140)
    console.print(table)
    for forget in (True, False):
        jobs = options.flat if forget and options.flat else options.jobs
        rate, _, grown = uvloop.run(measured("everysec", jobs, 64, forget=forget))
        what = "forgotten" if forget else "kept with their answers"
        console.print(f"{jobs} jobs, {what}: Redis has grown by {grown:.1f} bytes a job ({rate:.0f} jobs/s)")


if __name__ == "__main__":
    main()
