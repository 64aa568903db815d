"""The order in which a worker starts: identity, evidence, result, key, model. What fails comes before all that follows.

What else can go wrong on the way is played in `test_worker.py`, one test for each; here is what the process says.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from cloister.api.v1.verifier_pb2 import PURPOSE_KEY_RELEASE, PURPOSE_MESH
from cloister.errors import KeyRefused, NotReady
from cloister.kit.lifecycle import CLEAN, FAILED, REFUSED
from fakes.worker_mesh import WorkerMesh
from fakes.worker_process import WorkerProcess, worker_process


def last_line(worker: WorkerProcess) -> dict[str, object]:
    """The one line that says why it ended, and nothing comes after it."""
    (line,) = worker.logged("service.failed")
    assert line == worker.events[-1]
    return {name: line[name] for name in ("reason", "exit_code")}


async def test_without_an_identity_nobody_is_asked_for_anything(mesh: WorkerMesh) -> None:
    settings = mesh.settings()
    settings.tls.private_key.unlink()
    with pytest.raises(NotReady) as raised:
        async with asyncio.timeout(10), mesh.worker(settings):
            pass
    assert raised.value.reason == "file.unreadable"
    assert not mesh.verifier.appraised


@pytest.mark.attack("C12")
async def test_a_worker_that_is_not_believed_ends_with_a_code_of_its_own_and_one_line(mesh: WorkerMesh) -> None:
    """It has listened to nobody and asked for no key."""
    mesh.verifier.refuse = {PURPOSE_MESH}
    async with worker_process(mesh) as worker:
        assert await worker.ended() == REFUSED
        assert last_line(worker) == {"reason": "evidence.rejected", "exit_code": REFUSED}
        assert not worker.logged("server.listening")
    assert mesh.verifier.appraised == [("enrol", PURPOSE_MESH)]
    assert not mesh.provisioner.asked


async def test_a_worker_that_waits_for_its_verifier_ends_when_it_is_told_to(mesh: WorkerMesh) -> None:
    nobody = mesh.settings(verifier="127.0.0.1:1")
    async with worker_process(mesh, nobody) as worker:
        await worker.until_logged("verifier.waited_for")
        os.kill(worker.pid, signal.SIGTERM)
        assert await worker.ended() == CLEAN
        assert not worker.logged("service.failed")


@pytest.mark.attack("I01")
async def test_what_is_no_file_in_the_place_of_the_verifiers_keys_ends_it_at_once(
    mesh: WorkerMesh, tmp_path: Path
) -> None:
    settings = mesh.settings()
    settings.verifier_keys.unlink()
    os.mkfifo(settings.verifier_keys)
    async with worker_process(mesh, settings) as worker:
        assert await worker.ended() == FAILED
        assert last_line(worker) == {"reason": "verifier_keys.unusable", "exit_code": FAILED}
    assert not mesh.verifier.appraised


async def test_a_key_comes_before_a_model_and_after_a_membership(mesh: WorkerMesh, monkeypatch) -> None:
    """Neither a refused key nor a file that is no model ends it: it asks again, and serves nothing meanwhile."""
    monkeypatch.setattr("cloister.worker.backoff.Backoff.pause", lambda self, at_most_s=0.0: asyncio.sleep(0.01))
    mesh.provisioner.error = KeyRefused("the request was refused")
    (mesh.folder / "models" / "tiny" / "3" / "model.sealed").unlink()
    async with mesh.worker():
        await mesh.provisioner.until_asked(2)
        mesh.provisioner.error = None
        asked = mesh.provisioner.asked
        await mesh.provisioner.until_asked(asked + 2)
    assert mesh.verifier.appraised[0] == ("enrol", PURPOSE_MESH)
    assert set(mesh.verifier.appraised[1:]) == {("worker", PURPOSE_KEY_RELEASE)}
