"""A thousand workers that hold a lease each: what watching costs, and how soon all have renewed: `make bench-leases`.

A real verifier under a simulated anchor and a real provisioner, each a process, real mutual TLS, and workers that take
all the steps of a renewal: evidence, appraisal, nonce, proof, grant. First all leases end at once, as after an outage.
Then each worker has its stream open; what that costs is counted over some seconds in which nothing happens. Then the
owner sets another policy, and each worker asks again within the time that it is told. The load runs in this process on
the same machine, and its own work (quotes, TLS, HPKE keys) is in the times. Figures are kept in
`benchmarks/results/leases.json`.
"""

# ruff: noqa: E402 - gRPC reads its environment as it is imported, and the fakes are no package that is installed

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY)]

from cloister.kit.lifecycle import require_tls13

require_tls13()

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.api.v1.verifier_pb2 import PURPOSE_KEY_RELEASE
from cloister.ear import SigningKey
from cloister.errors import ChallengeExpired, CloisterError
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.seal.manifest import sign_policy
from fakes.pki import MeshPki
from fakes.programs import program, written
from fakes.release_desk import MODEL_KEY, signed_manifest
from fakes.results import MODEL, good_policy
from fakes.running_services import WireWorker, provisioner_settings, verifier_settings
from fakes.sim import ENCLAVE, simulated_platform

RESULTS = REPOSITORY / "benchmarks" / "results" / "leases.json"
PLATFORMS = 100
CALL_S = 60.0
WATCH_S = 3600.0
OPENING_S = 10.0
LAST_THIRD_S = 20.0
"""What the shortest lease there can be leaves from its renewal to its end."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Service:
    """A process under load."""

    process: asyncio.subprocess.Process
    port: int
    name: str

    def cpu_s(self) -> float:
        """CPU seconds so far, those of its children included."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_cpu_s(int(each)) for each in (pid, *children))

    def peer(self, identity: TlsIdentity) -> Peer:
        """A connection to it."""
        return Peer(f"127.0.0.1:{self.port}", identity, self.name)


@dataclass
class Wave:
    """What came of a thousand at once; seconds."""

    name: str
    renewed_s: list[float] = field(default_factory=list)
    retries: int = 0
    verifier_s: float = 0.0
    provisioner_s: float = 0.0


@dataclass
class Crowd:
    """All workers, their identities, and whom they ask."""

    workers: list[WireWorker]
    members: list[TlsIdentity]
    verifier: Service
    provisioner: Service
    leases: dict[int, str] = field(default_factory=dict)

    async def renew(self, number: int, to_verifier: Peer, to_provisioner: Peer, wave: Wave, began: float) -> None:
        """All steps of a renewal, again until they succeed."""
        worker = self.workers[number]
        while True:
            try:
                token = (await worker.appraised(to_verifier, PURPOSE_KEY_RELEASE)).attestation_result
                self.leases[number] = (await worker.released(to_provisioner, token, MODEL)).lease_id
            except (CloisterError, TimeoutError) as error:
                if isinstance(error, CloisterError) and not (error.retryable or isinstance(error, ChallengeExpired)):
                    raise
                wave.retries += 1
                await asyncio.sleep(random.uniform(1.0, 2.0))  # noqa: S311 - not a secret
            else:
                wave.renewed_s.append(time.perf_counter() - began)
                return

    @asynccontextmanager
    async def measured(self, wave: Wave) -> AsyncIterator[None]:
        """Fill in what the block cost the two services."""
        before = self.verifier.cpu_s(), self.provisioner.cpu_s()
        yield
        wave.verifier_s = self.verifier.cpu_s() - before[0]
        wave.provisioner_s = self.provisioner.cpu_s() - before[1]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@asynccontextmanager
async def running(folder: Path, service: str, settings: Any, cluster: str) -> AsyncIterator[Service]:
    """A service as a process, until the block ends."""
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*program(service, written(folder, settings)), stdout=log)
    try:
        async with asyncio.timeout(60):
            while not (found := re.search(r'"port": ?(\d+)', (folder / "log").read_text())):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield Service(process, int(found[1]), f"{service}.{cluster}")
    finally:
        process.terminate()
        await process.wait()


async def publish(owner: Peer, key: Ed25519PrivateKey) -> None:
    """Register the model."""
    stub: Any = owner.stub(ProvisionerStub)
    manifest, signature, public_key = signed_manifest(key)
    signed = pb.SignedManifest(manifest=manifest, signature=signature, public_key=public_key)
    await stub.RegisterModel(pb.RegisterModelRequest(manifest=signed, model_key=MODEL_KEY.reveal()), timeout=CALL_S)


async def allow(owner: Peer, key: Ed25519PrivateKey, version: int) -> None:
    """Let the workers have the key, by another policy each time."""
    raw = good_policy(
        allow_simulated=True, mrenclave=[ENCLAVE.mrenclave.hex()], signers=[], version=version
    ).SerializeToString()
    stub: Any = owner.stub(ProvisionerStub)
    request = pb.SetReleasePolicyRequest(policy=raw, signature=sign_policy(raw, key))
    await stub.SetReleasePolicy(request, timeout=CALL_S)


async def at_once(crowd: Crowd) -> Wave:
    """All of them, each over connections of its own, as after an outage."""
    wave = Wave("all leases end at once")

    async def one(number: int) -> None:
        member = crowd.members[number]
        async with crowd.verifier.peer(member) as to_verifier, crowd.provisioner.peer(member) as to_provisioner:
            await crowd.renew(number, to_verifier, to_provisioner, wave, began)

    async with crowd.measured(wave):
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(len(crowd.workers)):
                group.create_task(one(number))
    return wave


