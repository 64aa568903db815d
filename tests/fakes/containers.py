"""Images of this repository, and a mesh of containers: buildah's and podman's, for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE = "deploy/compose/compose.yaml"
KINDS = ("gateway", "verifier", "provisioner", "console", "simulator", "redis")
SERVICES = tuple(kind for kind in KINDS if kind != "redis")


def run(*words: object, **environment: str) -> str:
    """Run a program to its end in the repository; returns what it printed, and fails with what it complained of."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def image(kind: str) -> str:
    """The name that `deploy/images/build.sh` gives an image."""
    return f"localhost/cloister/{kind}"


class Containers:
    """The mesh that `mesh` holds, run by podman-compose under a name of its own."""

    def __init__(self, mesh: Path, engine: Path, worker_port: int) -> None:
        self.mesh = mesh
        self.name = f"cloister-{mesh.name}-{os.getpid()}"
        self._environment = {"CONTAINERS_CONF": str(engine), "MESH": str(mesh), "WORKER_PORT": str(worker_port)}

    def compose(self, *words: str) -> str:
        """Run podman-compose."""
        return run(sys.executable, "-m", "podman_compose", "-p", self.name, "-f", COMPOSE, *words, **self._environment)

    def podman(self, *words: str) -> str:
        """Run podman."""
        return run("podman", *words, **self._environment)

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.name}_{service}_1"
