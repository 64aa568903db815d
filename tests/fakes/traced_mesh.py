"""A mesh whose services are watched: what each loads beside what tcb.lock says that it carries. `make tcb` runs it.

    PYTHONPATH=tests .venv/bin/python -m fakes.traced_mesh

Its worker serves models of every format, one version after another, to sealed and plain requests, to streams and to
wrong requests; the verifier is asked for its evidence over HTTPS; a worker is revoked. Services do without what
tcb.toml calls absent, as in their enclaves.
"""

from __future__ import annotations

import asyncio
import marshal
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

import cloister_simulator
from cloister import Client
from cloister.cli.ports import free_ports
from cloister.enclave import tracing
from cloister.enclave.interpreter import PYTHON
from cloister.enclave.kinds import GATEWAY, PROVISIONER, VERIFIER, WORKER, Kind
from cloister.enclave.locking import GLIBC, owners_of, search_path
from cloister.enclave.origins import Wheels, located
from cloister.enclave.reasons import Reasons, read_reasons
from cloister.enclave.tcb import CarriedFile, Lock, Part, read_lock
from cloister.errors import CloisterError
from cloister_simulator.measurement import verifier_measurement
from fakes.running_mesh import MODEL, RunningMesh, inputs, probe, until
from fakes.vector_models import FOLDER, VectorModel, vector_model

WATCHED = (VERIFIER, PROVISIONER, GATEWAY, WORKER)
SIMULATED = (VERIFIER, WORKER)
OURS = ("cloister", "cloister_simulator", "fakes")
TESTS = Path(__file__).parents[1]
SIMULATOR = Path(cloister_simulator.__file__).parents[1]
FORMATS = ("keras_lstm", "frozen_cnn", "onnx_lstm", "paddle_cnn", "tflite_cnn")
ONE_PROCESS = {
    "CLOISTER_GATEWAY_FRONT": "grpc",
    "CLOISTER_GATEWAY_REST_LISTEN": "",
    "CLOISTER_VERIFIER_APPRAISAL_PROCESSES": "0",
}
END_S = 30.0


def main() -> int:
    """Run the mesh; print what is loaded and not carried, and return how much that is."""
    reasons, lock = read_reasons(), read_lock()
    with tempfile.TemporaryDirectory(prefix="traced-") as folder:
        mesh = RunningMesh(Path(folder) / "mesh")
        mesh.found()
        prepare(mesh)
        with watched(mesh, reasons, Path(folder)):
            used(mesh)
        missing = [line for kind in WATCHED for line in missing_in(lock, reasons, kind, Path(folder) / kind.name)]
    print("\n".join(missing) or "nothing was loaded that is not in tcb.lock")
    return len(missing)


def prepare(mesh: RunningMesh) -> None:
    """No REST, which is another process, and an enclave starts none; and a worker that loads what it is told to."""
    addresses, settings = mesh.folder / "mesh.toml", mesh.folder / "worker" / "settings.toml"
    addresses.write_text(re.sub(r"(?m)^gateway_https = .*$", 'gateway_https = ""', addresses.read_text()))
    settings.write_text("loadable = true\n" + settings.read_text())


