"""KServe's own clients, unchanged, in an environment of their own: their pins would hold ours back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloister.rpc.spiffe import server_name
from fakes.networks import tiny
from fakes.pki import MeshPki
from fakes.running_gateway import Rig
from fakes.running_rest import RestRig
from fakes.serving_mesh import serving_rest

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-kserve/bin/python"
X = np.arange(60, dtype=np.float32).reshape(2, 30)


async def run(script: str, rig: Rig | RestRig, folder: Path) -> Any:
    """What one of the scripts in tests/stock prints."""
    if not PYTHON.exists():
        pytest.skip("KServe's client is not installed: make .venv-kserve/installed")
    rig.pki.identity("client", "ann").write(folder)
    words = (str(ROOT / "tests/stock" / script), f"127.0.0.1:{rig.port}", str(folder))
    process = await asyncio.create_subprocess_exec(
        PYTHON, *words, server_name(rig.pki.cluster, "gateway"), stdout=-1, stderr=-1, env={"HOME": str(folder)}
    )
    said, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return json.loads(said.splitlines()[-1])


async def test_kserves_grpc_client(rig: Rig, tmp_path: Path) -> None:
    told = await run("kserve_grpc.py", rig, tmp_path)
    assert (told["live"], told["ready"], told["models"]) == (True, True, [True, False])
    assert told["answered"] == ["tiny", "1", "r-1", ["p", "sum"]]
    assert told["sum"] == [X.sum(1).tolist()] * 2
    assert told["unknown"] == ["NOT_FOUND", "no such model"]
    assert told["shape"] == ["INVALID_ARGUMENT", "tensor 'x': shape [2, 3], the model takes [-1, 30]"]
    assert told["datatype"][0] == "INVALID_ARGUMENT"


async def test_kserves_rest_client(tmp_path: Path) -> None:
    async with serving_rest(tmp_path, MeshPki(), {"tiny": tiny()}, "envoy") as rest:
        told = await run("kserve_rest.py", rest, tmp_path)
    assert (told["live"], told["ready"], told["models"]) == (True, True, [True, False])
    assert told["answered"] == ["tiny", "r-1", ["p", "sum"]]
    assert told["sum"] == [X.sum(1).tolist()] * 2
    assert told["predictions"] == len(X)
    assert told["unknown"] == [404, "no such model"]
    assert told["shape"] == [400, "tensor 'x': shape [2, 3], the model takes [-1, 30]"]
