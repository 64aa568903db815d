"""A mesh whose programs are of one version or another, and are replaced one by one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloister.cli import programs
from cloister.cli.mesh_folder import Mesh
from cloister.cli.ports import free_ports
from cloister.cli.probes import CALL_S, OTHER, PROVISIONER, Probes
from cloister.cli.programs import REDIS, Program
from cloister.client import mesh_status
from cloister.errors import CloisterError
from fakes.running_mesh import RunningMesh, until
from upgrade.versions import Version

START_S = 90.0
DRAIN_S = 40.0
WORKERS = GATEWAYS = PROVISIONERS = 2
REFUSED = 3
"""How a worker ends whose evidence is not believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """One program that was.

    Attributes:
        drained_s: From SIGTERM until the earlier process had ended.
        away_s: From SIGTERM until the later one did what it is there for.
    """

    name: str
    drained_s: float
    away_s: float


class RollingMesh(RunningMesh):
    """All programs of a mesh, started here.

    Args:
        folder: As ever.
        version: Whose commands are used; may be changed at any time.
    """

    def __init__(self, folder: Path, version: Version) -> None:
        super().__init__(folder)
        self.version = version
        self.programs: dict[str, Program] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def cli(self, *args: str | Path, code: int = 0, text: str | None = None) -> str:
        """Run `cloister` of the version that is used now; returns what it printed, stderr included."""
        command = [self.version.bin / "cloister", *map(str, args)]
        done = subprocess.run(command, env=self._environment(), input=text, capture_output=True, text=True, timeout=120)
        said = done.stdout + done.stderr
        assert done.returncode == code, f"cloister {' '.join(map(str, args))} ended with {done.returncode}:\n{said}"
        return said

    @property
    def gateways(self) -> list[str]:
        """The addresses of all."""
        return [each.address for each in self.of("gateway")]

    def of(self, service: str) -> list[Program]:
        """The programs of one kind."""
        return [each for each in self.programs.values() if each.service == service]

    @contextmanager
    def all_up(self) -> Iterator[None]:
        """Everything started, in order, and ended."""
        size = programs.Size(workers=WORKERS, gateways=GATEWAYS, https=False)
        (self.folder / "logs").mkdir(exist_ok=True)
        stages = programs.stages(Mesh.read(self.folder), size, simulated=True)
        try:
            for program in (program for stage in stages for program in stage):
                self.programs[program.name] = program
                self._start(program)
                if program.service != "worker":  # a gateway must tell, and comes later
                    self._until_ready(program.name)
            yield
        finally:
            for name in reversed(self.programs):
                self._stop(name)

    def replace(self, name: str, version: Version) -> Replaced:
        """End a program, and start it as another version is."""
        self.check_alive()
        began_s = time.monotonic()
        self._stop(name)
        drained_s = time.monotonic() - began_s
        self._start(self.programs[name], version)
        self._until_ready(name)
        return Replaced(name=name, drained_s=drained_s, away_s=time.monotonic() - began_s)

    def until_workers_serve(self) -> None:
        """Wait until every gateway has the model from every worker."""
        for program in self.of("worker"):
            self._until_ready(program.name)

    def active_provisioner(self) -> str:
        """The name of the one that serves."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [each.name for each in self.of("provisioner") if asyncio.run(self._serves(each.address))]
            return len(found) == 1

        until(look, "one provisioner serves")
        return found[0]

    def queued(self) -> int:
        """How many jobs wait, or are with a worker."""
        return asyncio.run(self._queued())

    def see_refused(self, version: Version) -> None:
        """Start a worker that nobody should believe; raises AssertionError unless it ends as one that is refused."""
        (like, *_) = self.of("worker")
        (port,) = free_ports(1, first=30_000)
        settings = dict.fromkeys(like.environment, f"127.0.0.1:{port}")
        log = self.folder / "logs" / "refused-worker.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._command(like, version), env={**self._environment(), **settings}, stdout=output, stderr=output
            )
        try:
            code = process.wait(START_S)
        finally:
            process.kill()
        assert code == REFUSED, f"a worker of a withdrawn version ended with {code}: {log.read_text()[-1500:]}"

    def check_alive(self) -> None:
        """Raises AssertionError for a program that ended without being told to."""
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        assert not ended, f"{ended[0]} ended by itself: {self.log(ended[0])[-1500:]}"

    def _start(self, program: Program, version: Version | None = None) -> None:
        with (self.folder / "logs" / f"{program.name}.log").open("ab") as log:
            self._processes[program.name] = subprocess.Popen(
                self._command(program, version or self.version),
                env={**self._environment(), **program.environment},
                cwd=program.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _command(self, program: Program, version: Version) -> list[str | Path]:
        first, *rest = program.command
        return [Path(first) if program.service == REDIS else version.bin / Path(first).name, *rest]

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(DRAIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not end within {DRAIN_S:.0f} s of SIGTERM") from None

    def _until_ready(self, name: str) -> None:
        def ready() -> bool:
            self.check_alive()
            return asyncio.run(self._ready(self.programs[name]))

        until(ready, f"{name} is ready; see {self.folder / 'logs'}", START_S)

    async def _ready(self, program: Program) -> bool:
        async with Probes.opened(Mesh.read(self.folder)) as probes:
            if program.service == "worker":
                return all([await self._serves_at(probes, gateway, program.address) for gateway in self.gateways])
            if program.service == PROVISIONER:
                reason, _ = await probes.not_serving(program.address)
                return reason == OTHER or await self._serves(program.address)
            return await probes.ready(program)

    async def _serves_at(self, probes: Probes, gateway: str, worker: str) -> bool:
        async with probes.connect(gateway) as peer:
            try:
                workers = (await mesh_status(peer, CALL_S)).workers
            except (CloisterError, TimeoutError):
                return False
        return any(each.linked and each.endpoint == worker and each.models for each in workers)

    async def _queued(self) -> int:
        async with Probes.opened(Mesh.read(self.folder)) as probes:
            return sum(queue.waiting + queue.running for queue in (await probes.status()).job_queues)

    async def _serves(self, provisioner: str) -> bool:
        async with Probes.opened(Mesh.read(self.folder)) as probes:
            return await probes.provisioner_serving(provisioner)

    def _environment(self) -> dict[str, str]:
        """Without what leads to modules of this folder."""
        ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return {**ours, "CLOISTER_MESH": str(self.folder), "NO_COLOR": "1", "COLUMNS": "200"}
