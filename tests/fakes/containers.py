"""Images of this repository, and a mesh of containers: buildah's and podman's, for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE = "deploy/compose/compose.yaml"
KINDS = ("gateway", "verifier", "provisioner", "console", "simulator", "redis")
SERVICES = tuple(kind for kind in KINDS if kind != "redis")
WAIT_S = 60.0
# containers.conf: podman's default runtime cannot run where both versions of control groups are mounted.
ENGINE = '[engine]\nruntime = "runc"\n'
_TRAIN = """
import json, sys
from pathlib import Path
sys.path.insert(0, "deploy/demo")
import train
learn, test = train.split()
train.save(train.build(train.train(learn)), Path(sys.argv[1]))
json.dump({"measurements": test.measurements[:1].tolist()}, open(sys.argv[1] + "/record.json", "w"))
"""
T = TypeVar("T")


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


def eventually(look: Callable[[], T]) -> T:
    """What `look` finds once it finds something; the services start and restart in their own time."""
    until = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < until, "not within a minute"
        time.sleep(0.2)
    return found


def published(mesh: Path, folder: Path, models: Path, *terms: str) -> Path:
    """Inputs for the demonstration's model, which is trained in `folder`, published, allowed on `terms` and served."""
    cloister = BIN / "cloister"
    run(sys.executable, "-c", _TRAIN, folder)
    files, sealed = sorted(folder.glob("model.*")), folder / "sealed"
    run(cloister, "model", "seal", *files, "--name", "breast-cancer", "--version", 1, "--out", sealed, "--mesh", mesh)
    eventually(lambda: _tried(cloister, "model", "list", "--mesh", mesh))  # it waits for its witness at first
    run(cloister, "model", "publish", sealed, "--mesh", mesh, "--models-dir", models)
    mrenclave = json.loads(run(BIN / "cloister-simulator", "measure", "worker", "--json"))["mrenclave"]
    allowed = ("--mrenclave", mrenclave, "--allow-simulated", *terms)
    run(cloister, "model", "allow", "breast-cancer", *allowed, "--mesh", mesh)
    eventually(lambda: "breast-cancer" in _tried(cloister, "status", mesh))
    return folder / "record.json"


def _tried(*words: object) -> str:
    """What a program printed, or nothing where it failed: not all of the mesh is there yet."""
    try:
        return run(*words) or " "
    except AssertionError:
        return ""


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
