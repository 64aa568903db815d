"""Nothing but curl and a client certificate."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from fakes.networks import FEATURES, tiny
from fakes.pki import MeshPki
from fakes.running_rest import ENGINES, RestRig
from fakes.serving_mesh import serving_rest

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: apt-get install curl"),
]
INFER = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "data": [2] * FEATURES}]})


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def rest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestRig]:
    folder = tmp_path_factory.mktemp("mesh")
    async with serving_rest(folder, MeshPki(), {"tiny": tiny()}, request.param) as made:
        yield made


async def curl(rig: RestRig, path: str, *words: str, name: str = "ann") -> tuple[int, Any]:
    """Status and JSON of an answer."""
    folder = rig.files("client", name or "ann")
    shown = ["--cert", str(folder / "certificate.pem"), "--key", str(folder / "key.pem")] if name else []
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--cacert", str(folder / "roots.pem"), *shown, "-w", "\n%{http_code}"),
        *(*words, rig.address + path),
        stdout=-1,
        stderr=-1,
    )
    said, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    body, _, status = said.decode().rpartition("\n")
    return int(status), json.loads(body)


def posting(body: str) -> tuple[str, ...]:
    return "-H", "content-type: application/json", "-d", body


async def test_health_metadata_and_an_answer(rest: RestRig) -> None:
    assert await curl(rest, "/v2/health/ready", name="") == (200, {"ready": True})
    status, model = await curl(rest, "/v2/models/tiny")
    assert (status, model["versions"]) == (200, ["1"])
    for words in ((), ("--http2",), ("--http1.1",)):
        status, answer = await curl(rest, "/v2/models/tiny/infer", *posting(INFER), *words)
        assert status == 200
        assert answer["outputs"][1] == {"name": "sum", "datatype": "FP32", "shape": [1], "data": [2.0 * FEATURES]}


async def test_errors_are_json_with_what_was_wrong(rest: RestRig) -> None:
    assert (await curl(rest, "/v2/models/none/infer", *posting(INFER)))[0] == 404
    status, told = await curl(rest, "/v2/models/tiny/infer", *posting(INFER.replace(f"[1, {FEATURES}]", "[1, 3]")))
    assert status == 400
    assert "tensor 'x'" in told["error"]
    status, told = await curl(rest, "/v2/models/tiny/infer", *posting(INFER), name="")
    assert status == 401
    assert "outputs" not in told