async def told(crowd: Crowd, owner: Peer, key: Ed25519PrivateKey, quiet_s: float) -> tuple[float, Wave]:
    """All watch; nothing happens for a while; then a policy is set. Returns CPU seconds a second, and the wave."""
    wave, listening, began = Wave("a policy is set"), asyncio.Semaphore(0), 0.0

    async def heard(provisioner: Peer, lease_id: str) -> int:
        """Wait until the lease is to be asked for again, on one stream after another; returns within which time."""
        stub: Any = provisioner.stub(ProvisionerStub)
        begun = False
        while True:
            try:
                async for event in stub.WatchLeases(pb.WatchLeasesRequest(lease_ids=[lease_id]), timeout=WATCH_S):
                    if not begun:
                        begun = True
                        listening.release()
                    if event.changed:
                        return int(event.within_ms)
            except CloisterError:
                wave.retries += 1
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - not a secret

    async def one(number: int) -> None:
        member = crowd.members[number]
        async with crowd.verifier.peer(member) as to_verifier, crowd.provisioner.peer(member) as to_provisioner:
            await asyncio.sleep(random.uniform(0, OPENING_S))  # noqa: S311 - not a secret
            within_ms = await heard(to_provisioner, crowd.leases[number])
            await asyncio.sleep(random.uniform(0, within_ms / 1000))  # noqa: S311 - not a secret
            await crowd.renew(number, to_verifier, to_provisioner, wave, began)

    async with asyncio.TaskGroup() as group:
        for number in range(len(crowd.workers)):
            group.create_task(one(number))
        for _ in crowd.workers:
            await listening.acquire()
        before, quiet = crowd.provisioner.cpu_s(), time.perf_counter()
        await asyncio.sleep(quiet_s)
        watching = (crowd.provisioner.cpu_s() - before) / (time.perf_counter() - quiet)
        costs = crowd.verifier.cpu_s(), crowd.provisioner.cpu_s()
        began = time.perf_counter()
        await allow(owner, key, 2)
    wave.verifier_s, wave.provisioner_s = crowd.verifier.cpu_s() - costs[0], crowd.provisioner.cpu_s() - costs[1]
    return watching, wave


async def measure(count: int, processes: int, quiet_s: float) -> tuple[float, list[Wave]]:
    """What watching costs, and both waves."""
    pki, base, key = MeshPki(), simulated_platform(), SigningKey.generate()
    platforms = [base.copy() for _ in range(min(PLATFORMS, count))]
    for platform in platforms:
        platform.ppid = secrets.token_bytes(16)
    workers = [WireWorker(pki, platforms[number % len(platforms)]) for number in range(count)]
    with TemporaryDirectory() as folder:
        v_folder, p_folder, owner_key = Path(folder, "v"), Path(folder, "p"), Ed25519PrivateKey.generate()
        v_settings = replace(verifier_settings(v_folder, pki, base, key), appraisal_processes=processes)
        async with running(v_folder, "verifier", v_settings, pki.cluster) as verifier:
            p_settings = provisioner_settings(
                p_folder, pki, key, verifier=f"127.0.0.1:{verifier.port}", releases_per_minute=100_000
            )
            async with (
                running(p_folder, "provisioner", p_settings, pki.cluster) as provisioner,
                provisioner.peer(pki.identity("owner", "main").held()) as owner,
                verifier.peer(pki.identity("enrol", "main").held()) as enrol,
            ):
                await publish(owner, owner_key)
                await allow(owner, owner_key, 1)
                members = [worker.identity((await worker.appraised(enrol)).certificate_chain) for worker in workers]
                crowd = Crowd(workers, members, verifier, provisioner)
                first = await at_once(crowd)
                watching, second = await told(crowd, owner, owner_key, quiet_s)
    return watching, [first, second]


def table(watching: float, waves: list[Wave], count: int) -> Table:
    """One column for each wave."""
    shown = Table("", *(wave.name for wave in waves), title=f"{count} workers, one machine, load included")
    cuts = [statistics.quantiles(wave.renewed_s, n=100) for wave in waves]
    shown.add_row("all renewed within, s", *(f"{max(wave.renewed_s):.2f}" for wave in waves))
    shown.add_row("p50 / p99, s", *(f"{cut[49]:.2f} / {cut[98]:.2f}" for cut in cuts))
    shown.add_row("told to come again, or cut off", *(str(wave.retries) for wave in waves))
    shown.add_row("CPU of the verifier, ms each", *(f"{wave.verifier_s / count * 1e3:.2f}" for wave in waves))
    shown.add_row("CPU of the provisioner, ms each", *(f"{wave.provisioner_s / count * 1e3:.2f}" for wave in waves))
    shown.add_row("CPU of the provisioner while all only watch, share of a core", f"{watching:.3f}", "")
    return shown


def main() -> int:
    """Measure, print, keep; fails where a wave takes longer than the last third of the shortest lease."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="that judge evidence")
    parser.add_argument("--quiet-s", type=float, default=10.0, help="in which nothing happens")
    chosen = parser.parse_args()
    watching, waves = asyncio.run(measure(chosen.workers, chosen.processes, chosen.quiet_s))
    Console().print(table(watching, waves, chosen.workers))
    RESULTS.parent.mkdir(exist_ok=True)
    kept = {"processes": chosen.processes, "watching_cores": watching, "waves": [vars(wave) for wave in waves]}
    RESULTS.write_text(json.dumps(kept) + "\n")
    return int(any(max(wave.renewed_s) > LAST_THIRD_S for wave in waves))


if __name__ == "__main__":
    sys.exit(main())
