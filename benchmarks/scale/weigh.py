"""What a link weighs: memory of a gateway process and of a worker for each one that is open, with nothing under way.

The gateway's end is its own: `Link` behind the dispatcher, a channel with mutual TLS each. The other ends, of as many
workers, are in one process, started as `python -m benchmarks.scale.weigh FOLDER`, which writes its port there.
"""

# ruff: noqa: E402 - gRPC reads its environment as it is imported, and the fakes are no package that is installed

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY)]

from cloister.kit.lifecycle import require_tls13

require_tls13()

from benchmarks.processes import rss_bytes
from benchmarks.systems.running import process

from cloister.api.v1.worker_pb2 import ModelState, WorkerFrame
from cloister.api.v1.worker_pb2_grpc import WorkerServicer, add_WorkerServicer_to_server
from cloister.errors import NotFound
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.limits import Limits, ModelLimits
from cloister.gateway.link import Link
from cloister.gateway.member import LinkStub
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Server
from cloister.rpc.channel import STREAM_S, Peer
from cloister.rpc.identity import TlsFiles, TlsIdentity
from fakes.pki import MeshPki

FEW, MANY, AT_ONCE = 50, 500, 25
SLOTS = 16
SETTLED_S = 1.0
LOG = REPOSITORY / ".bench" / "scale" / "weigh.log"
PATIENCE_S = 30.0
SIGN_OF_LIFE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Of one link, by what `MANY` took more than `FEW`."""

    gateway_bytes: float
    worker_bytes: float


class Quiet(WorkerServicer):
    """Says what it serves, and then that it is there: a link that brings nothing is given up."""

    async def Link(self, requests: Any, context: Any) -> AsyncIterator[WorkerFrame]:
        """As a worker's."""
        yield WorkerFrame(slots=SLOTS, models_changed=True, models=[ModelState(name="tiny", version="1")])
        while not context.done():
            await asyncio.sleep(SIGN_OF_LIFE_S)
            yield WorkerFrame()


async def serve(folder: Path) -> None:
    """Be the workers, until told to stop."""
    files = TlsFiles(
        certificate=folder / "certificate.pem", private_key=folder / "key.pem", trust_roots=folder / "roots.pem"
    )
    async with Lifecycle.running() as lifecycle, TlsIdentity.watching(files) as identity:
        roles = {"cloister.api.v1.Worker": {"gateway"}}
        async with Server.mtls("127.0.0.1:0", identity, lifecycle=lifecycle, roles=roles) as server:
            server.add(add_WorkerServicer_to_server, Quiet())
            await server.start()
            (folder / "writing").write_text(str(server.port))
            (folder / "writing").rename(folder / "port")
            await asyncio.Event().wait()


async def weighed(few: int = FEW, many: int = MANY) -> Weighed:
    """Open links, and look at both processes with few of them and with many."""
    pki = MeshPki()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        pki.identity("worker", "a" * 32).write(folder)
        command = (sys.executable, "-m", "benchmarks.scale.weigh", folder)
        pid = stack.enter_context(process(command, LOG, {"PYTHONPATH": str(REPOSITORY)}))
        address, identity = f"127.0.0.1:{await _port(folder)}", pki.identity("gateway", "main").held()
        dispatcher = Dispatcher(Limits(ModelLimits(queue=256)), lambda route: NotFound("no such model"))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks: list[asyncio.Task[None]] = []
        looks = []
        for count in (few, many):
            while len(tasks) < count:
                links = [Link(f"{len(tasks) + at:032x}", dispatcher) for at in range(min(AT_ONCE, count - len(tasks)))]
                peers = [Peer(address, identity, f"{'a' * 32}.worker.{pki.cluster}") for _ in links]
                tasks += [group.create_task(_linked(*each, dispatcher)) for each in zip(links, peers, strict=True)]
                while not all(link.slots for link in links):  # noqa: ASYNC110  # a link tells nobody that it is up
                    await asyncio.sleep(0.02)
            await asyncio.sleep(SETTLED_S)
            looks.append((rss_bytes(os.getpid()), rss_bytes(pid)))
        for task in tasks:
            task.cancel()
    gateway_bytes, worker_bytes = ((after - before) / (many - few) for before, after in zip(*looks, strict=True))
    return Weighed(gateway_bytes=gateway_bytes, worker_bytes=worker_bytes)


async def _linked(link: Link, peer: Peer, dispatcher: Dispatcher) -> None:
    async with peer:
        stream = peer.stub(LinkStub).link(timeout=STREAM_S)
        dispatcher.attach(link)
        try:
            await link.run(stream)
        finally:
            stream.cancel()


async def _port(folder: Path) -> int:
    """Of the workers, once they listen."""
    async with asyncio.timeout(PATIENCE_S):
        while not (folder / "port").exists():  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.05)
    return int((folder / "port").read_text())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve(Path(sys.argv[1])))
    else:
        print(asyncio.run(weighed()))
