"""A simulated provisioner whose sealing key changes, as after a microcode update: it keeps every model key.

It has no quotes of its own, so that Gramine's keys are there under `gramine-direct` too, and it opens its state as in
SGX. What another CPU sealed is played by ciphertext of which a byte is another one: neither can be opened.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloister.enclave import run
from cloister.enclave.measurement import Measurement
from fakes.digits import trained

pytestmark = [
    pytest.mark.gramine,
    pytest.mark.skipif(shutil.which("gramine-direct") is None, reason="Gramine is not installed: nothing runs in it"),
]
WITHIN_S = 60


def cloister(*words: str | Path, code: int = 0) -> str:
    program = Path(sys.executable).with_name("cloister")
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its provisioner follows no verifier; one model is sealed."""
    folder = tmp_path_factory.mktemp("founded")
    mesh = folder / "mesh"
    cloister("init", mesh, "--model", "digits")
    settings = mesh / "provisioner" / "settings.toml"
    settings.write_text(re.sub(r"^verifier = .*\n", "", settings.read_text(), flags=re.MULTILINE))
    trained().save(folder / "model")
    files = (folder / "model/model.xml", folder / "model/model.bin")
    cloister("model", "seal", *files, "--name", "digits", "--mesh", mesh, "--out", folder / "sealed")
    return mesh


@pytest.fixture(scope="module")
def built(mesh: Path) -> Path:
    folder = mesh.parent / "enclaves" / "provisioner"
    settings = mesh / "provisioner" / "settings.toml"
    cloister("enclave", "build", "provisioner", "--settings", settings, "--out", folder, "--set", "simulated")
    return folder


@contextmanager
def started(built: Path, place: Path) -> Iterator[subprocess.Popen[str]]:
    """The provisioner in a place, which is killed at the end, as by a power cut."""
    launch = run.launch(built, place, Measurement.read(built), os.environ)
    with subprocess.Popen(
        launch.command,
        cwd=launch.place,
        env=dict(launch.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def events(process: subprocess.Popen[str], last: str) -> dict[str, Any]:
    """What it logs up to an event, by event."""
    found: dict[str, Any] = {}
    until = time.monotonic() + WITHIN_S
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        found[said["event"]] = said
        if said["event"] == last or time.monotonic() > until:
            break
    return found


@contextmanager
def serving(built: Path, place: Path) -> Iterator[dict[str, Any]]:
    with started(built, place) as process:
        said = events(process, "server.listening")
        assert "server.listening" in said, said
        yield said


def refusal(built: Path, place: Path) -> str:
    """In what words it does not start; its state stays as it is."""
    before = contents(place / "host/state")
    with started(built, place) as process:
        said = events(process, "service.failed")
        assert "server.listening" not in said
        assert process.wait(WITHIN_S) == 1
    assert contents(place / "host/state") == before
    return str(said["service.failed"]["error"])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that has a content: Gramine leaves empty ones where it tried to recover something."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.stat().st_size}


def seal_elsewhere(folder: Path) -> None:
    """Have every file in a folder be one that this CPU cannot open."""
    for path, content in contents(folder).items():
        Path(path).write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])


def models(mesh: Path) -> str:
    return cloister("model", "list", "--mesh", mesh)


def test_model_keys_outlive_what_changes_the_cpus_sealing_key(mesh: Path, built: Path) -> None:
    place = mesh.parent / "places" / "provisioner"
    cloister("enclave", "import", built, "--at", place)
    with serving(built, place) as said:
        assert "state.begun" in said
        cloister("model", "publish", mesh.parent / "sealed", "--mesh", mesh)
        assert "digits" in models(mesh)
    with serving(built, place) as said:
        assert "state.begun" not in said
        assert "digits" in models(mesh)

    seal_elsewhere(place / "host/sealed")
    assert re.search(r"cannot be read .* microcode update .* \('cloister enclave import'\)", refusal(built, place))
    assert "keep " in cloister("enclave", "import", built, "--at", place)
    with serving(built, place) as said:
        assert "state.begun" not in said
        assert "digits" in models(mesh)

    elsewhere = mesh.parent / "places" / "another-machine"
    (elsewhere / "host").mkdir(parents=True)
    shutil.copytree(place / "host/state", elsewhere / "host/state")
    cloister("enclave", "import", built, "--at", elsewhere)
    with serving(built, elsewhere) as said:
        assert "state.begun" not in said
        assert "digits" in models(mesh)


def test_no_state_is_begun_over_one_that_cannot_be_read_or_is_gone(mesh: Path, built: Path) -> None:
    place = mesh.parent / "places" / "wrong-key"
    assert "the key of the enclave's state was not brought in" in refusal(built, place)
    cloister("enclave", "import", built, "--at", place)
    with serving(built, place):
        pass
    kept = mesh.parent / "kept"
    (place / "host/state").rename(kept)
    (place / "host/state").mkdir(mode=0o700)
    assert "is gone, or part of it" in refusal(built, place)
    (place / "host/state").rmdir()
    kept.rename(place / "host/state")

    other = mesh.parent / "other-key"  # the same provisioner, whose operator has lost state.key and had one made
    key = mesh / "provisioner" / "state.key"
    right = key.read_bytes()
    key.unlink()
    settings = mesh / "provisioner" / "settings.toml"
    cloister("enclave", "build", "provisioner", "--settings", settings, "--out", other, "--set", "simulated")
    assert Measurement.read(other).mrenclave == Measurement.read(built).mrenclave
    said = cloister("enclave", "import", other, "--at", place, code=1)
    assert "another state.key is in there" in said
    seal_elsewhere(place / "host/sealed")
    cloister("enclave", "import", other, "--at", place)
    assert "with the state.key that it was begun with" in refusal(other, place)

    key.write_bytes(right)
    seal_elsewhere(place / "host/sealed")
    cloister("enclave", "import", built, "--at", place)
    with serving(built, place) as served:
        assert "state.begun" not in served