@contextmanager
def watched(mesh: RunningMesh, reasons: Reasons, folder: Path) -> Iterator[None]:
    """All services of the mesh, each under the tracer, until the block ends."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for kind in WATCHED:
            running.append(started(mesh, kind, reasons, folder))
        yield
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(END_S)


def started(mesh: RunningMesh, kind: Kind, reasons: Reasons, folder: Path) -> subprocess.Popen[bytes]:
    """One service, with a folder for its records and a log beside those of `cloister up`."""
    records, task = folder / kind.name, folder / f"{kind.name}.task"
    records.mkdir()
    path = [*search_path(), str(TESTS), str(SIMULATOR)]
    task.write_bytes(marshal.dumps({"path": path, "absent": reasons.absent_of(kind)}))
    settings = mesh.folder / kind.name / "settings.toml"
    program: tuple[object, ...] = (kind.module, "--settings", settings)
    if kind in SIMULATED:
        program = ("fakes.simulated_service", kind.name, settings, mesh.folder / "simulator")
    (port,) = free_ports(1, first=40_000)
    environment = {**os.environ, **ONE_PROCESS}
    environment |= dict.fromkeys(("CLOISTER_WORKER_LISTEN", "CLOISTER_WORKER_ENDPOINT"), f"127.0.0.1:{port}")
    (mesh.folder / "logs").mkdir(exist_ok=True)
    with (mesh.folder / "logs" / f"{kind.name}.log").open("wb") as log:
        command = [str(each) for each in (PYTHON, "-I", "-S", "-B", tracing.__file__, task, records, *program)]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def used(mesh: RunningMesh) -> None:
    """Everything that a mesh is used for."""
    sealed = mesh.seal(probe())
    until(lambda: all(up(mesh)), "all services up")
    publish(mesh, sealed)
    mesh.allow("--allow-simulated", "--allow-plain")
    until(lambda: bool(mesh.serving()), "the first model served", within_s=90)
    address = tomllib.loads((mesh.folder / "mesh.toml").read_text())["addresses"]["verifier_https"]
    measured = verifier_measurement().mrenclave.hex()
    root = mesh.folder / "simulator" / "root.der"
    mesh.cli("trust", "pin", address, "--mrenclave", measured, "--anchor-root", root, "--out", mesh.trust)
    asyncio.run(asked(mesh, {"x": inputs(1)}, "1"))
    for version, name in enumerate(FORMATS, start=2):
        given = vector_model(name)
        publish(mesh, mesh.seal_files(*sources(name, given), version=version))
        mesh.cli("model", "load", MODEL)
        asyncio.run(asked(mesh, given.inputs, str(version)))
    instance = mesh.serving()[0]["instance"]
    mesh.cli("revoke", "instance", instance, "--reason", "the end")


def up(mesh: RunningMesh) -> list[bool]:
    """Of each service, whether it serves."""
    with suppress(AssertionError):
        return [service["serving"] for service in mesh.json("status", mesh.folder, code=0)["services"]]
    return [False]


def publish(mesh: RunningMesh, sealed: Path) -> None:
    """Give the provisioner a version's key."""
    mesh.cli("model", "publish", sealed)


def sources(name: str, given: VectorModel) -> list[Path]:
    """What a model's owner seals: a SavedModel's folder, or the files."""
    return [given.head] if given.head.is_dir() else [FOLDER / name / each for each in given.files]


async def asked(mesh: RunningMesh, arrays: dict[str, Any], version: str) -> None:
    """In every way, rightly and wrongly."""
    wrong = {name: array.astype(np.complex64).view(np.float64) for name, array in arrays.items()}
    async with Client.of_mesh(mesh.folder) as client:
        for sealed in (True, False):
            await client.infer(MODEL, arrays, version=version, sealed=sealed, timing=True)
            with suppress(CloisterError):
                await client.infer(MODEL, wrong, version=version, sealed=sealed)
        async with client.stream(timing=True) as stream, asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(stream.infer(MODEL, arrays, version=version))


def missing_in(lock: Lock, reasons: Reasons, kind: Kind, records: Path) -> list[str]:
    """What one kind loaded or opened that is neither in the lock nor left out."""
    carried = {str(found.resolve()) for found in map(_located, lock.files_of(kind)) if found}
    places = ("/usr/lib/", *search_path()[1:])
    loaded = set[str]()
    for record in (marshal.loads(each.read_bytes()) for each in records.iterdir()):  # of our own making
        loaded |= {file for name, file in record["modules"].items() if name.partition(".")[0] not in OURS}
        loaded |= {*record["mapped"], *record["opened"]}
    files = {file for file in loaded if file.startswith(places) and Path(file).is_file() and not file.endswith(".pyc")}
    owners = owners_of(files, Wheels())
    left_out = {
        file
        for file, (_, name, _, path) in owners.items()
        if name in GLIBC or any(fnmatchcase(path, pattern) for pattern in reasons.absent_of(kind))
    }
    return [f"{kind.name}  {file}" for file in sorted(files - carried - left_out)]


def _located(carried: tuple[Part, CarriedFile]) -> Path | None:
    part, file = carried
    return located(part.origin, part.name, file.path)


if __name__ == "__main__":
    sys.exit(main())
