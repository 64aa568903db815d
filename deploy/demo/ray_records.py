"""Ray Data asks a whole mesh on this machine about every record of some files: `make ray-demo`.

A real Ray of this machine runs docs/examples/ray/ask_records.py as it stands, in its own environment. Every answer
is held against the same model in this process. Then a gateway and an actor are killed in the middle, and every record
has its answer all the same; and a job that cannot succeed says so.

    python deploy/demo/ray_records.py [--turns 360]
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import openvino as ov
import pyarrow as pa
import pyarrow.parquet as pq
import train
from benchmarks import processes
from demo import REPOSITORY, allow, found, say_what_is_simulated, seal_and_publish, start_over
from numpy.typing import NDArray
from rich.text import Text
from stage import Failed, console, running, serving, step, title, wait_for

from cloister.cli.ports import free_ports
from cloister.rpc.files import create_private

FOLDER = Path(".demo-ray")
PYTHON, RAY = (REPOSITORY / ".venv-ray" / "bin" / name for name in ("python", "ray"))
EXAMPLE = REPOSITORY / "docs" / "examples" / "ray" / "ask_records.py"
FILES = 8
SHORT_TURNS = 8
JOB_S = 900.0
ACTOR = "ray::MapWorker"
T = TypeVar("T")


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=360, help="how often each of the 569 patients is asked about")
    chosen = parser.parse_args()
    os.chdir(REPOSITORY)
    try:
        tell(FOLDER.absolute(), chosen.turns)
    except Failed as error:
        console.print(Text.assemble(("failed: ", "bold red"), str(error)))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def tell(folder: Path, turns: int) -> None:
    """From nothing to nothing."""
    start_over(folder)
    mesh = folder / "mesh"
    say_what_is_simulated()
    title("A mesh that serves a model")
    seen, held_out = train.split()
    files = train.save(train.build(train.train(seen)), folder / "model")
    measurements = np.concatenate([seen.measurements, held_out.measurements])
    truth = ov.Core().compile_model(files[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(measurements)[0]
    found(mesh)
    with running(mesh, workers=0):
        seal_and_publish(mesh, files, folder / "sealed")
        allow(mesh)
    with running(mesh), cluster() as ray:
        wait_for(lambda: serving(mesh, f"{train.MODEL_NAME}@1"), "both workers to serve the model")
        stage = Stage(folder, mesh, measurements, truth, ray)
        title("Every record asked about")
        stage.measured(turns)
        title("Killed in the middle")
        stage.killed(turns)
        title("What cannot succeed")
        stage.refused()
    step("everything", f"has stopped; nothing was left running. What this run made is in {FOLDER}")


@dataclass(frozen=True)
class Ray:
    """A cluster of one machine: the process that all others of it come from, and how a job gets in."""

    pid: int
    environment: Mapping[str, str]


@contextmanager
def cluster() -> Iterator[Ray]:
    """Ray on this machine's loopback address alone, for who has its token; up for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:  # a short path: Ray's sockets lie below it
        token = Path(scratch, "token")
        create_private(token, secrets.token_hex(32).encode())
        (port,) = free_ports(1, first=20_000)
        address = f"127.0.0.1:{port}"
        access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        here = ("--node-ip-address", "127.0.0.1", "--port", str(port), "--temp-dir", f"{scratch}/r")
        options = ("--include-dashboard", "false", "--object-store-memory", str(512 << 20), "--block")
        with Path(scratch, "log").open("w") as log:
            head = subprocess.Popen(  # noqa: S603 - Ray's own command
                [RAY, "start", "--head", *here, *options], env=os.environ | access, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_for(lambda: reached(port), "Ray")
            step("Ray", f"is up at {address}, for who has its token")
            yield Ray(head.pid, access | {"RAY_ADDRESS": address})
        finally:
            head.terminate()
            head.wait()


def reached(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Stage:
    """Jobs of Ray's on one mesh.

    Args:
        folder: For records and answers.
        mesh: The mesh folder.
        measurements: Of each patient, [n, 30].
        truth: What the model says of each, computed here, [n, 1].
        ray: The cluster.
    """

    def __init__(
        self, folder: Path, mesh: Path, measurements: NDArray[np.float32], truth: NDArray[np.float32], ray: Ray
    ) -> None:
        self._folder = folder
        self._mesh = mesh
        self._measurements = measurements
        self._truth = truth
        self._ray = ray
        self._programs = json.loads((mesh / "run" / "up.json").read_text())["programs"]

    def measured(self, turns: int) -> None:
        """A short job, then a long one: what lies between them is the records' doing."""
        self._timed("first", SHORT_TURNS)  # Ray starts the processes that it keeps
        short_s, short_cpu_s = self._timed("short", SHORT_TURNS)
        step("Ray", f"{SHORT_TURNS * len(self._truth)} records in {short_s:.1f} s, which is its start")
        long_s, long_cpu_s = self._timed("long", turns)
        if long_s <= short_s:
            raise Failed(
                f"{turns} turns took no longer than {SHORT_TURNS}: this machine is busy, or --turns is too small"
            )
        more = (turns - SHORT_TURNS) * len(self._truth)
        rate = more / (long_s - short_s)
        step("Ray", f"{turns * len(self._truth)} records in {long_s:.1f} s: {rate:.0f} records/s once it has started")
        spent = {name: (long_cpu_s[name] - short_cpu_s[name]) / more * 1e6 for name in long_cpu_s}
        step("the mesh", "CPU for each of them: " + ", ".join(f"{name} {used:.0f} µs" for name, used in spent.items()))

    def killed(self, turns: int) -> None:
        """A gateway and an actor are killed; every record has its answer once."""
        with self._job("killed", turns) as job:
            self._until(lambda: self._written("killed"), "the first answers")
            gateway = next(each["pid"] for each in self._programs if each["service"] == "gateway")
            os.kill(gateway, signal.SIGKILL)
            step(
                "nobody", f"killed the gateway with SIGKILL; {len(self._written('killed'))} files of answers were there"
            )
            os.kill(self._until(self._actors, "an actor")[0], signal.SIGKILL)
            step("nobody", "killed an actor of Ray's with SIGKILL")
            self._ended(job)
        self._check("killed", turns)
        step("Ray", f"{turns * len(self._truth)} records, each with its answer, none twice")

    def refused(self) -> None:
        """A model that is not there ends the job, and leaves no answers that look whole."""
        with self._job("refused", SHORT_TURNS, model="unknown") as job:
            said = job.communicate(timeout=JOB_S)[0]
        if job.returncode == 0 or (self._folder / "refused" / "answers").exists():
            raise Failed("a job for a model that nobody serves ended well")
        if "NotFound" not in said:
            raise Failed(f"the job did not say what was wrong: {said[-2000:]}")
        step(
            "Ray",
            f"ended with {job.returncode} for a model that is not served: NotFound; there is no folder of answers",
        )

    def _timed(self, name: str, turns: int) -> tuple[float, dict[str, float]]:
        before, began = self._cpu_s(), time.monotonic()
        with self._job(name, turns) as job:
            self._ended(job)
        took_s, after = time.monotonic() - began, self._cpu_s()
        self._check(name, turns)
        return took_s, {part: after[part] - before[part] for part in before}

    def _cpu_s(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for program in self._programs:
            if program["service"] in ("gateway", "worker"):
                found[program["service"]] = found.get(program["service"], 0.0) + processes.cpu_s(program["pid"])
        return found

    @contextmanager
    def _job(self, name: str, turns: int, model: str = train.MODEL_NAME) -> Iterator[subprocess.Popen[str]]:
        place = self._folder / name
        self._write(place / "records", turns)
        command = [PYTHON, EXAMPLE, self._mesh, model, place / "records", place / "answers"]
        job = subprocess.Popen(  # noqa: S603 - our own example
            command, env=os.environ | self._ray.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with job:
            try:
                yield job
            finally:
                job.terminate()

    def _ended(self, job: subprocess.Popen[str]) -> None:
        said = job.communicate(timeout=JOB_S)[0]
        if job.returncode != 0:
            raise Failed(f"the job ended with {job.returncode}: {said[-2000:]}")

    def _write(self, place: Path, turns: int) -> None:
        """Each patient once a turn, by a name of its own, in a few files."""
        place.mkdir(parents=True)
        count = len(self._measurements)
        for number in range(FILES):
            mine = range(number, turns, FILES)
            ids = [f"{patient}/{turn}" for turn in mine for patient in range(count)]
            rows = pa.FixedSizeListArray.from_arrays(
                np.tile(self._measurements, (len(mine), 1)).ravel(), train.FEATURES
            )
            pq.write_table(pa.table({"id": ids, "measurements": rows}), place / f"{number}.parquet")

    def _written(self, name: str) -> list[Path]:
        return list((self._folder / name / "answers.unfinished").glob("*.parquet"))

    def _until(self, look: Callable[[], list[T]], what: str) -> list[T]:
        until = time.monotonic() + JOB_S
        while not (seen := look()):
            if time.monotonic() > until:
                raise Failed(f"waited {JOB_S:.0f} s for {what}")
            time.sleep(0.2)
        return seen

    def _actors(self) -> list[int]:
        return [pid for pid in processes.tree(self._ray.pid) if _name(pid).startswith(ACTOR)]

    def _check(self, name: str, turns: int) -> None:
        """Every record is there once, with what the model says here."""
        answers = pq.read_table(self._folder / name / "answers")
        patients = np.array([int(each.partition("/")[0]) for each in answers["id"].to_pylist()])
        if len(set(answers["id"].to_pylist())) != len(answers) or len(answers) != turns * len(self._truth):
            raise Failed(f"{turns * len(self._truth)} records, and {len(answers)} answers")
        said = np.array(answers["benign_probability"].to_pylist(), np.float32).reshape(len(answers), -1)
        if not np.allclose(said, self._truth[patients].reshape(len(answers), -1), rtol=1e-5, atol=1e-6):
            raise Failed("an answer is not what the model says here")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
