"""A thousand workers that come at once, first to join and then to renew: `make bench-renewals`.

A real verifier process under a simulated anchor, real mutual TLS, evidence of simulated platforms, each with its own
keys, and a gateway that watches. The load runs in this process, on the same machine, and makes its quotes after it has
the challenge, so what it takes is in the time too; the table says how much CPU each process used. Joining goes over one
connection, as there is one enrol identity; each renewal makes a connection of its own, because an idle one is closed
long before a renewal. A worker that is told to come again does, after a jittered pause. Figures are kept in
`benchmarks/results/renewals.json`.
"""

# ruff: noqa: E402 - gRPC reads its environment as it is imported, and the fakes are no package that is installed

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from cloister.kit.lifecycle import require_tls13

require_tls13()

from rich.console import Console
from rich.table import Table

from cloister.api.v1.verifier_pb2 import AttestedEvent, WatchAttestedRequest
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.ear import SigningKey
from cloister.errors import ChallengeExpired, CloisterError
from cloister.rpc.channel import Peer
from cloister.verifier.settings import Settings
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.programs import program
from fakes.running_services import WireWorker, verifier_settings
from fakes.sim import simulated_platform

RESULTS = REPOSITORY / "benchmarks" / "results" / "renewals.json"
TIMED = Path(__file__).with_name("timed_verifier.py")
STEPS = "steps.json"
PLATFORMS = 50
WITHIN_S = 10.0
WATCH_S = 600.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Verifier:
    """The process under load."""

    process: asyncio.subprocess.Process
    port: int
    metrics_port: int

    def cpu_s(self) -> list[float]:
        """CPU seconds so far: of the verifier, then of its judging processes."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [_cpu_s(pid), *(_cpu_s(int(child)) for child in children)]

    def lags(self) -> dict[float, float]:
        """How many timers of its loop came at most so many seconds late, so far."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as page:
            text = page.read().decode()
        found = re.findall(r'cloister_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', text)
        return {float(bound): float(count) for bound, count in found}


@dataclass
class Wave:
    """What came of a thousand at once."""

    name: str
    served_s: list[float] = field(default_factory=list)
    retries: int = 0
    cpu_s: list[float] = field(default_factory=list)
    load_cpu_s: float = 0.0
    lag_p50_s: float = 0.0
    lag_p99_s: float = 0.0
    lag_most_s: float = 0.0


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _toml(settings: Settings, metrics_port: int, processes: int) -> str:
    paths = ("ca_certificate", "ca_private_key", "signing_key", "collateral", "anchor_root", "state_dir")
    lines = [f"{name} = {json.dumps(str(getattr(settings, name)))}" for name in paths]
    lines += [f'cluster = "{settings.cluster}"', 'listen = "127.0.0.1:0"', f'metrics_listen = ":{metrics_port}"']
    lines += [f"appraisal_processes = {processes}", "[tls]"]
    tls = settings.tls
    lines += [
        f"{name} = {json.dumps(str(getattr(tls, name)))}" for name in ("certificate", "private_key", "trust_roots")
    ]
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def running(
    folder: Path, pki: MeshPki, platform: Platform, processes: int, *, time_steps: bool
) -> AsyncIterator[Verifier]:
    """A verifier process that answers, until the block ends."""
    metrics_port = _free_port()
    settings = verifier_settings(folder, pki, platform, SigningKey.generate())
    (folder / "settings.toml").write_text(_toml(settings, metrics_port, processes))
    command = program("verifier", folder / "settings.toml")
    if time_steps:
        command[command.index("-m")] = str(TIMED)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=log, env={**os.environ, "TIMED_STEPS": str(folder / STEPS)}
        )
    try:
        async with asyncio.timeout(60):
            while not (found := re.search(r'"port": ?(\d+)', (folder / "log").read_text())):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        if time_steps:
            process.send_signal(signal.SIGUSR1)
        yield Verifier(process, int(found[1]), metrics_port)
    finally:
        process.terminate()
        await process.wait()


async def _served(worker: WireWorker, peer: Peer, wave: Wave, began: float) -> bytes:
    """Come again until served; returns the certificate."""
    while True:
        try:
            chain = (await worker.appraised(peer)).certificate_chain
        except (CloisterError, TimeoutError) as error:
            if isinstance(error, CloisterError) and not (error.retryable or isinstance(error, ChallengeExpired)):
                raise
            wave.retries += 1
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - not a secret
        else:
            wave.served_s.append(time.perf_counter() - began)
            return chain


