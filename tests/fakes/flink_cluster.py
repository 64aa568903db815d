"""A real Flink cluster and jobs on it, for tests: Flink in the environment that `make test-flink` makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloister.cli.ports import free_ports
from cloister_stream import local_cluster
from cloister_stream.flink_home import FlinkHome
from cloister_stream.local_cluster import LocalCluster
from cloister_stream.rest import ENDED, Rest
from cloister_stream.submitting import written
from fakes.running_mesh import MODEL, RunningMesh, until

ROOT = Path(__file__).resolve().parents[2]
FLINK = ROOT / ".venv-flink"
ASKED = "CLOISTER_TEST_FLINK"
JOB_S = 180.0


def skip_without_flink() -> None:
    """Say what would be needed, and skip."""
    if ASKED not in os.environ:
        pytest.skip("'make test-flink' runs it: Flink is 844 MB, and a cluster takes half a minute to start")
    if not (FLINK / "installed").exists() or shutil.which("java") is None:
        pytest.skip("Flink or Java 17 is missing: 'make test-flink' installs both")


@contextmanager
def running_cluster(mesh: RunningMesh, folder: Path) -> Iterator[LocalCluster]:
    """One JobManager and one TaskManager, with the key stores of the mesh folder."""
    (home,) = FLINK.glob("lib/python*/site-packages/pyflink")
    rpc, rest = free_ports(2, first=27_000)
    conf, work = folder / "conf", folder / "work"
    options = ["--conf", conf, "--work", work, "--stores", mesh.folder / "flink"]
    said = stream("configure", *options, "--rpc-port", str(rpc), "--rest-port", str(rest))
    assert said.returncode == 0, said.stderr
    with local_cluster.running(FlinkHome(home), conf, work) as cluster:
        yield cluster


def stream(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """`cloister-stream`, as a person runs it."""
    command = [FLINK / "bin" / "cloister-stream", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "200"})


class Job:
    """One job's folder: its records, settings and output."""

    def __init__(self, mesh: RunningMesh, cluster: LocalCluster, folder: Path) -> None:
        self.folder = folder
        self._mesh = mesh
        self._cluster = cluster
        (folder / "input").mkdir(parents=True)

    def records(self, name: str, lines: Iterable[str]) -> None:
        """One more file of records."""
        (self.folder / "input" / name).write_text("".join(f"{line}\n" for line in lines))

    def submit(self, **changes: Any) -> subprocess.CompletedProcess[str]:
        """Write the settings, and hand it over."""
        settings = {
            "gateway": [self._mesh.gateway],
            "trust": str(self._mesh.trust),
            "identity": str(self._mesh.identity("client")),
            "model": MODEL,
            "input": "input",
            "output": "output",
            "checkpoints": "checkpoints",
            "checkpoint_s": 0.5,
            **changes,
        }
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        (self.folder / "job.toml").write_text(text)
        return stream("submit", self.folder / "job.toml", "--conf", self._cluster.conf)

    def begin(self, **changes: Any) -> str:
        """The same, taken; returns its id."""
        done = self.submit(**changes)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def until_ended(self, job_id: str) -> None:
        """Wait for it to have come to its end."""
        with Rest(self._cluster.access) as rest:
            until(lambda: rest.state(job_id) in ENDED, "the end of the job", JOB_S)
            assert rest.state(job_id) == "FINISHED"

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """What stands in `results` or `failures`, in files that are in their place."""
        files = [path for path in written(self.folder / "output") if path.name.startswith(kind)]
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]
