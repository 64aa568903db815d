"""A gateway of several processes, for real: one port, each its own links, killed, replaced and drained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from cloister.api.v1.gateway_pb2 import GetStatusRequest, GetStatusResponse
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.errors import Unavailable
from cloister.kit.shared_port import VARIABLE
from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import server_name
from fakes.attested_feed import AttestedFeed
from fakes.gateway_parts import A, B
from fakes.pki import MeshPki
from fakes.running_gateway import RawStub, ask, who
from fakes.worker_link import FakeWorker

PROCESSES = 2
PATIENCE_S = 120
"""However busy the machine is."""


class Parent:
    """`cloister-gateway` with several processes, a verifier and two workers beside it."""

    def __init__(self, folder: Path, pki: MeshPki, stack: AsyncExitStack) -> None:
        self.folder, self.pki, self._stack = folder, pki, stack
        self.workers: list[FakeWorker] = []
        self.port = self.metrics_port = 0
        self.process: asyncio.subprocess.Process
        self._lines: list[dict[str, Any]] = []
        self._said = asyncio.Condition()

    def write_settings(self, feed: AttestedFeed) -> None:
        self.pki.identity("gateway", "main", ips=("127.0.0.1",)).write(self.folder / "tls")
        self.port, self.metrics_port = free_port(), free_port(PROCESSES)
        lines = (
            f'cluster = "{self.pki.cluster}"',
            f'listen = "127.0.0.1:{self.port}"',
            f'verifier = "127.0.0.1:{feed.port}"',
            f'metrics_listen = "127.0.0.1:{self.metrics_port}"',
            f"processes = {PROCESSES}",
            "grace_s = 5.0",
            "[tls]",
            'certificate = "tls/certificate.pem"',
            'private_key = "tls/key.pem"',
            'trust_roots = "tls/roots.pem"',
        )
        (self.folder / "settings.toml").write_text("\n".join(lines))

    async def start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cloister.gateway", "--settings", str(self.folder / "settings.toml")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONASYNCIODEBUG": "0"},
        )

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if not line.startswith(b"{"):  # what a library says as it is killed
                continue
            async with self._said:
                self._lines.append(json.loads(line))
                self._said.notify_all()

    async def said(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until the gateway has logged an event so often."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self._lines if line["event"] == event]

        async with asyncio.timeout(PATIENCE_S), self._said:
            await self._said.wait_for(lambda: len(found()) >= count)
            return found()

    async def serving(self) -> None:
        """Wait until each process says, on its own page, that both workers have granted it slots."""
        slots = sum(worker.slots for worker in self.workers)
        for at in range(PROCESSES):
            while f"cloister_slots {slots}.0" not in await asyncio.to_thread(page, self.metrics_port + at):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def peer(self, role: str = "client", name: str = "ann") -> Peer:
        """A connection of its own, which the kernel gives to some process."""
        held = self.pki.identity(role, name).held()
        address = f"127.0.0.1:{self.port}"
        return await self._stack.enter_async_context(Peer(address, held, server_name(self.pki.cluster, "gateway")))

    async def answering(self) -> tuple[Peer, GetStatusResponse]:
        peer = await self.peer("operator", "olga")
        status = await peer.stub(GatewayStub).GetStatus(GetStatusRequest(), timeout=10)  # type: ignore[misc]
        return peer, status

    def process_ids(self) -> set[int]:
        return children(self.process.pid)


def children(process_id: int) -> set[int]:
    listed = Path(f"/proc/{process_id}/task/{process_id}/children")
    return {int(pid) for pid in listed.read_text().split()} if listed.exists() else set()


@pytest.fixture
async def parent(tmp_path: Path, pki: MeshPki) -> AsyncIterator[Parent]:
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(AttestedFeed().serving(pki))
        made = Parent(tmp_path, pki, stack)
        made.write_settings(feed)
        for instance in (A, B):
            worker = await stack.enter_async_context(FakeWorker(instance, slots=8).serving(pki))
            feed.join(worker.attested())
            made.workers.append(worker)
        made.process = await made.start()
        try:
            async with asyncio.timeout(3 * PATIENCE_S), asyncio.TaskGroup() as group:
                reading = group.create_task(made.read())
                await made.serving()
                yield made
                await end(made.process)
                reading.cancel()
        finally:
            await end(made.process)


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_connections_are_spread_and_each_process_has_its_own_links_counts_and_page(parent: Parent) -> None:
    seen: dict[int, GetStatusResponse] = {}
    while len(seen) < PROCESSES:
        _, status = await parent.answering()
        seen[status.process] = status
    assert {status.processes for status in seen.values()} == {PROCESSES}
    assert all(worker.linked for status in seen.values() for worker in status.workers)
    assert all(len(worker._links) == PROCESSES for worker in parent.workers)
    stub = (await parent.peer()).stub(RawStub)
    assert who(await ask(stub)) in (A, B)
    pages = [await asyncio.to_thread(page, parent.metrics_port + at) for at in range(PROCESSES)]
    assert sorted('outcome="answered"} 1.0' in text for text in pages) == [False] * (PROCESSES - 1) + [True]

    # A second gateway does not share the port silently.
    second = await parent.start()
    out, _ = await second.communicate()
    assert second.returncode == 1
    assert b"cannot listen" in out
    # Nor does one that claims to be a process of ours, and has inherited nothing.
    lone = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cloister.gateway", "--settings", str(parent.folder / "settings.toml")),
        env={**os.environ, VARIABLE: "1/3:0"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await lone.communicate()
    assert lone.returncode == 1
    assert b"CLOISTER_PLACE" in out


async def test_a_killed_process_loses_only_its_own_connections_is_replaced_and_all_drain(parent: Parent) -> None:
    before = parent.process_ids()
    assert len(before) == PROCESSES
    stubs = [(await parent.peer(name=f"tenant-{number}")).stub(RawStub) for number in range(12)]
    lost, answered, stop = set[int](), [0], asyncio.Event()

    async def asking(number: int, stub: RawStub) -> None:
        while not stop.is_set():
            try:
                await ask(stub, timeout_s=PATIENCE_S)
            except Unavailable:
                lost.add(number)
                await again(stub)  # whoever tries again sees nothing of it
            answered[0] += 1

    async def killing() -> None:
        await soon(lambda: answered[0] >= 300)
        inside = children(min(before))  # Envoy, with the gateway in it, which drains when it sees that it is alone
        os.kill(min(before), signal.SIGKILL)
        await parent.said("process.lost")
        await soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside))
        await parent.serving()
        at = answered[0]
        await soon(lambda: answered[0] >= at + 300)
        stop.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(killing())
        for number, stub in enumerate(stubs):
            group.create_task(asking(number, stub))
    assert len(lost) < len(stubs)
    after = parent.process_ids()
    assert (len(after), len(after & before)) == (PROCESSES, PROCESSES - 1)
    await drained(parent, stubs)


async def drained(parent: Parent, stubs: list[RawStub]) -> None:
    """SIGTERM drains all of them, and what is under way is answered."""
    for worker in parent.workers:
        worker.open_gate.clear()
    before = sum(len(worker.seen) for worker in parent.workers)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(stub, timeout_s=PATIENCE_S)) for stub in stubs]
        await soon(lambda: sum(len(worker.seen) for worker in parent.workers) == before + len(stubs))
        parent.process.send_signal(signal.SIGTERM)
        await parent.said("server.draining", PROCESSES)
        for worker in parent.workers:
            worker.open_gate.set()
    assert all(who(task.result()) in (A, B) for task in asked)
    assert await parent.process.wait() == 0


async def test_processes_end_when_their_parent_is_killed(parent: Parent) -> None:
    orphans = parent.process_ids()
    parent.process.kill()
    await parent.said("service.stopped", PROCESSES)
    await soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    with closing(socket.socket()) as successor:  # and nobody holds their port
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(("127.0.0.1", parent.port))


async def soon(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not reached():  # noqa: ASYNC110 - other processes are watched from outside
            await asyncio.sleep(0.01)


async def again(stub: RawStub) -> None:
    """Ask until somebody answers; on a busy machine that takes its time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.sleep(0.1)
            with suppress(Unavailable):
                await ask(stub, timeout_s=PATIENCE_S)
                return


def page(port: int) -> str:
    """A metrics page; empty where nobody serves one now."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())
    return ""


def free_port(count: int = 1) -> int:
    """The first of so many free ports in a row."""
    while True:
        with ExitStack() as stack:
            held = [stack.enter_context(socket.socket()) for _ in range(count)]
            held[0].bind(("127.0.0.1", 0))
            first = int(held[0].getsockname()[1])
            with suppress(OSError, OverflowError):
                for at, each in enumerate(held[1:], start=first + 1):
                    each.bind(("127.0.0.1", at))
                return first
