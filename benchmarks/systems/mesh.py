"""The mesh itself: founded, filled and started by the `cloister` command, as on any machine without SGX."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import questions
from benchmarks.load.carriers import Target
from benchmarks.models.catalogue import Network
from benchmarks.systems.running import READY_S, REPOSITORY, Failed, Place, Running

from cloister.cli.failures import ExitCode
from cloister.cli.mesh_folder import Mesh

BIN = Path(sys.executable).parent
CLUSTER = "bench.cloister.internal"
CARRIERS = ("unary", "stream", "bare sealed stream", "sealed", "sealed stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of a mesh to start.

    Attributes:
        threads: Of each worker for inference; 0 lets OpenVINO choose.
        slots: Calls of each model that a worker has under way; 0 for its own choice.
        gateways: Each on a port of its own.
        gateway_processes: Of each gateway, behind its port.
        https: Whether the first gateway answers HTTPS too.
        fsync: The `appendfsync` of the Redis that jobs wait in; empty for no jobs.
        enclaves: Folder to build the workers' enclave in; None for processes.
        build_options: Of `cloister enclave build-mesh`.
    """

    workers: int = 1
    threads: int = 0
    slots: int = 0
    gateways: int = 1
    gateway_processes: int = 1
    https: bool = False
    fsync: str = ""
    enclaves: Path | None = None
    build_options: tuple[str, ...] = ()


def prepared(networks: Sequence[Network], work: Path, port: int) -> list[Place]:
    """A folder in `work` with the networks' files, their questions, and one mesh for all of them.

    Emptied before, and not after: logs and settings are there to be looked at.

    Args:
        networks: To serve, at least one.
        work: Where the folder goes.
        port: The mesh takes the first free ports from here on.
    """
    folder = work / "+".join(network.name for network in networks)
    founded = folder / "mesh"
    if folder.exists():
        if (founded / "mesh.toml").exists():
            cloister("down", founded)  # of a run that was killed
        shutil.rmtree(folder)
    places = [
        Place(
            network=network,
            folder=folder if len(networks) == 1 else folder / network.name,
            mesh=founded,
            xml=network.files(work / "models"),
            questions=folder / "questions" / network.name,
        )
        for network in networks
    ]
    for place in places:
        questions.write(place.questions, place.network.questions())
    models = [word for network in networks for word in ("--model", network.name)]
    cloister("init", founded, "--cluster", CLUSTER, *models, "--port", str(port), "--simulator")
    return places


@contextmanager
def mesh(places: Sequence[Place], size: Size) -> Iterator[Running]:
    """One mesh, with every network sealed, released and served by every worker; plain requests are allowed too.

    Args:
        places: Of the networks; they have one mesh folder. The targets are of the first, at the first gateway.
        size: How much of it.
    """
    publish(places, size)
    with up(places, size) as running:
        yield running


def publish(places: Sequence[Place], size: Size) -> None:
    """Have a mesh of that size, which need not be up, release every network; its other sizes may be started then."""
    folder = places[0].mesh
    settings = folder / "worker" / "settings.toml"
    chosen = f"threads = {size.threads}\n" + (f"slots = {size.slots}\n" if size.slots else "")
    settings.write_text(chosen + settings.read_text())
    if size.fsync:
        with (Mesh.read(folder).redis_folder / "redis.conf").open("a") as configuration:
            configuration.write(f"appendfsync {size.fsync}\n")  # of two such lines the last counts
    if size.enclaves is not None:
        cloister("enclave", "build-mesh", folder, "--kind", "worker", "--out", size.enclaves, *size.build_options)
    with _up(folder, Size(workers=0)):  # no worker asks for a key before it is there, so none has to come again
        for place in places:
            _publish(place, _mrenclave(size.enclaves))


@contextmanager
def up(places: Sequence[Place], size: Size) -> Iterator[Running]:
    """A mesh that was published for, until the block ends."""
    folder = places[0].mesh
    with _up(folder, size):
        for place in places:
            _wait_until_served(folder, place.network.name, size.workers)
        yield Running(name="mesh", services=_services(folder), targets=targets(places[0]))


