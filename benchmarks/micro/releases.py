"""How many releases a second one core makes, each on disk before its answer: `make bench-releases`.

Everything is real but the wire: the Attestation Result's signature and rules, the proof of possession, the model's
manifest and policy, the vault (a key file), the keys of its epochs, the grant, sealed by HPKE, and the ledger with its
fsync. What workers do, and the verifier, is done before and not counted. Counted is CPU time of the whole process, in
turns; what the machine's other users do shows in releases a second, and hardly in that.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from release_crowd import Asked, Crowd, crowd
from release_parts import limit, parts
from rich.console import Console
from rich.table import Table

from cloister.seal.hpke import X25519, XWING

TOGETHER = (1, 8, 64, 256)
RELEASES, ROUNDS = 768, 3
TARGET_PER_S = 500
CHUNK, RATE_PER_S = 1000, 50
"""Of the long run: its tokens are made by so many, and simulated time goes by as if so many came each second, so that
results are forgotten within it, as they are after minutes."""


class Turn(NamedTuple):
    """What one turn came to, for one release."""

    cpu_us: float
    wall_us: float
    group: float


async def released(crowd: Crowd, asked: Sequence[Asked], together: int) -> None:
    """Ask for all, so many at once."""
    waiting = iter(asked)

    async def one_after_the_other() -> None:
        for request, peer in waiting:
            await crowd.desk.releaser.release(request, peer)

    async with asyncio.TaskGroup() as group:
        for _ in range(together):
            group.create_task(one_after_the_other())


def turn(crowd: Crowd, together: int) -> Turn:
    """One turn of so many at once."""
    asked = crowd.requests(RELEASES // (4 if together == 1 else 1))
    commits = _Commits(crowd)
    began, cpu_began = time.perf_counter(), time.process_time()
    asyncio.run(released(crowd, asked, together))
    cpu_s, wall_s = time.process_time() - cpu_began, time.perf_counter() - began
    count = len(asked)
    return Turn(cpu_s / count * 1e6, wall_s / count * 1e6, count / commits.since())


class _Commits:
    """How often the ledger has committed: each commit signs a head."""

    def __init__(self, crowd: Crowd) -> None:
        self._key, self._count = crowd.desk.ledger._key, 0
        self._made = type(self._key).head

        def head(*arguments: object) -> object:
            self._count += 1
            return self._made(self._key, *arguments)  # type: ignore[arg-type]  # counted, not looked at

        self._key.head = head  # type: ignore[method-assign, assignment]  # for as long as the turn

    def since(self) -> int:
        """How often since this was made."""
        del self._key.head
        return self._count


def rates(folder: Path) -> Table:
    """Turns of each number together, with both suites, and what they came to."""
    table = Table(
        "sealed by", "together", "CPU µs", "a second and core", "a second here", "in one commit", title="releases"
    )
    turns: dict[tuple[str, int], list[Turn]] = {}
    with ExitStack() as stack:
        crowds = []
        for suite in (XWING, X25519):
            (own := folder / suite).mkdir()
            crowds.append((suite, stack.enter_context(crowd(own, suite))))
        for _ in range(ROUNDS):
            for suite, each in crowds:
                for together in TOGETHER:
                    turns.setdefault((suite, together), []).append(turn(each, together))
    for (suite, together), found in turns.items():
        cpu_us, wall_us, group = (statistics.median(values) for values in zip(*found, strict=True))
        cells = (f"{cpu_us:.0f}", f"{1e6 / cpu_us:.0f}", f"{1e6 / wall_us:.0f}", f"{group:.1f}")
        table.add_row(suite, str(together), *cells)
    return table


def sustained(folder: Path, releases: int) -> None:
    """Print memory and CPU over a long run."""
    console = Console()
    with crowd(folder, XWING) as many:
        done, spent_s, noted = 0, 0.0, 0
        while done < releases:
            asked = many.requests(CHUNK)
            began = time.process_time()
            asyncio.run(released(many, asked, 64))
            spent_s += time.process_time() - began
            done += CHUNK
            many.desk.now += timedelta(seconds=CHUNK / RATE_PER_S)
            many.desk.clock.pass_s(CHUNK / RATE_PER_S)
            if done - noted >= releases // 10:
                noted = done
                peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                console.print(f"{done} releases: {done / spent_s:.0f} a second and core, peak RSS {peak_mb:.0f} MB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sustained", type=int, default=0, metavar="RELEASES", help="a long run instead: is it flat?")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        if arguments.sustained:
            return sustained(Path(folder), arguments.sustained)
        Console().print(rates(Path(folder)))
        (own := Path(folder) / "parts").mkdir()
        with crowd(own, XWING) as many:
            Console().print(parts(many))
            Console().print(limit(many))
    return None


if __name__ == "__main__":
    main()
