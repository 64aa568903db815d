"""What it would cost a worker to take jobs from Redis, beside what the link costs it: `make bench-pulling`.

Behind decision 0044. By the link, a process of the gateway reads from Redis, and a frame of the worker link takes the
jobs on. Pulling saves the hop, and moves everything that talks to Redis into the worker. So there are three figures,
CPU of one process for each job: the loop that reads from Redis and settles there (whoever runs it), and the two ends of
a link that carries the same bytes. A real redis-server and a real gRPC stream, both over mutual TLS, every process on
uvloop; the loop is the barest that redis-py allows, one XREADGROUP and one script for all jobs that it got. No job is
opened and nothing evaluated: that is the same either way.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384")

import grpc
import grpc.aio
import uvloop
from benchmarks import processes
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from cloister.api.v1.worker_pb2 import GatewayFrame, InferCall, InferResult, WorkerFrame
from fakes.pki import MeshPki, Pems
from fakes.redis_server import ADMIN, RedisServer, redis_running

TOGETHER = (1, 16, 64)
REQUEST, RESPONSE = os.urandom(1200), os.urandom(900)
"""A sealed job of a tiny model, and its answer."""
STREAM, FEED = "bench:jobs", "bench:ends"
SETTLE = """
for i = 1, #ARGV - 1 do
  local record = KEYS[1] .. ':' .. ARGV[i]
  redis.call('HSET', record, 'state', 'answered', 'response', ARGV[#ARGV])
  redis.call('PEXPIRE', record, 60000)
  redis.call('XACK', KEYS[1], 'workers', ARGV[i])
  redis.call('XDEL', KEYS[1], ARGV[i])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'id', ARGV[i])
end
"""
LINK, NAME = "/bench.Worker/Link", "bench.worker"
_spawning = multiprocessing.get_context("spawn")  # gRPC does not survive a fork


def main() -> None:
    """Measure in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000, help="of each kind in each round")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    table = Table(title="CPU in µs for each job; the least of all rounds")
    for heading in ("jobs at a time", "reading and settling", "redis-server then", "link, gateway", "link, worker"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        pki = MeshPki()
        with redis_running(Path(folder), pki, lines="appendonly yes\nappendfsync everysec\n") as server:
            for together in TOGETHER:
                jobs = chosen.jobs if together > 1 else chosen.jobs // 4
                rounds = [(*pulled(server, jobs, together), *linked(pki, jobs, together)) for _ in range(chosen.rounds)]
                least = (min(each) for each in zip(*rounds, strict=True))
                table.add_row(str(together), *(f"{1e6 * each / jobs:.0f}" for each in least))
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def pulled(server: RedisServer, jobs: int, together: int) -> tuple[float, float]:
    """CPU seconds of the loop, and of redis-server meanwhile."""
    server.admin("FLUSHALL")
    server.admin("XGROUP", "CREATE", STREAM, "workers", "$", "MKSTREAM")
    uvloop.run(_fill(_files(server), jobs))
    before_s = processes.cpu_s(server.pid)
    loop_s = _elsewhere(_pull, _files(server), jobs, together)
    assert server.admin("XLEN", STREAM) == 0, "not every job was settled"
    return loop_s, processes.cpu_s(server.pid) - before_s


def linked(pki: MeshPki, jobs: int, together: int) -> tuple[float, float]:
    """CPU seconds of both ends of a link, the sender's first."""
    sender, answerer = pki.identity("gateway", "main"), pki.identity("gateway", "bench", (NAME,))
    port, spent = _spawning.Queue(), _spawning.Queue()
    process = _spawning.Process(target=_answer, args=(answerer, port, spent))
    process.start()
    try:
        sender_s = _elsewhere(_send, sender, port.get(timeout=60), jobs, together)
        return sender_s, float(spent.get(timeout=60))
    finally:
        process.terminate()
        process.join()


def _files(server: RedisServer) -> dict[str, Any]:
    told = server.settings()
    tls = {"ssl_ca_certs": told.trust_roots, "ssl_certfile": told.certificate, "ssl_keyfile": told.private_key}
    return {"port": server.port, **{name: str(path) for name, path in tls.items()}}


def _redis(files: dict[str, Any]) -> Redis:
    return Redis(host="127.0.0.1", username="admin", password=ADMIN, ssl=True, protocol=2, **files)


async def _fill(files: dict[str, Any], jobs: int) -> None:
    async with _redis(files) as client:
        for at in range(0, jobs, 500):
            pipeline = client.pipeline(transaction=False)
            for _ in range(min(500, jobs - at)):
                pipeline.xadd(STREAM, {"job": REQUEST})
            await pipeline.execute()


async def _pull(files: dict[str, Any], jobs: int, together: int) -> float:
    async with _redis(files) as client:
        settle, left = client.register_script(SETTLE), jobs
        await client.xreadgroup("workers", "warm", {STREAM: "0"}, count=1)
        began_s = time.process_time()
        while left:
            ((_, entries),) = await client.xreadgroup("workers", "one", {STREAM: ">"}, count=together)
            await settle(keys=(STREAM, FEED), args=(*(entry for entry, _ in entries), RESPONSE))
            left -= len(entries)
        return time.process_time() - began_s


async def _send(pems: Pems, port: int, jobs: int, together: int) -> float:
    credentials = grpc.ssl_channel_credentials(pems.trust_roots, pems.private_key, pems.certificate)
    options = (("grpc.ssl_target_name_override", NAME),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        call = channel.stream_stream(LINK)(timeout=600)
        await call.write(b"")
        await call.read()
        began_s, left = time.process_time(), jobs
        while left:
            count = min(together, left)
            calls = [InferCall(call_id=left - each, request=REQUEST, timeout_ms=1000) for each in range(count)]
            await call.write(GatewayFrame(calls=calls).SerializeToString())
            frame = WorkerFrame.FromString(await call.read())
            assert [result.call_id for result in frame.results] == [each.call_id for each in calls]
            left -= count
        spent_s = time.process_time() - began_s
        await call.done_writing()
        await call.read()
        return spent_s


def _answer(pems: Pems, port: Any, spent: Any) -> None:
    uvloop.run(_answering(pems, port, spent))


async def _answering(pems: Pems, port: Any, spent: Any) -> None:
    done = asyncio.Event()

    async def link(_request: Any, context: Any) -> None:
        await context.read()
        await context.write(b"")
        began_s = time.process_time()
        while (raw := await context.read()) is not grpc.aio.EOF:
            results = [
                InferResult(call_id=each.call_id, response=RESPONSE) for each in GatewayFrame.FromString(raw).calls
            ]
            await context.write(WorkerFrame(results=results).SerializeToString())
        spent.put(time.process_time() - began_s)
        done.set()

    method = grpc.stream_stream_rpc_method_handler(link)
    server = grpc.aio.server(handlers=(grpc.method_handlers_generic_handler("bench.Worker", {"Link": method}),))
    pair = ((pems.private_key, pems.certificate),)
    credentials = grpc.ssl_server_credentials(pair, pems.trust_roots, require_client_auth=True)
    port.put(server.add_secure_port("127.0.0.1:0", credentials))
    await server.start()
    await done.wait()
    await server.stop(5)


def _elsewhere(measure: Callable[..., Any], *args: Any) -> float:
    """What a coroutine function returns, run in a process of its own."""
    found = _spawning.Queue()
    process = _spawning.Process(target=_put, args=(found, measure, args))
    process.start()
    process.join(600)
    assert process.exitcode == 0, f"{measure.__name__} failed"
    return float(found.get(timeout=5))


def _put(found: Any, measure: Callable[..., Any], args: Any) -> None:
    found.put(uvloop.run(measure(*args)))


if __name__ == "__main__":
    main()
