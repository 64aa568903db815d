"""A program written for Cluster Serving, whose requests are sealed to a whole mesh."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister.compat.zoo import InputQueue, OutputQueue
from cloister.errors import InvalidRequest
from fakes.running_mesh import MODEL, RunningMesh, inputs

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
PROGRAM = """
import numpy as np
from cloister.compat.zoo import InputQueue, OutputQueue
requests = InputQueue({host!r}, {port}, {model!r})
requests.enqueue("a", t=np.ones(8))
print(OutputQueue({host!r}, {port}, {model!r}).query("a").shape)
"""


def test_its_queues_answer_what_openvino_answers(mesh: RunningMesh, truth: Truth) -> None:
    host, _, port = mesh.gateway.rpartition(":")
    given = {"trust": mesh.trust, "identity": mesh.identity("client")}
    results = OutputQueue(host, int(port), MODEL)
    with InputQueue(host, int(port), MODEL, **given) as requests:
        for seed in range(20):
            requests.enqueue(f"r{seed}", x=inputs(seed)[0])
        with pytest.raises(InvalidRequest, match="tensor 'x': shape"):
            requests.enqueue("short", x=inputs(0)[0, :5])
        for seed in range(20):
            answer = results.answer(f"r{seed}")
            assert answer.receipt is not None
            assert results.query_and_delete(f"r{seed}").tobytes() == truth(inputs(seed))[0].tobytes()
        assert requests.predict(inputs(3, rows=4)).tobytes() == truth(inputs(3, rows=4)).tobytes()


def test_a_program_that_only_changed_its_import_ends_by_itself(mesh: RunningMesh) -> None:
    host, _, port = mesh.gateway.rpartition(":")
    (mesh.folder / "compat.py").write_text(PROGRAM.format(host=host, port=int(port), model=MODEL))
    done = subprocess.run(
        [sys.executable, mesh.folder / "compat.py"],
        env={"CLOISTER_MESH": str(mesh.folder), "HOME": str(mesh.folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(4,)\n", "")
