"""The process that gives jobs to workers, for real: beside the others of its gateway, killed, replaced and drained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from cloister.api.v1 import jobs_pb2
from cloister.kit.shared_port import VARIABLE
from fakes.attested_feed import AttestedFeed
from fakes.gateway_parts import A
from fakes.job_store_on_redis import jobs_redis
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer
from fakes.running_gateway import Rig
from fakes.running_jobs import JobsRig, submission
from fakes.worker_link import FakeWorker


class Gateway:
    """`cloister-gateway` with a Redis, a verifier and a worker beside it.

    Attributes:
        process: The parent of the others.
        jobs: Calls it as a client.
    """

    def __init__(self, folder: Path, pki: MeshPki, redis: RedisServer, stack: AsyncExitStack) -> None:
        self.folder, self.pki, self.redis, self._stack = folder, pki, redis, stack
        self.process: asyncio.subprocess.Process
        self.jobs: JobsRig
        self.metrics_port = 0
        self._lines: list[dict[str, Any]] = []
        self._said = asyncio.Condition()

    async def start(self, feed: AttestedFeed) -> None:
        port, self.metrics_port = free_port(), free_port(2)
        settings = self.redis.settings(user="gateway")
        tls = self.pki.identity("gateway", "main", ips=("127.0.0.1",)).write(self.folder / "tls")
        tables = {
            "": {
                "cluster": self.pki.cluster,
                "listen": f"127.0.0.1:{port}",
                "verifier": f"127.0.0.1:{feed.port}",
                "metrics_listen": f"127.0.0.1:{self.metrics_port}",
                "grace_s": 5.0,
            },
            "tls": {name: getattr(tls, name) for name in ("certificate", "private_key", "trust_roots")},
            "redis": {
                name: getattr(settings, name)
                for name in (
                    "url",
                    "trust_roots",
                    "certificate",
                    "private_key",
                    "user",
                    "password_file",
                    "shared_key",
                )
            },
        }
        text = ""
        for name, table in tables.items():
            text += f"[{name}]\n" if name else ""
            text += "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
        (self.folder / "settings.toml").write_text(text)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cloister.gateway", "--settings", str(self.folder / "settings.toml")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONASYNCIODEBUG": "0"},
        )
        gateway = Rig(self._stack, self.pki, feed, None)  # type: ignore[arg-type]
        gateway.port = port
        self.jobs = JobsRig(gateway, self.redis, None)  # type: ignore[arg-type]

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            async with self._said:
                self._lines.append(json.loads(line))
                self._said.notify_all()

    async def said(self, event: str, count: int = 1) -> None:
        """Wait until its processes have logged an event so often."""
        async with asyncio.timeout(60), self._said:
            await self._said.wait_for(lambda: sum(line["event"] == event for line in self._lines) >= count)

    def running_jobs(self) -> int:
        """The process that gives jobs to workers; 0 while there is none."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in listed.read_text().split():
            with suppress(OSError):
                if f"{VARIABLE}=1/1:-:jobs".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    return int(pid)
        return 0


@pytest.fixture
async def worker(pki: MeshPki) -> AsyncIterator[FakeWorker]:
    async with FakeWorker(A, 8).serving(pki) as made:
        yield made


@pytest.fixture
async def gateway(tmp_path: Path, pki: MeshPki, worker: FakeWorker) -> AsyncIterator[Gateway]:
    with jobs_redis(tmp_path / "redis", pki, lines="appendonly yes") as redis:
        async with AsyncExitStack() as stack:
            feed = await stack.enter_async_context(AttestedFeed().serving(pki))
            feed.join(worker.attested())
            made = Gateway(tmp_path, pki, redis, stack)
            await made.start(feed)
            try:
                async with asyncio.timeout(90), asyncio.TaskGroup() as group:
                    reading = group.create_task(made.read())
                    await made.said("jobs.ready", 2)
                    yield made
                    await end(made.process)
                    reading.cancel()
            finally:
                await end(made.process)


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


@pytest.mark.attack("H08")
async def test_killed_with_jobs_it_is_replaced_and_takes_them_again_and_drains(
    gateway: Gateway, worker: FakeWorker
) -> None:
    worker.open_gate.clear()
    asked = [submission() for _ in range(20)]
    await gateway.jobs.gateway.until_linked(A)
    await gateway.jobs.submit(*asked)
    await worker.given(3)
    before = gateway.running_jobs()
    os.kill(before, signal.SIGKILL)
    await gateway.said("process.lost")
    worker.open_gate.set()
    told = await gateway.jobs.watch([each.job_id for each in asked])  # within less than another would wait for it
    ended = [job for job in told if job.state == jobs_pb2.JOB_STATE_ANSWERED]
    assert len(ended) == 20
    assert {job.attempts for job in ended} <= {1, 2}
    assert gateway.running_jobs() not in (0, before)
    page = ""
    while 'cloister_jobs_ended_total{model="tiny",reason="answered"} 20.0' not in page:
        page = await asyncio.to_thread(metrics, gateway.metrics_port + 1)
    assert "cloister_jobs_ready 1.0" in page
    assert 'cloister_jobs_submitted_total{model="tiny",outcome="accepted"} 20.0' in await asyncio.to_thread(
        metrics, gateway.metrics_port
    )
    gateway.process.send_signal(signal.SIGTERM)
    assert await gateway.process.wait() == 0


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def _toml(value: object) -> str:
    return str(value) if isinstance(value, int | float) else json.dumps(str(value))


def free_port(count: int = 1) -> int:
    """The first of so many free ports in a row."""
    while True:
        with suppress(OSError, OverflowError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            if count > 1:
                second.bind(("127.0.0.1", port + 1))
            return port
