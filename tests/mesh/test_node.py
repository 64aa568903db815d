"""The Node.js client, made after docs/seal-format.md, asks the mesh that the Python one asks, and one that cheats."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister.api.oip.inference_pb2 import ModelInferResponse
from cloister.api.v1.gateway_pb2 import ListWorkersResponse
from cloister.client import TrustBundle
from cloister.client.receipts import load_receipt, verify_receipt
from fakes import node_client
from fakes.evil_gateway import INFER, WORKERS, EvilGateway, evil_gateway
from fakes.running_mesh import CLUSTER, MODEL, RunningMesh, inputs

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
X = inputs(31, rows=3)


def words(mesh: RunningMesh, gateway: str, *more: str | Path, trust: Path | None = None) -> list[str | Path]:
    identity = mesh.identity("client")
    given: Sequence[str | Path] = ("--gateway", gateway, "--trust", trust or mesh.trust, "--identity", identity)
    return ["infer.mjs", *given, "--model", MODEL, "--input", f"x={json.dumps(X.tolist())}", "--timeout", "20", *more]


def test_its_answer_and_its_receipt_are_those_of_python(mesh: RunningMesh, truth: Truth, tmp_path: Path) -> None:
    kept = tmp_path / "answer.receipt"
    done = node_client.run(words(mesh, mesh.gateway, "--receipt", kept))
    assert done.code == 0, done.err
    assert "simulated hardware" in done.err
    y = done.answer["outputs"]["y"]
    assert np.array(y["data"], np.float32).reshape(y["shape"]).tobytes() == truth(X).tobytes()
    assert done.answer["mrenclave"] == mesh.mrenclave
    proved = verify_receipt(load_receipt(kept), TrustBundle.read(mesh.trust))
    assert proved.outputs["y"].tobytes() == truth(X).tobytes()
    assert proved.inputs["x"].tobytes() == X.tobytes()
    assert kept.stat().st_mode & 0o077 == 0


def test_it_tells_what_the_worker_says_inside_the_seal(mesh: RunningMesh) -> None:
    done = node_client.run([*words(mesh, mesh.gateway), "--input", "z=[[1]]"])
    assert done.code == 1
    assert "z" in done.err
    assert "request.invalid" in done.err


def test_it_believes_no_worker_whose_measurement_is_not_pinned(mesh: RunningMesh, tmp_path: Path) -> None:
    bundle = json.loads(mesh.trust.read_text()) | {"mrenclave": ["ab" * 32]}
    other = tmp_path / "trust.json"
    other.write_text(json.dumps(bundle))
    done = node_client.run(words(mesh, mesh.gateway, trust=other))
    assert done.code == 3
    assert "measurement.unknown" in done.err


@pytest.fixture
async def evil(mesh: RunningMesh) -> AsyncIterator[EvilGateway]:
    node_client.need_node()
    async with evil_gateway(mesh.gateway, CLUSTER, mesh.identity("gateway"), mesh.identity("client")) as cheat:
        yield cheat


def flipped(message: bytes) -> bytes:
    """One bit of the sealed answer, where its ciphertext is."""
    envelope = ModelInferResponse.FromString(message)
    sealed = bytearray(envelope.raw_output_contents[0])
    sealed[-20] ^= 4
    envelope.raw_output_contents[0] = bytes(sealed)
    return envelope.SerializeToString()


def in_clear(_: bytes) -> bytes:
    answer = ModelInferResponse(model_name=MODEL, model_version="1", raw_output_contents=[bytes(16)])
    answer.outputs.add(name="y", datatype="FP32", shape=[1, 4])
    return answer.SerializeToString()


def other_key(message: bytes) -> bytes:
    """The Attestation Result of each worker, its HPKE key changed."""
    offered = ListWorkersResponse.FromString(message)
    for worker in offered.workers:
        head, payload, signature = worker.bundle.attestation_result.split(".")
        middle = len(payload) // 2
        changed = payload[:middle] + ("A" if payload[middle] != "A" else "B") + payload[middle + 1 :]
        worker.bundle.attestation_result = f"{head}.{changed}.{signature}"
    return offered.SerializeToString()


def swapped(message: bytes) -> bytes:
    offered = ListWorkersResponse.FromString(message)
    first, second = offered.workers
    first.instance, second.instance = second.instance, first.instance
    return offered.SerializeToString()


@pytest.mark.attack("G11")
@pytest.mark.attack("G12")
@pytest.mark.attack("G13")
@pytest.mark.parametrize(
    ("method", "change", "reason"),
    [
        (INFER, flipped, "seal.broken"),
        (INFER, in_clear, "seal.broken"),
        (WORKERS, other_key, "token.signature"),
        (WORKERS, swapped, "instance.other"),
    ],
    ids=["a bit of the answer", "an answer in clear", "another key", "one worker's evidence under another's name"],
)
async def test_it_refuses_what_a_cheating_gateway_sends(
    mesh: RunningMesh, evil: EvilGateway, method: str, change: Callable[[bytes], bytes], reason: str
) -> None:
    evil.response[method] = change
    done = await asyncio.to_thread(node_client.run, words(mesh, evil.address))
    assert (done.code, done.out) == (3, "")
    assert reason in done.err


CONVERSE = """
import { writeFileSync } from 'node:fs';
import { Client, tensorOf } from './lib/client.mjs';
const { gateway, trust, identity, model, asked, folder } = JSON.parse(process.argv[1]);
const client = await Client.connect(gateway, { trust, identity });
const conversation = await client.converse(model);
const answers = await Promise.all(asked.map((x) => conversation.infer({ x: tensorOf('x', x) })));
const refused = await conversation.infer({ z: tensorOf('z', [[1]]) }).catch(({ reason }) => reason);
const receipts = await conversation.end();
receipts.forEach((receipt, number) => writeFileSync(`${folder}/${number}.receipt`, receipt));
client.close();
process.stdout.write(JSON.stringify({ refused, answers: answers.map(({ y }) => y.raw.toString('hex')) }));
"""


def test_a_conversation_over_one_stream(mesh: RunningMesh, truth: Truth, tmp_path: Path) -> None:
    asked = [inputs(seed, rows=1 + seed % 3) for seed in range(40, 60)]
    given = {
        "gateway": mesh.gateway,
        "trust": str(mesh.trust),
        "identity": str(mesh.identity("client")),
        "model": MODEL,
        "asked": [x.tolist() for x in asked],
        "folder": str(tmp_path),
    }
    done = node_client.run(["--input-type=module", "--eval", CONVERSE, json.dumps(given)])
    assert done.code == 0, done.err
    assert done.answer["refused"] == "request.invalid"
    expected = [truth(x).tobytes() for x in asked]
    assert [bytes.fromhex(answer) for answer in done.answer["answers"]] == expected
    trust = TrustBundle.read(mesh.trust)
    kept = sorted(tmp_path.glob("*.receipt"), key=lambda path: int(path.stem))
    assert [verify_receipt(load_receipt(path), trust).outputs["y"].tobytes() for path in kept] == expected
