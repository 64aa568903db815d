"""How many records a second are on disk before their answer leaves: `make bench-record`.

The record of the services (`kit/audit.py`) with 1 to 256 appends in flight on one event loop, against the same number
of single `fsync` calls on the same disk, in turns. The folder is a temporary one; TMPDIR chooses the disk.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from cloister.kit.audit import AuditLog, Field

RUNS, RECORDS = 3, 512
FACTS: dict[str, Field] = {
    "purpose": "mesh",
    "instance": "0" * 32,
    "mrenclave": "0" * 64,
    "mrsigner": "0" * 64,
    "collateral_sha256": "0" * 64,
    "config_digest": "0" * 64,
    "policy_digest": "0" * 64,
    "advisory_ids": ["INTEL-SA-00334", "INTEL-SA-00615"],
}


async def appended(log: AuditLog, in_flight: int) -> float:
    """Records per second."""
    left = RECORDS

    async def one_after_the_other() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await log.appended("evidence.accepted", **FACTS)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one_after_the_other())
    return RECORDS / (time.perf_counter() - began)


def synced(path: Path) -> float:
    """Appends of 4 KiB with an fsync each, per second."""
    with path.open("ab", buffering=0) as file:
        began = time.perf_counter()
        for _ in range(RECORDS):
            file.write(bytes(4096))
            os.fsync(file.fileno())
        return RECORDS / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    best: dict[str, float] = {}
    with TemporaryDirectory() as folder, AuditLog.opened(Path(folder) / "audit.db") as log:
        for _ in range(RUNS):
            figures = {"fsync alone, one after the other": synced(Path(folder) / "plain")}
            for in_flight in (1, 8, 32, 256):
                figures[f"records, {in_flight} in flight"] = asyncio.run(appended(log, in_flight))
            best = {name: max(figure, best.get(name, 0.0)) for name, figure in figures.items()}
    table = Table("on disk", "per second", title="best of three, in turns")
    for name, figure in best.items():
        table.add_row(name, f"{figure:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
