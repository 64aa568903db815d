"""What it costs that Redis has what it acknowledges on disk, and what redis-py's two parsers cost its caller.

A script that keeps jobs of 2 KB, as many at a time as callers wait, in a Redis as `cloister init` configures it: over
mutual TLS, an append-only file, and `appendfsync` as each row says. Then one process that reads batches of entries: by
redis-py's parser in Python, or by hiredis, where that is installed.

    make bench-redis
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from cloister.cli import founding, redis_files
from cloister.cli.mesh_folder import Mesh
from cloister.errors import Unavailable
from cloister.gateway.settings import Settings
from cloister.kit.config import load
from cloister.kit.redis import Client, RedisSettings, command, connected, evaluate

JOB: Final = b"\x17" * 2048
BATCH: Final = 64
TIMEOUT_S: Final = 30.0
KEEP: Final = """
for at = 1, #ARGV, 2 do
    redis.call('HSET', KEYS[1] .. ':' .. ARGV[at], 'r', ARGV[at + 1], 's', '0')
    redis.call('XADD', KEYS[1] .. ':s', '*', 'j', ARGV[at])
end
return #ARGV
"""
READ: Final = "return redis.call('XRANGE', KEYS[1] .. ':b', '-', '+', 'COUNT', ARGV[1])"
FILL: Final = "for at = 1, #ARGV do redis.call('XADD', KEYS[1] .. ':b', '*', 'j', ARGV[at], 'h', ARGV[at]) end"


@asynccontextmanager
async def running(mesh: Mesh, appendfsync: str) -> AsyncIterator[RedisSettings]:
    """A Redis of that mesh, and how its gateway comes to it."""
    shutil.rmtree(mesh.redis_folder / redis_files.DATA, ignore_errors=True)
    words = (redis_files.CONFIGURATION, "--appendfsync", appendfsync, "--maxmemory", "2gb", "--loglevel", "warning")
    process = await asyncio.create_subprocess_exec("redis-server", *words, cwd=mesh.redis_folder, stdout=DEVNULL)
    settings = load(Settings, mesh.settings("gateway"), {}, prefix="").redis
    assert settings is not None
    try:
        async with connected(settings) as client:
            async with asyncio.timeout(10):
                while not await _answers(client):  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.02)
        yield settings
    finally:
        process.terminate()
        await process.wait()


async def _answers(client: Client) -> bool:
    try:
        await command(client, 1.0, "PING")
    except Unavailable:
        return False
    return True


async def kept(settings: RedisSettings, key: str, callers: int, batch: int, for_s: float) -> tuple[float, float]:
    """Jobs per second that so many callers have kept, and the median wait of one in ms."""
    until = time.perf_counter() + for_s
    waits: list[float] = []

    async def keep(client: Client, caller: int) -> None:
        number = 0
        while time.perf_counter() < until:
            words: list[Any] = []
            for _ in range(batch):
                number += 1
                words += [f"{caller}-{number}", JOB]
            began = time.perf_counter()
            await evaluate(client, TIMEOUT_S, KEEP, [key], *words)
            waits.append(time.perf_counter() - began)

    async with connected(settings, connections=callers) as client, asyncio.TaskGroup() as group:
        began = time.perf_counter()
        for caller in range(callers):
            group.create_task(keep(client, caller))
    took_s = time.perf_counter() - began
    return len(waits) * batch / took_s, 1000 * sorted(waits)[len(waits) // 2]


async def parsed(settings: RedisSettings, key: str, times: int) -> float:
    """CPU of this process for one entry of 2 × 2 KB that it reads, in µs, batch by batch."""
    async with connected(settings) as client:
        await command(client, TIMEOUT_S, "DEL", f"{key}:b", key=key)
        await evaluate(client, TIMEOUT_S, FILL, [key], *([JOB] * BATCH))
        await evaluate(client, TIMEOUT_S, READ, [key], BATCH)
        before = time.process_time()
        for _ in range(times):
            found = await evaluate(client, TIMEOUT_S, READ, [key], BATCH)
            assert len(found) == BATCH
        return 1e6 * (time.process_time() - before) / times / BATCH


async def measure(for_s: float) -> None:
    """All of it, printed."""
    with tempfile.TemporaryDirectory() as folder:
        plan = founding.Plan(
            folder=Path(folder) / "mesh", cluster="bench.cloister.internal", models=["bench"], hosts=(), simulated=False
        )
        mesh = founding.found(plan, datetime.now(UTC))
        key = f"{mesh.cluster}:jobs:{{bench}}"
        print("appendfsync   callers × jobs   jobs/s   a call, median ms")
        for appendfsync in ("no", "everysec", "always"):
            for callers, batch in ((1, 1), (16, 1), (4, BATCH)):
                async with running(mesh, appendfsync) as settings:
                    rate, wait_ms = await kept(settings, key, callers, batch, for_s)
                print(f"{appendfsync:<12}  {callers:>7} × {batch:<4}  {rate:>8.0f}   {wait_ms:>8.2f}", flush=True)
        async with running(mesh, "no") as settings:
            entry_us = await parsed(settings, key, 200)
        parser = "hiredis" if find_spec("hiredis") else "Python"
        print(f"read by redis-py with its parser in {parser}: {entry_us:.1f} µs of CPU for an entry of 4 KB")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=3.0, help="for each row")
    asyncio.run(measure(options.parse_args().seconds))
