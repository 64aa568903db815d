"""Debian's curl with a client certificate, as a person has it: both versions of HTTP, JSON and a file of bytes."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from fakes.running_rest import RestRig
from fakes.worker_link import FakeWorker

pytestmark = [
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl"),
]
REQUEST = json.dumps({"inputs": [{"name": "x", "datatype": "UINT8", "shape": [3], "data": [1, 2, 3]}]})


async def curl(rest: RestRig, *words: str, path: str, name: str = "ann") -> tuple[int, str, str]:
    """Status, version of HTTP, and what was answered."""
    files = rest.files("client", name)
    who = ("--cert", str(files / "certificate.pem"), "--key", str(files / "key.pem"))
    tls = ("--cacert", str(files / "roots.pem"), "--max-time", "20", "--silent", "--show-error")
    process = await asyncio.create_subprocess_exec(
        "curl", *tls, *who, *words, "-w", "\n%{http_code} %{http_version}", rest.address + path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    body, _, told = said.decode().rpartition("\n")
    status, version = told.split()
    return int(status), version, body


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_curl_asks(rest: RestRig, worker: FakeWorker, version: str, tmp_path: Path) -> None:
    speaks = "2" if (version, rest.engine) == ("--http2", "envoy") else "1.1"
    status, spoken, body = await curl(rest, version, path="/v2/models/tiny")
    assert (status, spoken, json.loads(body)["name"]) == (200, speaks, "tiny")
    json_type = ("-H", "content-type: application/json")
    status, _, body = await curl(rest, version, *json_type, "-d", REQUEST, path="/v2/models/tiny/infer")
    assert (status, json.loads(body)["outputs"][0]["data"]) == (200, [1, 2, 3])
    tensor = bytes(range(256)) * 12_000  # large enough that curl asks before it sends
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "UINT8",
                    "shape": [len(tensor)],
                    "parameters": {"binary_data_size": len(tensor)},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    (tmp_path / "request").write_bytes(header + tensor)
    length = ("-H", f"Inference-Header-Content-Length: {len(header)}", "-H", "content-type: application/octet-stream")
    out = tmp_path / "answer"
    sent = ("--data-binary", f"@{tmp_path / 'request'}", "-o", str(out))
    status, _, _ = await curl(rest, version, *length, *sent, path="/v2/models/tiny/infer")
    assert status == 200
    assert out.read_bytes().endswith(tensor)


async def test_curls_own_content_type_is_refused_with_the_one_to_use(rest: RestRig, worker: FakeWorker) -> None:
    status, _, body = await curl(rest, "-d", REQUEST, path="/v2/models/tiny/infer")
    assert (status, "application/json" in json.loads(body)["error"]) == (415, True)
    assert not worker.seen
