"""A whole mesh with jobs under a supervisor that never tires, and what of it can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import processes

from chaos.strikes import Target
from chaos.supervised import NOWHERE
from cloister.cli.mesh_folder import Mesh
from fakes.running_mesh import RunningMesh, probe, until

START_S = 120.0
ROOT = Path(__file__).resolve().parents[2]
SERVICES = {Target.GATEWAY: "gateway", Target.WORKER: "worker", Target.REDIS: "redis"}
JOBS_FACE = "jobs"


class BurningMesh(RunningMesh):
    """A mesh whose programs are killed.

    Args:
        folder: As ever.
        places: File that says which program runs in which namespace; "-" for none.
    """

    def __init__(self, folder: Path, places: Path = NOWHERE) -> None:
        super().__init__(folder)
        self._places = places

    @property
    def gateway(self) -> str:
        """Where clients find it, whether or not it runs."""
        return Mesh.read(self.folder).gateway

    @contextmanager
    def up(self, workers: int = 2, *options: str, https: bool = False) -> Iterator[None]:
        """As `cloister up` does it, but for what `supervised` changes; ended with all that it started."""
        words = ["--simulator", "--no-console", "--https" if https else "--no-https", "--workers", str(workers)]
        command = [sys.executable, "-m", "chaos.supervised", self._places, self.folder, *words, *options]
        log = self.folder / "logs" / "up.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment())
        try:
            until(lambda: self._ready(process), f"the mesh is up; see {log}", START_S)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(START_S)
            finally:
                process.kill()

    def serving(self) -> list[dict[str, Any]]:
        """As ever; nobody, where a service did not say in time that it serves: the machine may be busy."""
        try:
            return super().serving()
        except AssertionError:
            return []

    def living(self, target: Target) -> list[int]:
        """Processes that a strike could hit now; none of a client's."""
        if target in SERVICES:
            found = (each["pid"] for each in self.programs(SERVICES[target]))
            return [int(pid) for pid in found if pid is not None]
        return [
            pid
            for gateway in self.living(Target.GATEWAY)
            for pid in processes.tree(gateway)
            if pid != gateway and (processes.face(pid) == JOBS_FACE) is (target is Target.JOBS)
        ]

    def programs(self, service: str) -> list[dict[str, Any]]:
        """Of one kind, as the supervisor says."""
        return [each for each in self.state["programs"] if each["service"] == service]

    def _ready(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, f"it ended at once: {self.log('up')[-2000:]}"
        try:
            return self.state["pid"] == process.pid and self.state["ready"]
        except FileNotFoundError:
            return False


def founded(folder: Path, fsync: str, places: Path = NOWHERE, hosts: Sequence[str] = ()) -> BurningMesh:
    """A mesh with jobs, not started: Redis keeps them by this `appendfsync`; `hosts` are its further addresses."""
    mesh = BurningMesh(folder, places)
    mesh.found(*(word for host in hosts for word in ("--host", host)))
    configuration = Mesh.read(folder).redis_folder / "redis.conf"
    with configuration.open("a") as file:
        file.write(f"appendfsync {fsync}\n")  # of two such lines the last counts
    return mesh


def published(mesh: BurningMesh) -> None:
    """Have a running mesh serve the model."""
    mesh.cli("model", "publish", mesh.seal(probe()))
    mesh.allow("--allow-simulated", "--allow-plain")
    mesh.until_serving(len(mesh.programs("worker")))


def environment() -> dict[str, str]:
    """For programs of this folder."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "NO_COLOR": "1", "COLUMNS": "200"}
