"""Releases while the root key is rotated under ten thousand keys: `make bench-rotation`.

In one process, as `releases.py` in this folder: time on the clock for each release, eight at once, before the rotation,
while every key is wrapped anew in a thread, and after it. The keys are of as many models. Compare the three, which are
of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from release_crowd import Crowd
from releases import released
from rich.console import Console
from rich.table import Table

from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.opening import opened
from cloister.provisioner.models.epoch_terms import EpochTerms
from cloister.provisioner.models.rotation import Rotation
from cloister.provisioner.vaults.roots import Roots
from cloister.seal.hpke import XWING
from fakes.release_desk import ReleaseDesk
from fakes.results import CLUSTER
from fakes.running_services import key_file_vault, private_file

MODELS, RELEASES, TOGETHER = 10_000, 256, 8
OPERATOR = f"spiffe://{CLUSTER}/operator/main"


async def registered(desk: ReleaseDesk, models: int) -> None:
    """Register models under names of their own, 64 at once, so that they share commits."""
    numbers = iter(range(models))

    async def one_after_the_other() -> None:
        for number in numbers:
            await asyncio.to_thread(desk.register, name=f"model-{number}")

    async with asyncio.TaskGroup() as group:
        for _ in range(64):
            group.create_task(one_after_the_other())


def turn(crowd: Crowd) -> float:
    """Microseconds of wall time for one release."""
    asked = crowd.requests(RELEASES)
    began = time.perf_counter()
    asyncio.run(released(crowd, asked, TOGETHER))
    return (time.perf_counter() - began) / RELEASES * 1e6


def measured(crowd: Crowd, ledger: Ledger, roots: Roots) -> Table:
    """Before, meanwhile, after."""
    rotation = Rotation(ledger, roots, CLUSTER)
    table = Table("", "keys", "wall, µs each", "releases a second here", title="while the root key is rotated")
    found = [("before", 0, turn(crowd))]
    asked = crowd.requests(RELEASES)

    async def both() -> tuple[int, float, float]:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            sweeping = group.create_task(asyncio.to_thread(rotation.sweep))
            await released(crowd, asked, TOGETHER)
            each_us = (time.perf_counter() - began) / RELEASES * 1e6
        return sweeping.result(), each_us, time.perf_counter() - began

    rotation.begin(OPERATOR)
    swept, each_us, took_s = asyncio.run(both())
    found += [(f"meanwhile; all were wrapped anew in {took_s:.1f} s", swept, each_us), ("after", 0, turn(crowd))]
    for name, keys, wall_us in found:
        table.add_row(name, str(keys or ""), f"{wall_us:.0f}", f"{1e6 / wall_us:.0f}")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=MODELS)
    chosen = parser.parse_args()
    with TemporaryDirectory() as made, Database.opened((folder := Path(made)) / NAME) as database:
        private_file(folder / "root.key", b"r" * 32)
        private_file(folder / "next.key", b"n" * 32)
        vaults = key_file_vault(folder / "root.key"), key_file_vault(folder / "next.key")
        roots = Roots.opened(*vaults, folder, database.root_key_ids())
        with opened(database, roots.keyring, cluster=CLUSTER) as ledger:
            desk = ReleaseDesk(folder, ledger, keyring=roots.keyring, terms=EpochTerms(suite=XWING))
            desk.register()
            desk.allow()
            asyncio.run(registered(desk, chosen.keys))
            Console().print(measured(Crowd(desk, XWING), ledger, roots))


if __name__ == "__main__":
    main()
