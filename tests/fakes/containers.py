"""Images of this repository, and a mesh of containers: buildah's and podman's, for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE = "deploy/compose"
KINDS = ("gateway", "verifier", "provisioner", "console", "simulator", "redis")
SERVICES = tuple(kind for kind in KINDS if kind != "redis")
WAIT_S = 240.0
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


@cache
def mounted(kind: str) -> Path:
    """The files of an image, as a folder to look at."""
    return Path(run("podman", "image", "mount", image(kind)).strip())


@cache
def config(kind: str) -> dict[str, object]:
    """What an image says of itself."""
    found: list[dict[str, dict[str, object]]] = json.loads(run("podman", "image", "inspect", image(kind)))
    return found[0]["Config"]


def eventually(look: Callable[[], T]) -> T:
    """What `look` finds once it finds something; the services start and restart in their own time."""
    until = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < until, "not within its time"
        time.sleep(0.2)
    return found


def published(mesh: Path, folder: Path, models: Path, *terms: str, mrenclave: str = "") -> Path:
    """Inputs for the demonstration's model, which is trained in `folder`, published, allowed and served.

    Args:
        mesh: Its folder.
        folder: For what is made.
        models: Where workers look for sealed models.
        terms: More of what it is allowed on.
        mrenclave: Of the workers; that of the simulator's if not given.
    """
    cloister = BIN / "cloister"
    run(sys.executable, "-c", _TRAIN, folder)
    files, sealed = sorted(folder.glob("model.*")), folder / "sealed"
    run(cloister, "model", "seal", *files, "--name", "breast-cancer", "--version", 1, "--out", sealed, "--mesh", mesh)
    eventually(lambda: _tried(cloister, "model", "list", "--mesh", mesh))  # it waits for its witness at first
    run(cloister, "model", "publish", sealed, "--mesh", mesh, "--models-dir", models)
    mrenclave = mrenclave or run(BIN / "cloister-simulator", "measure", "worker", "--value", "mrenclave").strip()
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
    """The mesh that `mesh` holds, run by podman-compose under a name of its own.

    Args:
        mesh: Its folder.
        engine: containers.conf.
        worker_port: Where the worker listens.
        files: Of deploy/compose, each over those before it.
        variables: What these want to know beside.
    """

    def __init__(
        self, mesh: Path, engine: Path, worker_port: int, files: Sequence[str] = ("compose.yaml",), **variables: str
    ) -> None:
        self.mesh = mesh
        self.name = f"cloister-{mesh.parent.name}-{os.getpid()}"
        self._files = [word for name in files for word in ("-f", f"{COMPOSE}/{name}")]
        own = {"CONTAINERS_CONF": str(engine), "MESH": str(mesh), "WORKER_PORT": str(worker_port)}
        self._environment = own | variables

    def compose(self, *words: str) -> str:
        """Run podman-compose."""
        return run(sys.executable, "-m", "podman_compose", "-p", self.name, *self._files, *words, **self._environment)

    def podman(self, *words: str) -> str:
        """Run podman."""
        return run("podman", *words, **self._environment)

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.name}_{service}_1"
