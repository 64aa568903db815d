"""Kill what there is, at random, while thousands of jobs are submitted: `python -m chaos crash`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.burning_mesh import BurningMesh, founded, published
from chaos.client import Order
from chaos.clients import Keeper, clients
from chaos.found import found
from chaos.strikes import Strike, Target, strikes
from chaos.verdict import Verdict, judged, openvino
from fakes.running_mesh import until

CLIENTS = 3
LOOK_S = 0.02
COMES_BACK_S = 60.0
CALMS_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One that was done.

    Attributes:
        at: Unix time.
        back_s: Until as many processes of its kind ran as before.
    """

    target: Target
    at: float
    back_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Burnt:
    """What came of it all."""

    verdict: Verdict
    kills: Sequence[Kill]
    ended_at: Sequence[float]
    lasted_s: float


class Fire:
    """Strikes a mesh and its clients, in turn.

    Args:
        share: File that clients read how much of it is over from.
    """

    def __init__(self, mesh: BurningMesh, keepers: Sequence[Keeper], share: Path) -> None:
        self._mesh, self._keepers, self._share = mesh, keepers, share
        self._awaited: list[tuple[Target, int, float, int]] = []
        self.kills: list[Kill] = []

    def burn(self, planned: Sequence[Strike], report: Callable[[str], None]) -> None:
        """Do all that is planned; what is down when its turn comes is waited for, so that every strike hits."""
        for number, strike in enumerate(planned, start=1):
            self.wait(strike.pause_s)
            victims: list[int] = []
            deadline = time.monotonic() + COMES_BACK_S
            while not victims:
                assert time.monotonic() < deadline, f"within {COMES_BACK_S:.0f} s no {strike.target.value} came back"
                self.wait(LOOK_S)
                victims = self._living(strike.target)
            self._strike(victims[int(strike.pick * len(victims))], strike.target, len(victims))
            self.burnt(number / len(planned))
            if number % 25 == 0:
                report(f"{number} of {len(planned)} kills")

    def settle(self, within_s: float) -> None:
        """Wait until every client has seen the end of all its jobs."""
        until_s = time.monotonic() + within_s
        while not all(keeper.done for keeper in self._keepers):
            waiting = [keeper.folder.name for keeper in self._keepers if not keeper.done]
            assert time.monotonic() < until_s, f"{', '.join(waiting)} still wait {within_s:.0f} s after the last kill"
            self.wait(LOOK_S)

    def burnt(self, share: float) -> None:
        """Tell clients how much of the fire is over."""
        part = self._share.with_suffix(".part")
        part.write_text(f"{share}")
        part.replace(self._share)

    def _living(self, target: Target) -> list[int]:
        if target is Target.CLIENT:
            return [keeper.pid for keeper in self._keepers if keeper.pid is not None]
        return self._mesh.living(target)

    def _strike(self, pid: int, target: Target, before: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._awaited.append((target, pid, time.time(), before))

    def wait(self, pause_s: float) -> None:
        """Let time go by: clients are started again, and what comes back is noted."""
        until_s = time.monotonic() + pause_s
        while True:
            for keeper in self._keepers:
                keeper.tend()
            for each in list(self._awaited):
                target, pid, at, before = each
                living = self._living(target)
                if pid not in living and len(living) >= before:
                    self._awaited.remove(each)
                    self.kills.append(Kill(target=target, at=at, back_s=time.time() - at))
            if time.monotonic() >= until_s:
                return
            time.sleep(LOOK_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """What to do.

    Attributes:
        gap_s: Between kills, on average.
        fsync: Redis's `appendfsync`.
    """

    folder: Path
    jobs: int
    kills: int
    gap_s: float
    fsync: str
    seed: int


def crash(asked: Crash, report: Callable[[str], None]) -> Burnt:
    """All of it; raises AssertionError where not even the end was reached."""
    mesh = founded(asked.folder / "mesh", asked.fsync)
    share = asked.folder / "share"
    orders = [order(mesh, asked, share, owner) for owner in range(CLIENTS)]
    with mesh.up(), clients(orders, asked.folder) as keepers:
        published(mesh)
        report("the mesh serves; the fire begins")
        fire = Fire(mesh, keepers, share)
        fire.burnt(0.0)
        began = time.monotonic()
        fire.burn(strikes(asked.seed, asked.kills, asked.gap_s), report)
        fire.settle(CALMS_S)
        lasted_s = time.monotonic() - began
        until(lambda: bool(mesh.living(Target.JOBS)), "the jobs process is there")
        everything = asyncio.run(found(mesh, keepers))
    ended_at = sorted(end["at"] for job in everything.jobs for end in job.ends)
    verdict = judged(everything, openvino())
    verdict.look_at(mesh)
    return Burnt(verdict=verdict, kills=fire.kills, ended_at=ended_at, lasted_s=lasted_s)


def order(mesh: BurningMesh, asked: Crash, share: Path, owner: int) -> Order:
    """An equal part of the jobs, for one client."""
    return Order(
        gateway=mesh.gateway,
        trust=str(mesh.trust),
        identity=str(mesh.identity("client")),
        seed=asked.seed,
        owner=owner,
        count=asked.jobs // CLIENTS + (owner < asked.jobs % CLIENTS),
        fire=str(share),
    )
