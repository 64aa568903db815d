"""A program written for Cluster Serving, whose requests are sealed to a whole mesh."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister.client import Client
from cloister.compat.zoo import InputQueue, OutputQueue
from cloister.compat.zoo.bridge.app import carry
from cloister.compat.zoo.bridge.counts import Counts, Totals
from cloister.compat.zoo.bridge.settings import BridgeSettings, Target, TheirRedis
from cloister.errors import InvalidRequest
from cloister.kit.metrics import Metrics
from fakes.running_mesh import MODEL, RunningMesh, inputs
from fakes.zoo_client import ZooClient, payload
from fakes.zoo_redis import zoo_redis_running

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
ASKS = """
import numpy as np
from cloister.compat.zoo import InputQueue
requests = InputQueue({host!r}, {port}, {model!r})
requests.enqueue("a", t=np.ones(8))
"""
ANSWERED = """
from cloister.compat.zoo import OutputQueue
print(OutputQueue({host!r}, {port}, {model!r}).query("a").shape)
"""


@pytest.fixture(autouse=True)
def _tickets_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_ZOO_TICKETS", str(tmp_path))


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


def test_programs_that_only_changed_their_import_end_by_themselves(mesh: RunningMesh, tmp_path: Path) -> None:
    """One asks, another has the result: what Redis did for them is done by jobs, and tickets of their user."""
    host, _, port = mesh.gateway.rpartition(":")
    for program, said in ((ASKS, ""), (ANSWERED, "(4,)\n")):
        (tmp_path / "program.py").write_text(program.format(host=host, port=int(port), model=MODEL))
        done = subprocess.run(
            [sys.executable, tmp_path / "program.py"],
            env={"CLOISTER_MESH": str(mesh.folder), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


async def test_their_own_client_has_sealed_answers_over_the_bridge(
    mesh: RunningMesh, truth: Truth, tmp_path: Path
) -> None:
    with zoo_redis_running(tmp_path / "redis") as server:
        theirs = ZooClient(server.client())
        for seed in range(20):
            theirs.enqueue(f"r{seed}", payload(t=inputs(seed)))
        theirs.enqueue("short", payload(t=inputs(0)[:, :5]))
        settings = BridgeSettings(
            redis=TheirRedis(url=server.url), streams={theirs.name: Target(MODEL)}, until_empty=True
        )
        counts = Counts(Metrics())
        async with Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
            await asyncio.wait_for(carry(settings, client, counts, asyncio.Event()), 60)
        assert counts.streams[theirs.name] == Totals(taken=21, answered=20, failed=1)
        for seed in range(20):
            assert theirs.query(f"r{seed}").tobytes() == truth(inputs(seed))[0].tobytes()
        assert (theirs.query("short"), theirs.error("short")[:16]) == ("NaN", "request.invalid:")
