"""Planted words: what the mesh is given in confidence stands in no log, no file, no argument and no error.

The model is a TensorFlow SavedModel: the format whose files the worker lays out, in memory, to read them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloister import Client
from cloister.errors import CloisterError
from fakes.running_mesh import MODEL, RunningMesh
from fakes.vector_models import FOLDER

IN_REQUEST = b"CANARY-REQUEST-TENSOR-32-BYTES!!"
IN_MODEL = b"CANARY-MODEL-WEIGHTS-32-BYTES!!!"
IN_CLIENT_NAME = "canary-tensor-name"


@pytest.fixture(scope="module")
def planted_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    running = RunningMesh(tmp_path_factory.mktemp("canary") / "mesh")
    running.found()
    sealed = running.seal_files(FOLDER / "saved_canary")  # adds the planted weights to `x`
    with running.up(workers=1):
        running.cli("model", "publish", sealed)
        running.allow("--allow-simulated")
        running.until_serving(1)
        yield running


def model_key(mesh: RunningMesh) -> bytes:
    """The key as `cloister model seal` left it with the owner."""
    keys = [path for path in (mesh.owner_files / "sealed-1").iterdir() if path.suffix == ".key"]
    assert len(keys) == 1
    assert keys[0].stat().st_mode & 0o077 == 0
    return keys[0].read_bytes()


def command_lines(mesh: RunningMesh) -> bytes:
    said = b""
    for program in mesh.state["programs"]:
        process = Path("/proc") / str(program["pid"])
        said += (process / "cmdline").read_bytes()
        if os.access(process / "environ", os.R_OK):  # root may look into it, and nobody else
            said += (process / "environ").read_bytes()
    return said


def left_in_memory() -> dict[str, bytes]:
    """What any worker of this machine left where it lays out models."""
    left = {}
    for path in Path("/dev/shm").rglob("cloister-*/**/*"):
        with contextlib.suppress(OSError):  # another test's, gone meanwhile
            left[str(path)] = path.read_bytes()
    return left


@pytest.mark.attack("I06")
@pytest.mark.attack("G3")
async def test_no_secret_is_left_anywhere(planted_mesh: RunningMesh) -> None:
    mesh = planted_mesh
    errors = []
    async with Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
        x = np.frombuffer(IN_REQUEST, np.float32).reshape(1, 8)
        answer = await client.infer(MODEL, {"x": x})
        assert answer.outputs["y"].shape == (1, 8)
        zeros = await client.infer(MODEL, {"x": np.zeros((1, 8), np.float32)})
        assert zeros.outputs["y"].tobytes() == IN_MODEL
        wide = np.concatenate([x, x], axis=1)
        for wrong in ({"x": wide}, {IN_CLIENT_NAME: x}, {"x": x.astype(np.float64)}):
            with pytest.raises(CloisterError) as raised:
                await client.infer(MODEL, wrong)
            errors.append(str(raised.value))
        with pytest.raises(CloisterError):  # the owner has not allowed plain requests
            await client.infer(MODEL, {"x": x}, sealed=False)

    key = model_key(mesh)
    secrets = [IN_REQUEST, IN_MODEL, key, key.hex().encode(), IN_CLIENT_NAME.encode()]
    places = {str(path): path.read_bytes() for path in mesh.folder.rglob("*") if path.is_file()}
    places |= left_in_memory()
    places |= {"command lines and environments": command_lines(mesh)}
    places |= {f"error {number}": text.encode() for number, text in enumerate(errors)}
    found = {(where, secret[:12]) for where, content in places.items() for secret in secrets if secret in content}
    # The one who made the mistake may read its own tensor's name; nobody else may.
    assert not {(where, word) for where, word in found if not where.startswith("error ")}
    assert not [error for error in errors if "CANARY-" in error]
    assert len(places) > 20


def test_private_files_are_private(planted_mesh: RunningMesh) -> None:
    for path in planted_mesh.folder.rglob("*"):
        if path.is_file() and (path.suffix == ".key" or "private" in path.name or path.suffix in {".sqlite", ".db"}):
            assert path.stat().st_mode & 0o077 == 0, path
