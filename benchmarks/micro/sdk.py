"""What the SDK costs the client's own process, beside a bare generated stub on grpc.aio: `make bench-sdk`.

All ask one mesh for the same tiny network, in one process, by turns, with the same requests under way. The bare client
does the least that a client can: it sends one message that it made before, and does not look at the answers. What
counts is CPU of this process, all its threads, for each answer; ratios are of one round, and their median is told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

# gRPC reads its ciphers when it is imported.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc.aio
from benchmarks.load import questions
from benchmarks.load.carriers import Target
from benchmarks.models.catalogue import NETWORKS
from benchmarks.systems import mesh
from benchmarks.systems.running import REPOSITORY
from rich.console import Console
from rich.table import Table

from cloister import Client, SyncClient
from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from cloister.client import tls_files
from cloister.client.question import Inputs

Way = Callable[[int], Awaitable[None]]
"""Asks so many times."""
BARE = {
    "unary": "unary",
    "stream": "stream",
    "infer_many": "stream",
    "sealed unary": "unary",
    "sealed stream": "stream",
    "sealed infer_many": "stream",
    "SyncClient.infer_many": "stream",
}
"""Each of the SDK's ways, and the bare one that it is held against."""


def main() -> None:
    """Start a mesh, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000, help="of each way in each round")
    parser.add_argument("--concurrency", type=int, default=32)
    chosen = parser.parse_args()
    (place,) = mesh.prepared([NETWORKS["mlp"]], REPOSITORY / ".bench" / "sdk", 20_000 + 16 * secrets.randbelow(300))
    with mesh.mesh([place], mesh.Size()) as running:
        found = asyncio.run(measured(running.targets["unary"], chosen.rounds, chosen.requests, chosen.concurrency))
    table = Table(
        "way", "µs", "bare µs", "ratio", title=f"CPU of the client for each answer, {chosen.concurrency} under way"
    )
    for way, bare in BARE.items():
        ratios = [mine / other for mine, other in zip(found[way], found[f"bare {bare}"], strict=True)]
        micro = [1e6 * median(found[name]) for name in (way, f"bare {bare}")]
        table.add_row(way, f"{micro[0]:.0f}", f"{micro[1]:.0f}", f"{median(ratios):.2f}")
    Console().print(table)


async def measured(target: Target, rounds: int, requests: int, concurrency: int) -> dict[str, list[float]]:
    """CPU seconds for each answer, by way, for each round."""
    spent: dict[str, list[float]] = {}
    inputs = questions.read(Path(target.questions))[0]
    async with bare(target, inputs, concurrency) as plain, ours(target, inputs, concurrency) as asked:
        ways = {**plain, **asked}
        for way in ways.values():
            await way(requests // 4)  # everything is connected, judged and warm
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.process_time()
                await way(requests)
                spent.setdefault(name, []).append((time.process_time() - began) / requests)
    return spent


@asynccontextmanager
async def bare(target: Target, inputs: Inputs, concurrency: int) -> AsyncIterator[dict[str, Way]]:
    """The generated stub, over a channel of its own with the same identity."""
    files = tls_files(Path(target.identity))
    credentials = grpc.ssl_channel_credentials(
        files.trust_roots.read_bytes(), files.private_key.read_bytes(), files.certificate.read_bytes()
    )
    options = (("grpc.ssl_target_name_override", target.server_name),)
    request = ModelInferRequest.FromString(questions.oip(target.model, inputs))
    async with grpc.aio.secure_channel(target.address, credentials, options=options) as channel:
        stub = GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]  # generated

        async def unary(count: int) -> None:
            await shared(lambda: stub.ModelInfer(request, timeout=60), count, concurrency)

        async def stream(count: int) -> None:
            call = stub.ModelStreamInfer(timeout=60)
            room = asyncio.Semaphore(concurrency)

            async def write() -> None:
                for _ in range(count):
                    await room.acquire()
                    await call.write(request)
                await call.done_writing()

            async with asyncio.TaskGroup() as group:
                group.create_task(write())
                while (item := await call.read()) is not grpc.aio.EOF:
                    assert not item.error_message
                    room.release()

        yield {"bare unary": unary, "bare stream": stream}


@asynccontextmanager
async def ours(target: Target, inputs: Inputs, concurrency: int) -> AsyncIterator[dict[str, Way]]:
    """The SDK's ways, over two clients that both know the workers."""
    where = {"trust": target.trust, "identity": target.identity}
    with SyncClient(target.address, **where) as plain:
        async with Client.connect(target.address, **where) as client, client.stream() as streaming:

            def infer(by: Client, sealed: bool) -> Way:
                return lambda count: shared(lambda: by.infer(target.model, inputs, sealed=sealed), count, concurrency)

            async def many(count: int, sealed: bool) -> None:
                asked = await client.infer_many(target.model, [inputs] * count, concurrency=concurrency, sealed=sealed)
                assert len(asked) == count

            def in_thread(count: int) -> None:
                plain.infer_many(target.model, [inputs] * count, concurrency=concurrency, sealed=False)

            yield {
                "unary": infer(client, False),
                "stream": infer(streaming, False),
                "infer_many": lambda count: many(count, False),
                "sealed unary": infer(client, True),
                "sealed stream": infer(streaming, True),
                "sealed infer_many": lambda count: many(count, True),
                "SyncClient.infer_many": lambda count: asyncio.to_thread(in_thread, count),
            }


async def shared(ask: Callable[[], Awaitable[object]], count: int, concurrency: int) -> None:
    """Ask `count` times, with so many under way."""
    numbers = iter(range(count))

    async def asking() -> None:
        for _ in numbers:
            await ask()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(asking())


if __name__ == "__main__":
    main()
