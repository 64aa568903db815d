"""A whole mesh for tests: founded by `cloister init`, run by `cloister up`, each service a real process.

Its model takes `x` [n, 8] and answers `y` [n, 4]: a small network with fixed weights, quick to make and to load, whose
answers no rounding hides.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from cloister.cli.ports import free_ports
from fakes import commands

BIN = Path(sys.executable).parent
CLUSTER = "test.cloister.internal"
MODEL = "probe"
CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}


def probe(seed: int = 3) -> ov.Model:
    """`y` = tanh(`x` · w + b) · v, with weights drawn once from `seed`."""
    draw = np.random.default_rng(seed)
    x = ops.parameter([-1, 8], np.float32, name="x")
    x.output(0).set_names({"x"})
    w, b, v = (draw.standard_normal(shape).astype(np.float32) for shape in ((8, 16), (1, 16), (16, 4)))
    hidden = ops.tanh(ops.add(ops.matmul(x, ops.constant(w), False, False), ops.constant(b)))
    y = ops.matmul(hidden, ops.constant(v), False, False)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x], "probe")


def inputs(seed: int, rows: int = 1) -> NDArray[np.float32]:
    """Rows of `x`, different for each seed."""
    return np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)


class RunningMesh:
    """One mesh folder and the supervisor that runs it."""

    policy_id = "default"
    """Of the verifier's policy when the mesh is founded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.owner_files = folder.parent / f"{folder.name}-owner"

    def cli(self, *args: str | Path, code: int = 0, text: str | None = None) -> str:
        """Run `cloister` on this mesh as a person would; returns what it printed, stderr included."""
        environment = {**os.environ, "CLOISTER_MESH": str(self.folder), "NO_COLOR": "1", "COLUMNS": "200"}
        words = [str(arg) for arg in args]
        ended, said = commands.run(words, environment, text, within_s=120)
        assert ended == code, f"cloister {' '.join(words)} ended with {ended}:\n{said}"
        return said

    @contextmanager
    def running(self, *args: str | Path) -> Iterator[IO[str]]:
        """A command that goes on until the block ends, and what it prints."""
        environment = {**os.environ, "CLOISTER_MESH": str(self.folder), "NO_COLOR": "1", "COLUMNS": "200"}
        command = [BIN / "cloister", *map(str, args)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            try:
                yield process.stdout
            finally:
                process.terminate()

    def json(self, *args: str | Path, code: int = 0) -> Any:
        """The same with --json, parsed."""
        return json.loads(self.cli(*args, "--json", code=code))

    def found(self, *options: str) -> None:
        """`cloister init`, with this model, on ports that no other mesh of this machine looks at."""
        port = str(20_000 + 16 * secrets.randbelow(600))
        self.cli("init", self.folder, "--cluster", CLUSTER, "--model", MODEL, "--port", port, "--simulator", *options)

    @contextmanager
    def up(self, workers: int = 2, *options: str, https: bool = False) -> Iterator[None]:
        """Started, with further options of `cloister up`, and drained at the end; HTTPS costs a second or two."""
        options = ("--https" if https else "--no-https", "--no-console", *options)
        self.cli("up", self.folder, "--simulator", "--workers", str(workers), *options, "--detach")
        try:
            yield
        finally:
            self.cli("down", self.folder)

    def seal(self, model: ov.Model, version: int = 1) -> Path:
        """`cloister model seal`; returns the folder it made."""
        source = self.owner_files / f"source-{version}"
        source.mkdir(parents=True, exist_ok=True)
        ov.save_model(model, source / "model.xml", compress_to_fp16=False)
        return self.seal_files(source / "model.xml", source / "model.bin", version=version)

    def seal_files(self, *files: Path, version: int = 1) -> Path:
        """The same of files or a folder."""
        sealed = self.owner_files / f"sealed-{version}"
        self.owner_files.mkdir(exist_ok=True)
        self.cli("model", "seal", *files, "--name", MODEL, "--version", str(version), "--out", sealed)
        return sealed

    @cached_property
    def mrenclave(self) -> str:
        """What a simulated worker measures as."""
        done = subprocess.run([BIN / "cloister-simulator", "measure", "--json"], capture_output=True, check=True)
        return str(json.loads(done.stdout)["mrenclave"])

    def allow(self, *options: str) -> None:
        """`cloister model allow` for the true measurement."""
        self.cli("model", "allow", MODEL, "--mrenclave", self.mrenclave, *options)

    @property
    def state(self) -> dict[str, Any]:
        """What the supervisor says it runs."""
        state: dict[str, Any] = json.loads((self.folder / "run" / "up.json").read_text())
        return state

    def program(self, name: str) -> dict[str, Any]:
        """One program of the state."""
        return next(program for program in self.state["programs"] if program["name"] == name)

    @property
    def gateway(self) -> str:
        """Its address."""
        return str(self.program("gateway")["address"])

    @property
    def trust(self) -> Path:
        """The trust bundle."""
        return self.folder / "trust.json"

    def identity(self, role: str) -> Path:
        """The folder of one identity."""
        return self.folder / "identities" / role / "main"

    def log(self, name: str) -> str:
        """All that a program has printed."""
        return (self.folder / "logs" / f"{name}.log").read_text()

    def kill(self, name: str) -> int:
        """SIGKILL one program; returns the process id it had."""
        pid = int(self.program(name)["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def serving(self) -> list[dict[str, Any]]:
        """The workers that the gateway has a link with and that serve a model."""
        status = self.json("status", self.folder, code=0)
        return [worker for worker in status["workers"] if worker["linked"] and worker["models"]]

    def until_serving(self, workers: int) -> None:
        """Wait until so many workers serve."""
        until(lambda: len(self.serving()) == workers, f"{workers} workers serving")

    def audit(self) -> list[dict[str, Any]]:
        """Both records, as the owner reads them."""
        lines: list[dict[str, Any]] = self.json("audit", "list")
        return lines


@contextmanager
def another_worker(mesh: RunningMesh, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """One more worker process of the simulator, with `options` that make it a wrong one; yields it and its log."""
    log = mesh.folder / "logs" / "intruder.log"
    (port,) = free_ports(1, first=30_000)
    address = f"127.0.0.1:{port}"
    settings = ("--settings", mesh.folder / "worker" / "settings.toml", "--platform", mesh.folder / "simulator")
    environment = {**os.environ, "CLOISTER_WORKER_LISTEN": address, "CLOISTER_WORKER_ENDPOINT": address}
    with log.open("wb") as out:
        command = [BIN / "cloister-simulator", "worker", *settings, *options]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            yield process, log
        finally:
            process.terminate()
            process.wait(20)


def until(reached: Callable[[], bool], what: str, within_s: float = 45.0) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.1)


async def soon(reached: Callable[[], bool], what: str, within_s: float = 45.0) -> None:
    """The same, without stopping the event loop."""
    async with asyncio.timeout(within_s):
        while not reached():
            await asyncio.sleep(0.05)
    assert reached(), what
