"""Right answers, by every way in, bit for bit those of OpenVINO in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister import Client, SyncClient
from cloister.client import AuditorClient, MeshFolder, OperatorClient, TrustBundle
from cloister.errors import InvalidRequest, NotAllowed, NotFound
from fakes.running_mesh import CLUSTER, MODEL, RunningMesh, inputs, until

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]


async def test_sealed_and_plain_answers_are_those_of_openvino(mesh: RunningMesh, truth: Truth) -> None:
    async with Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
        for seed in range(20):
            x = inputs(seed, rows=1 + seed % 5)
            sealed = await client.infer(MODEL, {"x": x})
            plain = await client.infer(MODEL, {"x": x}, sealed=False)
            assert sealed.outputs["y"].tobytes() == truth(x).tobytes()
            assert plain.outputs["y"].tobytes() == truth(x).tobytes()
            assert sealed.receipt is not None
            assert plain.receipt is None


async def test_many_over_one_stream_keep_their_order_and_use_both_workers(mesh: RunningMesh, truth: Truth) -> None:
    asked = [inputs(seed, rows=1 + seed % 7) for seed in range(300)]
    async with Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
        answers = await client.infer_many(MODEL, ({"x": x} for x in asked), concurrency=32, timing=True)
    assert [a.outputs["y"].tobytes() for a in answers] == [truth(x).tobytes() for x in asked]
    assert len({a.worker.instance for a in answers if a.worker}) == 2
    told = [answer.timing for answer in answers if answer.timing is not None]
    assert len(told) == len(asked)
    assert all(0 < timing.phases_s["compute"] < timing.total_s < timing.elapsed_s for timing in told)


def test_the_plain_python_face(mesh: RunningMesh, truth: Truth) -> None:
    with SyncClient(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
        x = inputs(1)
        assert client.infer(MODEL, {"x": x}).outputs["y"].tobytes() == truth(x).tobytes()


@pytest.mark.parametrize("sealed", [True, False])
async def test_what_does_not_fit_the_model_is_refused_by_name(mesh: RunningMesh, sealed: bool) -> None:
    async with Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
        with pytest.raises(InvalidRequest, match="x"):
            await client.infer(MODEL, {"x": np.zeros((1, 9), np.float32)}, sealed=sealed)
        with pytest.raises(InvalidRequest, match="x"):
            await client.infer(MODEL, {"x": np.zeros((1, 8), np.float64)}, sealed=sealed)
        with pytest.raises(InvalidRequest, match="wrong"):
            await client.infer(MODEL, {"wrong": np.zeros((1, 8), np.float32)}, sealed=sealed)
        with pytest.raises(NotFound):
            await client.infer("no-such-model", {"x": np.zeros((1, 8), np.float32)}, sealed=sealed)


def test_the_command_line_answers_and_proves_it(mesh: RunningMesh, truth: Truth, tmp_path: Path) -> None:
    x = inputs(5, rows=2)
    np.savez(tmp_path / "x.npz", x=x)
    receipt = tmp_path / "answer.receipt"
    kept = ("--output", tmp_path / "y.npz", "--receipt", receipt)
    shown = mesh.cli("infer", MODEL, "--input", tmp_path / "x.npz", *kept, "--timing")
    assert all(part in shown for part in ("queue", "wire", "compute", "serialise", "1 requests, 2 rows"))
    assert np.load(tmp_path / "y.npz")["y"].tobytes() == truth(x).tobytes()
    mesh.cli("receipt", "verify", receipt)

    content = bytearray(receipt.read_bytes())
    content[len(content) // 2] ^= 1
    receipt.write_bytes(content)
    mesh.cli("receipt", "verify", receipt, code=3)


def test_people_can_read_the_mesh(mesh: RunningMesh) -> None:
    assert "simulated" in mesh.cli("status", mesh.folder).lower()
    until(lambda: all(worker["counters"] for worker in mesh.serving()), "counters of both workers")
    counted = [worker["counters"] for worker in mesh.serving()]
    assert all(each["memory_bytes"] > 1 << 20 and each["models"] for each in counted)
    assert mesh.mrenclave in json.dumps(mesh.json("evidence", "show", MODEL))
    listed = mesh.json("model", "list")
    assert MODEL in json.dumps(listed)
    released = [line for line in mesh.audit() if line["event"] == "key.released"]
    assert {line["instance"] for line in released} >= {worker["instance"] for worker in mesh.serving()}


def test_the_record_is_proven_to_whoever_asks(mesh: RunningMesh, tmp_path: Path) -> None:
    memory, record = tmp_path / "audit.json", tmp_path / "record.jsonl"
    first = mesh.cli("audit", "verify", "--memory", memory, "--export", record)
    assert all(part in first for part in ("first contact", "good:", f"{CLUSTER}/verifier", "countersigned"))
    again = mesh.json("audit", "verify", "--memory", memory)
    assert again["seen_before"] <= again["size"] <= again["lines"]
    assert again["origin"] == f"{CLUSTER}/provisioner/1"
    assert mesh.json("audit", "verify", "--from", record, "--memory", memory)["good"]
    released = next(line for line in mesh.audit() if line["event"] == "key.released")
    shown = mesh.cli("audit", "show", str(released["sequence"]), "--memory", memory)
    assert all(part in shown for part in (f"Key of {MODEL}@1 released", f"{CLUSTER}/provisioner/1", "proven"))
    owner = mesh.json("audit", "verify", "--identity", mesh.identity("owner"), "--memory", tmp_path / "owner.json")
    assert 0 < owner["lines"] <= again["lines"]
    with mesh.running("audit", "follow", "--memory", memory) as follower:
        assert "good:" in follower.readline()
    head, *lines = record.read_text().splitlines()
    record.write_text("\n".join((head, *lines[1:], "")))
    assert "line.missing" in mesh.cli("audit", "verify", "--from", record, "--memory", memory, code=3)


async def test_operators_and_auditors_see_the_mesh_by_their_own_clients(mesh: RunningMesh) -> None:
    async with OperatorClient.of_mesh(mesh.folder) as operator:
        linked = {worker.instance for worker in (await operator.status()).workers if worker.linked}
        assert MODEL in {model.name for model in (await operator.models()).models}
        assert await operator.revocations() == []
        with pytest.raises(NotAllowed):
            await operator.load(MODEL)
    async with AuditorClient.of_mesh(mesh.folder) as auditor:
        judged = [worker async for worker in auditor.workers()]
        assert (await auditor.policy()).policy_id == mesh.policy_id
        assert {line.content["event"] async for line in auditor.releases(MODEL)} >= {"key.released"}
    assert {worker.instance for worker in judged if worker.appraisal is not None and worker.refusal is None} >= linked
    other = replace(TrustBundle.read(mesh.trust), mrenclave=frozenset({"00" * 32}))
    identity = mesh.identity("auditor")
    where = MeshFolder.read(mesh.folder)
    async with AuditorClient.connect(
        verifier=where.verifier, provisioner=where.provisioner, trust=other, identity=identity
    ) as strict:
        refused = [worker.refusal async for worker in strict.workers() if worker.instance in linked]
    assert {refusal.reason for refusal in refused if refusal is not None} == {"measurement.unknown"}
    assert len(refused) == len(linked)