def evaluations(folder: Path) -> tuple[int, int]:
    """How many evaluations all workers have made since they started, and of how many requests, as they told last."""
    workers: list[dict[str, Any]] = []
    until = time.monotonic() + READY_S
    while not workers or not all(worker["counters"] for worker in workers):
        if time.monotonic() > until:
            raise Failed("the gateway does not say what its workers have counted")
        workers = _status(folder)["workers"]
    told = [model for worker in workers for model in worker["counters"]["models"]]
    return sum(model["evaluations"] for model in told), sum(model["requests"] for model in told)


def gateways(folder: Path) -> list[str]:
    """Addresses of the gateways that run for a mesh folder, the mesh's own first."""
    return [program["address"] for program in _programs(folder) if program["service"] == "gateway"]


def targets(place: Place, address: str = "") -> dict[str, Target]:
    """How to ask for a place's network, by carrier; at the mesh's own gateway where no address is said."""
    founded = Mesh.read(place.mesh)
    return {
        carrier: Target(
            carrier=carrier,
            address=address or founded.gateway,
            model=place.network.name,
            questions=str(place.questions),
            identity=str(founded.identity("client")),
            server_name=f"gateway.{CLUSTER}",
            trust=str(founded.trust),
        )
        for carrier in CARRIERS
    }


def cloister(*words: object, codes: Collection[int] = (0,)) -> str:
    """Run a `cloister` command that may end with these codes; returns what it printed."""
    command = [str(BIN / "cloister"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)  # noqa: S603 - ours
    if done.returncode not in codes:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed(f"'cloister {' '.join(map(str, words))}': {said[-1] if said else done.returncode}")
    return done.stdout


@contextmanager
def _up(folder: Path, size: Size) -> Iterator[None]:
    words = ("--workers", size.workers, "--gateways", size.gateways, "--gateway-processes", size.gateway_processes)
    faces = ("--https" if size.https else "--no-https", "--jobs" if size.fsync else "--no-jobs")
    enclaves = ("--enclaves", size.enclaves) if size.enclaves else ()
    cloister("up", folder, "--simulator", "--no-console", *words, *faces, *enclaves, "--detach")
    try:
        yield
    finally:
        cloister("down", folder)


def _mrenclave(enclaves: Path | None) -> str:
    """What the workers measure as: as the enclave was built, or as the simulator says of a process."""
    if enclaves is not None:
        return str(json.loads((enclaves / "worker" / "measurement.json").read_text())["mrenclave"])
    measured = subprocess.run([BIN / "cloister-simulator", "measure", "--json"], capture_output=True, check=True)  # noqa: S603 - ours
    return str(json.loads(measured.stdout)["mrenclave"])


def _publish(place: Place, mrenclave: str) -> None:
    name, sealed = place.network.name, place.folder / "sealed"
    files = (place.xml, place.xml.with_suffix(".bin"))
    cloister("model", "seal", *files, "--name", name, "--out", sealed, "--mesh", place.mesh)
    cloister("model", "publish", sealed, "--mesh", place.mesh)
    rules = ("--mrenclave", mrenclave, "--allow-simulated", "--allow-plain", "--mesh", place.mesh)
    cloister("model", "allow", name, *rules)


def _wait_until_served(folder: Path, model: str, workers: int) -> None:
    until = time.monotonic() + READY_S
    while True:
        status = _status(folder)
        serving = [worker for worker in status["workers"] if f"{model}@1" in worker["models"]]
        if len(serving) == workers:
            return
        if time.monotonic() > until:
            raise Failed(f"{len(serving)} of {workers} workers serve {model}; see {folder / 'logs'}")
        time.sleep(0.2)


def _status(folder: Path) -> dict[str, Any]:
    """What `cloister status` says, also while a service does not answer it in time."""
    return dict(json.loads(cloister("status", folder, "--json", codes=(0, ExitCode.UNAVAILABLE))))


def _services(folder: Path) -> dict[str, int]:
    return {program["name"]: int(program["pid"]) for program in _programs(folder)}


def _programs(folder: Path) -> list[dict[str, Any]]:
    programs: list[dict[str, Any]] = json.loads((folder / "run" / "up.json").read_text())["programs"]
    return programs