async def joining(workers: list[WireWorker], enrol: Peer, wave: Wave) -> list[bytes]:
    """All of them at once, over one connection; returns their certificates."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_served(worker, enrol, wave, began)) for worker in workers]
    return [task.result() for task in tasks]


async def renewing(workers: list[WireWorker], chains: list[bytes], address: str, name: str, wave: Wave) -> None:
    """All of them at once, each over a new connection of its own."""

    async def one(worker: WireWorker, chain: bytes) -> None:
        async with Peer(address, worker.identity(chain), name) as peer:
            await _served(worker, peer, wave, began)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for worker, chain in zip(workers, chains, strict=True):
            group.create_task(one(worker, chain))


@asynccontextmanager
async def measured(verifier: Verifier, wave: Wave) -> AsyncIterator[None]:
    """Fill in what the block cost the processes, and how late the verifier's loop was meanwhile."""
    cpu, lags, load = verifier.cpu_s(), verifier.lags(), time.process_time()
    yield
    wave.load_cpu_s = time.process_time() - load
    wave.cpu_s = [after - before for before, after in zip(cpu, verifier.cpu_s(), strict=True)]
    counts = {bound: count - lags[bound] for bound, count in verifier.lags().items()}
    total = counts[float("inf")]
    wave.lag_p50_s, wave.lag_p99_s, wave.lag_most_s = (
        next(bound for bound, count in counts.items() if count >= total * share) for share in (0.5, 0.99, 1.0)
    )


@asynccontextmanager
async def watched(gateway: Peer) -> AsyncIterator[list[int]]:
    """A gateway that hears of everyone, as one always does; the kinds of events it has heard."""
    heard: list[int] = []

    async def hear() -> None:
        stub: Any = gateway.stub(VerifierStub)
        async for event in stub.WatchAttested(WatchAttestedRequest(), timeout=WATCH_S):
            heard.append(event.kind)

    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(hear())
        yield heard
        hearing.cancel()


async def measure(count: int, processes: int, *, time_steps: bool) -> tuple[list[Wave], dict[str, float]]:
    """Both waves, and how long the steps of the verifier's loop took where they are timed."""
    pki, base = MeshPki(), simulated_platform()
    platforms = [base.copy() for _ in range(PLATFORMS)]
    for number, platform in enumerate(platforms):
        platform.ppid = number.to_bytes(16, "big")
    workers = [WireWorker(pki, platforms[number % PLATFORMS]) for number in range(count)]
    waves = [Wave("join"), Wave("renew")]
    with TemporaryDirectory() as folder:
        async with running(Path(folder), pki, base, processes, time_steps=time_steps) as verifier:
            address, name = f"127.0.0.1:{verifier.port}", f"verifier.{pki.cluster}"
            async with (
                Peer(address, pki.identity("enrol", "main").held(), name) as enrol,
                Peer(address, pki.identity("gateway", "main").held(), name) as gateway,
                watched(gateway) as heard,
            ):
                async with measured(verifier, waves[0]):
                    chains = await joining(workers, enrol, waves[0])
                async with measured(verifier, waves[1]):
                    await renewing(workers, chains, address, name, waves[1])
                async with asyncio.timeout(WITHIN_S):
                    while heard.count(AttestedEvent.KIND_RENEWED) < count:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
        steps = json.loads((Path(folder) / STEPS).read_text()) if time_steps else {}
    return waves, steps


def table(waves: list[Wave], count: int) -> Table:
    """One column for each wave."""
    shown = Table("", *(wave.name for wave in waves), title=f"{count} workers at once, one machine, load included")
    cuts = [statistics.quantiles(wave.served_s, n=100) for wave in waves]
    shown.add_row("all served within, s", *(f"{max(wave.served_s):.2f}" for wave in waves))
    shown.add_row("p50 / p99 of being served, s", *(f"{cut[49]:.2f} / {cut[98]:.2f}" for cut in cuts))
    shown.add_row("told to come again", *(str(wave.retries) for wave in waves))
    shown.add_row("CPU of the verifier, ms each", *(f"{wave.cpu_s[0] / count * 1e3:.2f}" for wave in waves))
    shown.add_row("CPU of judging processes, ms each", *(f"{sum(wave.cpu_s[1:]) / count * 1e3:.2f}" for wave in waves))
    shown.add_row("CPU of the load, ms each", *(f"{wave.load_cpu_s / count * 1e3:.2f}" for wave in waves))
    for name, lags in (
        ("loop late by at most, half the time, ms", [wave.lag_p50_s for wave in waves]),
        ("  99 % of the time", [wave.lag_p99_s for wave in waves]),
        ("  always", [wave.lag_most_s for wave in waves]),
    ):
        shown.add_row(name, *(f"{lag_s * 1e3:g}" for lag_s in lags))
    return shown


def main() -> int:
    """Measure, print, keep; fails where a wave took longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="0 judges on threads")
    parser.add_argument("--time-steps", action="store_true", help="time each step of the verifier's loop; slower")
    chosen = parser.parse_args()
    waves, steps = asyncio.run(measure(chosen.workers, chosen.processes, time_steps=chosen.time_steps))
    console = Console()
    console.print(table(waves, chosen.workers))
    if steps:
        console.print(
            "{steps} steps of its loop: {over_1_ms} over 1 ms, {over_5_ms} over 5 ms of CPU; "
            "the longest {longest_ms} ms".format_map(steps)
        )
    RESULTS.parent.mkdir(exist_ok=True)
    kept = {"processes": chosen.processes, "waves": [vars(wave) for wave in waves], "steps": steps}
    RESULTS.write_text(json.dumps(kept) + "\n")
    return int(any(max(wave.served_s) > WITHIN_S for wave in waves))


if __name__ == "__main__":
    sys.exit(main())
