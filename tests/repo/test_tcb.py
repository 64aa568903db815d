"""What enclaves carry is what tcb.lock says, each part of it for a reason, and enough for every service to start."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from cloister.enclave.image import build_image, other_here
from cloister.enclave.interpreter import PYTHON, require_interpreter
from cloister.enclave.kinds import GATEWAY, KINDS, PROVISIONER, REDIS, VERIFIER, WORKER, Kind
from cloister.enclave.locking import check_reasons, make_lock, own_modules
from cloister.enclave.reasons import read_reasons
from cloister.enclave.tcb import LOCK_FILE, lock_text, parse_lock, read_lock
from cloister.errors import NotReady
from fakes.running_mesh import inputs, probe

SERVICES = (WORKER, VERIFIER, PROVISIONER, GATEWAY)
INFER = """
import sys, openvino
from cloister.worker import models
files = {name: memoryview(open(f"{sys.argv[1]}/{name}", "rb").read()) for name in ("model.xml", "model.bin")}
compiled = openvino.Core().compile_model(models.read(files)[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
import numpy
x = numpy.frombuffer(open(f"{sys.argv[1]}/x", "rb").read(), numpy.float32).reshape(1, 8)
sys.stdout.buffer.write(compiled({"x": x})[0].tobytes())
"""


def here() -> None:
    """Skip, in words, where this machine is not the one that the lock was made for."""
    try:
        require_interpreter()
    except NotReady as error:
        pytest.skip(str(error))
    if others := [said for part in read_lock().parts if (said := other_here(part))]:
        pytest.skip("; ".join(others))


def test_the_lock_is_written_as_it_is_read() -> None:
    text = LOCK_FILE.read_text()
    assert lock_text(parse_lock(text)) == text


def test_there_is_a_reason_for_whatever_is_carried_and_for_nothing_else() -> None:
    check_reasons(read_lock(), read_reasons())


@pytest.mark.parametrize("kind", SERVICES, ids=lambda kind: kind.name)
def test_our_modules_in_the_lock_are_those_that_the_service_can_import(kind: Kind) -> None:
    ours = {name for name in read_lock().ours_of(kind) if "/" not in name}
    assert ours == own_modules(kind, read_reasons().absent_of(kind)), "run 'make tcb', and read what it changes"


def test_what_services_import_is_what_the_lock_says() -> None:
    here()
    assert lock_text(make_lock(read_reasons())) == LOCK_FILE.read_text(), "run 'make tcb', and read what it changes"


def test_two_builds_in_two_folders_are_the_same_bytes(tmp_path: Path) -> None:
    here()
    for folder in ("one", "two/further/down"):
        build_image(PROVISIONER, tmp_path / folder)
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two/further/down")
    assert one == two
    assert f"root/lib/{PYTHON.name}/cloister/provisioner/app.pyc" in one
    assert not any(name.endswith((".py", ".pyi")) for name in one)


@pytest.mark.parametrize("kind", SERVICES, ids=lambda kind: kind.name)
def test_a_service_starts_from_its_image_alone(kind: Kind, tmp_path: Path) -> None:
    here()
    build_image(kind, tmp_path)
    ended = run(tmp_path, "-m", kind.module, "--settings", "/nonexistent")
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr == f"cloister-{kind.name}: /nonexistent: cannot be read: No such file or directory\n".encode()
    if kind == WORKER:
        answers_as_outside(tmp_path)


def test_the_simulator_is_in_the_simulated_verifier_and_no_more_of_it_than_starts_one(tmp_path: Path) -> None:
    here()
    for kind in (VERIFIER, PROVISIONER):
        build_image(kind, tmp_path / kind.name, simulated=True)
        found = {path.name for path in (tmp_path / kind.name).glob("root/lib/python3.11/cloister_simulator/*")}
        assert found == ({"__init__.pyc", "enclave_verifier.pyc"} if kind == VERIFIER else set())
    ended = run(tmp_path / "verifier", "-m", "cloister_simulator.enclave_verifier", "--settings", "/nonexistent")
    assert b"/nonexistent: cannot be read" in ended.stderr


def test_redis_server_starts_from_its_image_alone(tmp_path: Path) -> None:
    here()
    build_image(REDIS, tmp_path)
    root = tmp_path / "root"
    command = [root / "bin" / "redis-server", "--version"]
    shown = subprocess.run(command, capture_output=True, check=True, env={"LD_LIBRARY_PATH": str(root / "lib/system")})
    assert shown.stdout.startswith(b"Redis server v=")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_no_image_has_a_simulator_a_test_or_an_installer(kind: Kind) -> None:
    lock = read_lock()
    carried = [*lock.ours_of(kind), *(file.path for _, file in lock.files_of(kind))]
    assert len(carried) > 10
    for name in carried:
        assert not {"cloister_simulator", "tests", "test", "pip", "setuptools", "cli"} & {
            *name.replace("/", ".").split(".")
        }


def answers_as_outside(folder: Path) -> None:
    """The worker's OpenVINO answers in the image as it does here."""
    x = inputs(7)
    ov.save_model(probe(), folder / "model.xml", compress_to_fp16=False)
    (folder / "x").write_bytes(x.tobytes())
    compiled = ov.Core().compile_model(probe(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ended = run(folder, "-c", INFER, str(folder))
    assert ended.stdout == np.array(compiled(x)[0]).tobytes(), ended.stderr


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Python of an image, with nothing of this environment."""
    root = folder / "root"
    command = [root / "bin" / PYTHON.name, "-I", "-S", "-B", *arguments]
    environment = {"LD_LIBRARY_PATH": str(root / "lib" / "system"), "HOME": "/tmp"}
    return subprocess.run(command, capture_output=True, check=False, env=environment, cwd="/")


def digests(folder: Path) -> dict[str, tuple[int, str]]:
    """Mode and digest of every file."""
    return {
        os.path.relpath(path, folder): (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }
