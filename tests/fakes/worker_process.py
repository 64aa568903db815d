"""A worker as a process of its own beside a `WorkerMesh`, for what hosts do to processes.

They stop it, look into its memory, and give it a file system of their making.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import server_name
from cloister.worker.settings import Settings
from fakes.programs import written
from fakes.worker_mesh import FakeQuoter, WorkerMesh

TESTS = Path(__file__).parents[1]


@dataclass
class WorkerProcess:
    """One that runs.

    Attributes:
        log: What it has printed, as JSON lines.
    """

    mesh: WorkerMesh
    settings: Settings
    process: asyncio.subprocess.Process
    log: Path
    instance: str = ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Its events of one name."""
        return [each for each in self.events if each["event"] == event]

    async def until_logged(self, event: str, times: int = 1, within_s: float = 40.0) -> dict[str, Any]:
        """Wait for an event; returns it."""
        async with asyncio.timeout(within_s):
            while len(found := self.logged(event)) < times:
                assert self.process.returncode is None, f"the worker ended:\n{self.log.read_text()}"
                await asyncio.sleep(0.05)
        return found[times - 1]

    async def ended(self, within_s: float = 40.0) -> int:
        """Wait for its end; returns the exit code."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    def stop(self) -> None:
        """As a host suspends it."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """And lets it go on."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """Of the worker itself, whatever it was started through: those programs become it."""
        return self.process.pid

    def peer(self) -> Peer:
        """A connection to it as its gateway."""
        identity = self.mesh.pki.identity("gateway", "main").held()
        return Peer(self.settings.listen, identity, server_name(self.mesh.pki.cluster, "worker", self.instance))


@asynccontextmanager
async def worker_process(
    mesh: WorkerMesh,
    settings: Settings | None = None,
    *,
    through: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[WorkerProcess]:
    """Start a worker; it is killed with the block, if it has not ended.

    Args:
        mesh: Whom it meets.
        settings: Its own.
        through: A program that becomes it.
        environment: All of it, beside what Python needs to find us.
    """
    settings = settings or mesh.settings()
    file, log = written(mesh.folder, settings), mesh.folder / "worker.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *through,
            *(sys.executable, "-m", "fakes.worker_process", str(file)),
            stdout=out,
            stderr=out,
            env={**(os.environ if environment is None else environment), "PYTHONPATH": str(TESTS)},
        )
    worker = WorkerProcess(mesh, settings, process, log)
    try:
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _main() -> int:
    from cloister.kit.lifecycle import run_service  # after the environment that gRPC reads
    from cloister.worker.app import serve

    argv = ["--settings", sys.argv[1]]
    return run_service("worker", partial(serve, quoter=FakeQuoter()), Settings, argv=argv, in_enclave=True)


if __name__ == "__main__":
    sys.exit(_main())
