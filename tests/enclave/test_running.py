"""A simulated worker, built and started: what was changed after it was measured cannot be used, whatever it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloister.enclave import run
from cloister.enclave.measurement import Measurement
from cloister.enclave.place import ATTESTATION
from cloister.errors import InvalidRequest
from fakes.vector_models import ANSWERS, FOLDER, SERVED, vector_model

pytestmark = [
    pytest.mark.gramine,
    pytest.mark.skipif(shutil.which("gramine-direct") is None, reason="Gramine is not installed: nothing runs in it"),
]
BIN = Path(sys.executable).parent
WITHIN_S = 60
Digests = dict[str, str]
LIBRARY, MODULE = "root/lib/system/libz.so.1", "root/lib/python3.11/cloister/worker/engine.pyc"
ROOTS = "mesh/tls.trust_roots"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worker of a mesh, as it was built."""
    mesh = tmp_path_factory.mktemp("founded") / "mesh"
    built = tmp_path_factory.mktemp("built")
    for words in (
        ("init", mesh, "--model", "digits", "--simulator"),
        ("enclave", "build-mesh", mesh, "--kind", "worker", "--out", built / "enclaves"),
    ):
        done = subprocess.run([BIN / "cloister", *words], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    return built / "enclaves" / "worker"


@contextmanager
def started(folder: Path, place: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The worker by Gramine alone, without our own look at the folder."""
    launch = run.launch(folder, place, Measurement.read(folder), {**os.environ, **environment})
    (place / ATTESTATION).mkdir(exist_ok=True)
    process = subprocess.Popen(
        launch.command,
        cwd=launch.place,
        env=dict(launch.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def changed(file: Path) -> Iterator[None]:
    """One byte of a file is another one."""
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    try:
        yield
    finally:
        file.write_bytes(content)


def said_until(process: subprocess.Popen[str], awaited: str) -> str:
    """What it says up to the line with `awaited`, or to its end."""
    until, lines = time.monotonic() + WITHIN_S, []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if awaited in line or time.monotonic() > until:
            break
    return "".join(lines)


def test_two_workers_of_one_build_run_at_once(folder: Path, tmp_path: Path) -> None:
    with started(folder, tmp_path / "1") as first, started(folder, tmp_path / "2") as second:
        for process in (first, second):
            assert "verifier.waited_for" in said_until(process, "verifier.waited_for")
            assert process.poll() is None


@pytest.mark.attack("I01")
@pytest.mark.parametrize(
    ("file", "words"),
    [
        (LIBRARY, "error while loading shared libraries: libz.so.1: cannot open shared object file"),
        (MODULE, "No module named cloister.worker"),  # a folder with one such file cannot be listed
        (ROOTS, "/cloister/mesh/tls.trust_roots cannot be read: Operation not permitted"),
    ],
    ids=["library", "module", "certificate"],
)
def test_a_changed_file_stops_the_start(folder: Path, tmp_path: Path, file: str, words: str) -> None:
    with changed(folder / file), started(folder, tmp_path / "place") as worker:
        assert words in said_until(worker, "verifier.waited_for")
        assert worker.wait(WITHIN_S) != 0
        with pytest.raises(InvalidRequest, match=f"{file} differs"):
            run.checked(folder)
    assert run.checked(folder) == Measurement.read(folder)


@pytest.mark.parametrize("name", SERVED)
def test_answers_inside_are_bit_for_bit_those_outside(
    answers: tuple[dict[str, str], dict[str, str]], name: str
) -> None:
    inside, outside = answers
    assert inside[name] == outside[name]


def asked(name: str) -> dict[str, object]:
    """What is asked of a model, without numpy's files."""
    given = vector_model(name)
    inputs = {key: [str(value.dtype), value.shape, value.tobytes().hex()] for key, value in given.inputs.items()}
    return {"inputs": inputs, "outputs": list(given.outputs)}


@pytest.fixture(scope="module")
def answers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Digests, Digests]:
    """Digests of what a worker's engine answers to each model, under Gramine and in a process of this Python.

    The program that asks comes from the host, which no measured manifest would let it: it is not what is tested.
    """
    work = tmp_path_factory.mktemp("answers")
    for name in SERVED:
        shutil.copytree(FOLDER / name, work / "models" / name, ignore=shutil.ignore_patterns(ANSWERS))
        (work / "models" / name / "asked.json").write_text(json.dumps(asked(name)))
    shutil.copy(Path(__file__).with_name("engine_answers.py"), work / "models")
    place = work / "place"
    launch = run.launch(folder, place, Measurement.read(folder), os.environ)
    (place / ATTESTATION).mkdir()
    (place / "host" / "models_dir").unlink()
    (place / "host" / "models_dir").symlink_to(work / "models")
    manifest = place / "worker.manifest"
    text = manifest.read_text().replace('"-m",\n  "cloister.worker",\n  "--settings",\n', "")
    text = text.replace('"/cloister/mesh/settings.toml",\n', '"/cloister/host/models_dir/engine_answers.py",\n')
    manifest.unlink()
    manifest.write_text(text)
    inside = subprocess.run(
        launch.command, cwd=place, env=dict(launch.environment), capture_output=True, text=True, timeout=240
    )
    assert inside.returncode == 0, inside.stderr[-2000:]
    outside = subprocess.run(
        [sys.executable, work / "models" / "engine_answers.py"], capture_output=True, text=True, timeout=240
    )
    assert outside.returncode == 0, outside.stderr[-2000:]
    return digests(inside.stdout), digests(outside.stdout)


def digests(printed: str) -> Digests:
    return dict(line.split(maxsplit=1) for line in printed.splitlines())
