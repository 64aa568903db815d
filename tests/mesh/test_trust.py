"""A data owner who has nothing but an address and measurements: from there to a believed answer."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest

from cloister import Client
from fakes.running_mesh import BIN, MODEL, RunningMesh, inputs


def measured(service: str) -> str:
    done = subprocess.run([BIN / "cloister-simulator", "measure", service, "--json"], capture_output=True, check=True)
    return str(json.loads(done.stdout)["mrenclave"])


def address(mesh: RunningMesh) -> str:
    return str(tomllib.loads((mesh.folder / "mesh.toml").read_text())["addresses"]["verifier_https"])


async def test_from_an_address_and_measurements_to_an_answer(mesh: RunningMesh, tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    root = mesh.folder / "simulator" / "root.der"
    named = ("--mrenclave", measured("verifier"), "--worker", measured("worker"), "--anchor-root", root)
    mesh.cli("trust", "pin", address(mesh), *named, "--pin-policy", "--out", trust)
    identity = mesh.identity("client")
    async with Client.connect(mesh.gateway, trust=trust, identity=identity) as client:
        answer = await client.infer(MODEL, {"x": inputs(1)})
    assert answer.outputs["y"].dtype == np.float32
    assert json.loads(trust.read_bytes())["pinned"]["by"] == "attested"


@pytest.mark.attack("C11")
def test_under_intels_root_the_simulated_verifier_is_not_pinned(mesh: RunningMesh, tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    said = mesh.cli("trust", "pin", address(mesh), "--mrenclave", measured("verifier"), "--out", trust, code=3)
    assert "not believed" in said
    assert not trust.exists()
