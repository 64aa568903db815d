"""The worker that was built for a mesh, alone in its enclave: all else are processes of this machine.

What it answers is sealed to it, by a client that believes its measurement and no other. And a host that never hands
over a quote: the worker ends by itself, and says why.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cloister.cli.ports import free_ports
from cloister.client import SyncClient, TrustBundle, verify_receipt
from fakes.attestation import is_served
from fakes.running_mesh import MODEL, RunningMesh, inputs, probe, until

pytestmark = [
    pytest.mark.gramine,
    pytest.mark.skipif(shutil.which("gramine-direct") is None, reason="Gramine is not installed: nothing runs in it"),
]
BIN = Path(sys.executable).parent
DEADLINE_S = 3.0
# The worker as it is, but for how long it waits for a quote: half a minute is for a platform that has just booted.
IMPATIENT = f"""
from cloister.evidence.gramine import GramineQuoter
GramineQuoter.__init__.__kwdefaults__["deadline_s"] = {DEADLINE_S}
from cloister.worker.__main__ import main
raise SystemExit(main())
"""


class WorkerMesh(RunningMesh):
    """Without workers of its own."""

    @property
    def enclave(self) -> Path:
        """Where the worker was built."""
        return self.folder.parent / "worker"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerMesh]:
    """Its clients, and the owner of its model, believe the enclave and nothing else."""
    running = WorkerMesh(tmp_path_factory.mktemp("mesh") / "mesh")
    running.found()
    settings = running.folder / "worker" / "settings.toml"
    running.cli("enclave", "build", "worker", "--set", "simulated", "--settings", settings, "--out", running.enclave)
    mrenclave = json.loads((running.enclave / "measurement.json").read_text())["mrenclave"]
    running.cli("trust", "accept", "--mrenclave", mrenclave)
    sealed = running.seal(probe())
    with running.up(workers=0):
        running.cli("model", "publish", sealed)
        running.cli("model", "allow", MODEL, "--mrenclave", mrenclave, "--allow-simulated")
        yield running


@contextmanager
def attestation(mesh: WorkerMesh) -> Iterator[subprocess.Popen[bytes]]:
    """The stand-in for Gramine's attestation files, beside the enclave."""
    served = mesh.enclave / "host" / "attestation"
    words = ("attestation", served, "--platform", mesh.folder / "simulator", "--enclave", mesh.enclave)
    with subprocess.Popen([BIN / "cloister-simulator", *words], stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: is_served(served) or process.poll() is not None, "attestation files")
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(20)
    assert not list(served.iterdir())


@contextmanager
def worker(mesh: WorkerMesh, name: str = "worker") -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """An enclave of the folder, and what it says; killed at the end if it is still there."""
    (port,) = free_ports(1, first=30_000)
    chosen = {f"CLOISTER_WORKER_{each}": f"127.0.0.1:{port}" for each in ("LISTEN", "ENDPOINT")}
    log = mesh.folder / "logs" / f"{name}-inside.log"
    with log.open("wb") as out:
        environment = {"PATH": os.environ["PATH"], **chosen}
        command = ["gramine-direct", name]
        process = subprocess.Popen(command, cwd=mesh.enclave, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def test_it_attests_gets_its_key_and_answers_what_was_sealed_to_it(mesh: WorkerMesh) -> None:
    x = inputs(3, rows=2)
    with attestation(mesh), worker(mesh) as (process, log):
        until(lambda: process.poll() is not None or len(mesh.serving()) == 1, "the enclave serving", within_s=90)
        assert process.poll() is None, log.read_text()
        with SyncClient(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
            answer = client.infer(MODEL, {"x": x})
            assert answer.receipt is not None
            proved = verify_receipt(answer.receipt, TrustBundle.read(mesh.trust))
        (shown,) = mesh.serving()
        process.terminate()
        assert process.wait(30) == 0
    said = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert proved.result.mrenclave == shown["mrenclave"]
    assert (proved.simulated, shown["simulated"]) == (True, True)
    np.testing.assert_array_equal(proved.outputs["y"], answer.outputs["y"])
    (chosen,) = [line for line in said if line["event"] == "quoter.chosen"]
    assert chosen["enclave"] == "worker simulated"


@pytest.mark.attack("I12")
def test_a_host_that_is_silent_has_it_end_and_say_why(mesh: WorkerMesh) -> None:
    text = (mesh.enclave / "worker.manifest").read_text()
    before = '"-m",\n  "cloister.worker",'
    assert before in text
    changed = text.replace(before, f'"-c",\n  {json.dumps(IMPATIENT)},')
    (mesh.enclave / "impatient.manifest").write_text(changed)
    with attestation(mesh) as host, worker(mesh, "impatient") as (process, log):
        host.send_signal(signal.SIGSTOP)
        until(lambda: b"quoter.chosen" in log.read_bytes() or process.poll() is not None, "the worker begun")
        began_s = time.monotonic()
        assert process.wait(DEADLINE_S + 30) != 0
        assert time.monotonic() - began_s < DEADLINE_S + 15
        said = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert said[-1]["event"] == "service.failed"
    assert said[-1]["reason"] == "quote.overdue"
