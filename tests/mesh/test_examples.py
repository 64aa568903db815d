"""Every example of the documentation runs as it stands, as its user would run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from fakes.running_mesh import MODEL, RunningMesh, inputs, probe

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
RECORDS = 120
Run = Callable[..., str]


@pytest.fixture
def run(mesh: RunningMesh, tmp_path: Path) -> Run:
    np.save(tmp_path / "records.npy", inputs(1, rows=RECORDS))

    def run(name: str, *words: str) -> str:
        command = [sys.executable, EXAMPLES / f"{name}.py", mesh.folder, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_each_is_short_and_has_a_test_here() -> None:
    found = {path.stem: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert max(found.values()) < 40
    named = Path(__file__).read_text()
    assert [name for name in found if f'run("{name}"' not in named] == []


def test_asking(run: Run, mesh: RunningMesh) -> None:
    said = run("ask", MODEL, "records.npy")
    assert said.count(mesh.mrenclave) == 2
    assert "array" in said


def test_asking_for_many(run: Run) -> None:
    said = run("many", MODEL, "records.npy")
    assert f"{RECORDS} of {RECORDS}\n{RECORDS} answers" in said
    assert "100 {" in said
    assert "{0: InvalidRequest" in said


def test_a_stream(run: Run) -> None:
    said = run("stream", MODEL, "records.npy")
    assert said.count(" ms\n") == RECORDS


def test_a_receipt(run: Run, mesh: RunningMesh) -> None:
    said = run("receipt", MODEL, "records.npy")
    assert f"{MODEL}@1 in {mesh.mrenclave}" in said
    assert "one bit changed: " in said


def test_a_model_owner(run: Run, mesh: RunningMesh, tmp_path: Path) -> None:
    ov.save_model(probe(), tmp_path / "model.xml", compress_to_fp16=False)
    said = run("owner", "example", "model.xml", mesh.mrenclave)
    assert "model.registered" in said
    assert "policy 1 is line" in said
    assert "example" in mesh.cli("model", "list")


def test_an_auditor(run: Run, mesh: RunningMesh) -> None:
    said = run("auditor")
    assert said.count(mesh.mrenclave) >= 3
    assert "0 revocations" in said
