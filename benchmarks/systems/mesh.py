"""The mesh itself: founded, filled and started by the `cloister` command, as on any machine without SGX."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import questions
from benchmarks.load.carriers import Target
from benchmarks.models.catalogue import Network
from benchmarks.systems.running import READY_S, REPOSITORY, Failed, Place, Running

from cloister.cli.mesh_folder import Mesh

BIN = Path(sys.executable).parent
CLUSTER = "bench.cloister.internal"
CARRIERS = ("unary", "stream", "sealed", "sealed stream")


def prepared(network: Network, work: Path, port: int) -> Place:
    """A folder in `work` with the network's file, its questions, and a mesh founded from `port` on.

    Emptied before, and not after: logs and settings are there to be looked at.
    """
    folder = work / network.name
    if folder.exists():
        if (folder / "mesh" / "mesh.toml").exists():
            cloister("down", folder / "mesh")  # of a run that was killed
        shutil.rmtree(folder)
    place = Place(
        network=network,
        folder=folder,
        mesh=folder / "mesh",
        xml=network.files(work / "models"),
        questions=folder / "questions",
    )
    questions.write(place.questions, network.questions())
    words = ("--cluster", CLUSTER, "--model", network.name, "--port", str(port), "--simulator")
    cloister("init", place.mesh, *words)
    return place


@contextmanager
def mesh(place: Place, workers: int, threads: int) -> Iterator[Running]:
    """The mesh, with the network sealed, released and served by every worker; plain requests are allowed too.

    Args:
        place: Its mesh folder is used.
        workers: How many.
        threads: Of each worker for inference; 0 lets OpenVINO choose.
    """
    folder, name = place.mesh, place.network.name
    settings = folder / "worker" / "settings.toml"
    settings.write_text(f"threads = {threads}\n{settings.read_text()}")
    with _up(folder, 0):  # no worker asks for the key before it is there, so none has to come again
        _publish(place)
    with _up(folder, workers):
        _wait_until_served(folder, name, workers)
        yield Running(name="mesh", services=_services(folder), targets=_targets(place))


def cloister(*words: object) -> str:
    """Run a `cloister` command; returns what it printed."""
    command = [str(BIN / "cloister"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)  # noqa: S603 - ours
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed(f"'cloister {' '.join(map(str, words))}': {said[-1] if said else done.returncode}")
    return done.stdout


@contextmanager
def _up(folder: Path, workers: int) -> Iterator[None]:
    cloister("up", folder, "--simulator", "--workers", str(workers), "--detach")
    try:
        yield
    finally:
        cloister("down", folder)


def _publish(place: Place) -> None:
    name, sealed = place.network.name, place.folder / "sealed"
    files = (place.xml, place.xml.with_suffix(".bin"))
    cloister("model", "seal", *files, "--name", name, "--out", sealed, "--mesh", place.mesh)
    cloister("model", "publish", sealed, "--mesh", place.mesh)
    measured = subprocess.run([BIN / "cloister-simulator", "measure", "--json"], capture_output=True, check=True)  # noqa: S603 - ours
    mrenclave = json.loads(measured.stdout)["mrenclave"]
    rules = ("--mrenclave", mrenclave, "--allow-simulated", "--allow-plain", "--mesh", place.mesh)
    cloister("model", "allow", name, *rules)


def _wait_until_served(folder: Path, model: str, workers: int) -> None:
    until = time.monotonic() + READY_S
    while True:
        status: dict[str, Any] = json.loads(cloister("status", folder, "--json"))
        serving = [worker for worker in status["workers"] if f"{model}@1" in worker["models"]]
        if len(serving) == workers:
            return
        if time.monotonic() > until:
            raise Failed(f"{len(serving)} of {workers} workers serve {model}; see {folder / 'logs'}")
        time.sleep(0.2)


def _services(folder: Path) -> dict[str, int]:
    state = json.loads((folder / "run" / "up.json").read_text())
    return {program["name"]: int(program["pid"]) for program in state["programs"]}


def _targets(place: Place) -> dict[str, Target]:
    founded = Mesh.read(place.mesh)
    return {
        carrier: Target(
            carrier=carrier,
            address=founded.gateway,
            model=place.network.name,
            questions=str(place.questions),
            identity=str(founded.identity("client")),
            server_name=f"gateway.{CLUSTER}",
            trust=str(founded.trust),
        )
        for carrier in CARRIERS
    }
