"""Releases over the wire: mutual TLS, gRPC, nonce and key, many workers at once: `make bench-releases`.

A real verifier, which the provisioner follows and which countersigns its log, and a real provisioner, each a process.
The workers are simulated in this one, each with its own certificate and connection; their results are signed beforehand
with the verifier's key. Counted is the CPU of the provisioner for each release, both calls together, the verifier's,
and the workers', which is nothing of the mesh's. With `--sustained` so many are asked for by 64 at once, and the
provisioner's memory is looked at meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.processes import rss_bytes
from benchmarks.scenarios.leases import Service, allow, publish, running  # first: it readies gRPC, and finds the fakes

# isort: split

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from cloister import ear
from cloister.ear import SigningKey
from cloister.rpc.channel import Peer
from cloister.seal.hpke import X25519, XWING, KeyPair
from fakes.pki import MeshPki
from fakes.results import MODEL, good_result
from fakes.running_services import WireWorker, provisioner_settings, verifier_settings
from fakes.sim import ENCLAVE, simulated_platform

WORKERS, RELEASES, ROUNDS = 32, 512, 3
TOGETHER = (1, 8, 64, 256)
SUSTAINED_TOGETHER, LOOKS = 64, 10
RESULT_LIFE = timedelta(minutes=5)


class Turn(NamedTuple):
    """What one turn came to, in microseconds for one release."""

    provisioner: float
    verifier: float
    workers: float
    wall: float


@dataclass
class Crowd:
    """Who asks whom."""

    pki: MeshPki
    key: SigningKey
    verifier: Service
    provisioner: Service
    workers: list[tuple[WireWorker, Peer]]

    def token(self, worker: WireWorker) -> str:
        """A fresh result for a worker, as the verifier would sign it."""
        now = datetime.now(UTC).replace(microsecond=0)
        result = good_result(
            ear_id=secrets.token_hex(16),
            issuer=f"spiffe://{self.pki.cluster}/verifier/one",
            issued_at=now,
            expires_at=now + RESULT_LIFE,
            cluster=self.pki.cluster,
            instance=worker.instance,
            spiffe_id=f"spiffe://{self.pki.cluster}/worker/{worker.instance}",
            tls_spki_sha256=hashlib.sha256(worker.spki).digest(),
            receipt_key=worker.receipt.public_key().public_bytes_raw(),
            hpke_suite=worker.hpke.suite,
            hpke_public=worker.hpke.public,
            mrenclave=ENCLAVE.mrenclave.hex(),
        )
        return ear.issue(result, self.key)

    async def turn(self, together: int, count: int) -> Turn:
        """So many releases, so many at once."""
        asked = [self.workers[number % WORKERS] for number in range(count)]
        waiting = iter([(worker, peer, self.token(worker)) for worker, peer in asked])

        async def one_after_the_other() -> None:
            for worker, peer, token in waiting:
                await worker.released(peer, token, MODEL)

        before = self.provisioner.cpu_s(), self.verifier.cpu_s(), time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(together):
                group.create_task(one_after_the_other())
        after = self.provisioner.cpu_s(), self.verifier.cpu_s(), time.process_time(), time.perf_counter()
        return Turn(*((end - begin) / count * 1e6 for begin, end in zip(before, after, strict=True)))


@asynccontextmanager
async def crowd(suite: str) -> AsyncIterator[Crowd]:
    """Both services and the workers, until the block ends."""
    pki, key, owner_key = MeshPki(), SigningKey.generate(), Ed25519PrivateKey.generate()
    workers = [WireWorker(pki, simulated_platform(), hpke=KeyPair.generate(suite)) for _ in range(WORKERS)]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        settings = verifier_settings(folder / "v", pki, simulated_platform(), key)
        verifier = await stack.enter_async_context(running(folder / "v", "verifier", settings, pki.cluster))
        p_settings = provisioner_settings(
            folder / "p",
            pki,
            key,
            verifier=f"127.0.0.1:{verifier.port}",
            releases_per_minute=1_000_000,
            epoch_suite=suite,
        )
        provisioner = await stack.enter_async_context(running(folder / "p", "provisioner", p_settings, pki.cluster))
        async with provisioner.peer(pki.identity("owner", "main").held()) as owner:
            await publish(owner, owner_key)
            await allow(owner, owner_key, 1)
        peers = []
        for worker in workers:
            identity = pki.identity("worker", worker.instance, key=worker.tls).held()
            peers.append((worker, await stack.enter_async_context(provisioner.peer(identity))))
        yield Crowd(pki, key, verifier, provisioner, peers)


async def rates(rounds: int) -> Table:
    """Turns of each number together, with both suites in turns."""
    turns: dict[tuple[str, int], list[Turn]] = {}
    async with crowd(XWING) as first, crowd(X25519) as second:
        for each in (first, second):
            await each.turn(SUSTAINED_TOGETHER, WORKERS * 2)  # connections, and the epoch
        for _ in range(rounds):
            for suite, each in ((XWING, first), (X25519, second)):
                for together in TOGETHER:
                    count = RELEASES // (4 if together == 1 else 1)
                    turns.setdefault((suite, together), []).append(await each.turn(together, count))
    columns = ("CPU µs", "/s, core", "verifier", "workers", "/s here")
    table = Table(
        "sealed by",
        "together",
        *columns,
        title="releases over the wire: CPU for each",
    )
    for (suite, together), found in turns.items():
        middle = Turn(*(statistics.median(values) for values in zip(*found, strict=True)))
        figures = (middle.provisioner, 1e6 / middle.provisioner, middle.verifier, middle.workers, 1e6 / middle.wall)
        table.add_row(suite, str(together), *(f"{figure:.0f}" for figure in figures))
    return table


async def sustained(releases: int) -> Table:
    """One long run by X-Wing."""
    table = Table("releases", "a second and core", "a second here", "provisioner RSS, MB", title="a long run")
    async with crowd(XWING) as many:
        done = 0
        while done < releases:
            turn = await many.turn(SUSTAINED_TOGETHER, releases // LOOKS)
            done += releases // LOOKS
            rss_mb = rss_bytes(many.provisioner.process.pid) / 1e6
            table.add_row(str(done), f"{1e6 / turn.provisioner:.0f}", f"{1e6 / turn.wall:.0f}", f"{rss_mb:.0f}")
    return table


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--sustained", type=int, default=0, metavar="RELEASES", help="one long run instead")
    chosen = parser.parse_args()
    Console().print(asyncio.run(sustained(chosen.sustained) if chosen.sustained else rates(chosen.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
