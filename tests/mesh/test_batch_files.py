"""A file of rows through a whole mesh, by a command that is killed on the way."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloister.cli.batch.journal import Journal
from cloister.cli.failures import Stop
from fakes.running_mesh import BIN, MODEL, RunningMesh, inputs

ROWS = 1200
Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def test_a_batch_whose_client_is_killed_is_gone_on_with_and_counted(
    mesh: RunningMesh, truth: Truth, tmp_path: Path
) -> None:
    x = inputs(7, rows=ROWS)
    np.save(tmp_path / "in.npy", x)
    words = ("submit", MODEL, "--input", tmp_path / "in.npy", "--output", tmp_path / "out.npz", "--rows", "3")
    environment = {**os.environ, "CLOISTER_MESH": str(mesh.folder)}
    command = [BIN / "cloister", *map(str, words), "--in-flight", "8"]  # slowly
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        deadline_s = time.monotonic() + 60
        while not ended(tmp_path / "out.npz.journal") and client.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.01)
        client.kill()
    before = ended(tmp_path / "out.npz.journal")
    told = mesh.json(*words)
    assert (told["rows"], told["answered"], told["failed"]) == (ROWS, ROWS, 0)
    assert 0 < before < ROWS // 3, "it was killed with some answers, and not with all"
    with np.load(tmp_path / "out.npz") as found:
        assert found["row"].tolist() == list(range(ROWS))
        assert found["y"].tobytes() == truth(x).tobytes()
    assert mesh.json("jobs", "dead", MODEL) == []
    assert not any(queue["waiting"] or queue["running"] for queue in mesh.json("jobs", "queues"))


def ended(folder: Path) -> int:
    """How many jobs the journal has the end of."""
    try:
        with Journal.read(folder) as journal:
            return journal.counts.spans
    except Stop:
        return 0
