"""Jobs through a whole mesh: sealed to an epoch that the provisioner began, kept in Redis, answered by real workers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister import Client
from cloister.client import JobTicket, save_receipt
from cloister.client.answer import Answer
from fakes.running_mesh import MODEL, RunningMesh, inputs

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="a mesh without redis-server takes no jobs")
async def test_jobs_are_answered_by_enclaves_and_proved_offline(
    mesh: RunningMesh, truth: Truth, tmp_path: Path
) -> None:
    asked = [inputs(seed) for seed in range(40)]
    async with Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as client:
        prepared = await client.jobs.prepare(MODEL, ({"x": x} for x in asked))
        assert [sent.error for sent in await client.jobs.send(prepared)] == [None] * len(asked)
        kept = [job.ticket.to_bytes() for job in prepared]
    async with Client.connect(mesh.gateway, trust=mesh.trust, identity=mesh.identity("client")) as later:
        tickets = [JobTicket.from_bytes(raw) for raw in kept]
        ends = {ticket.job_id: outcome async for ticket, outcome in later.jobs.watch(tickets)}
        await later.jobs.forget(tickets)
        assert {status.state for status in await later.jobs.state(tickets)} == {"unknown"}
    for ticket, x in zip(tickets, asked, strict=True):
        answer = ends[ticket.job_id]
        assert isinstance(answer, Answer), answer
        np.testing.assert_allclose(answer.outputs["y"], truth(x), rtol=1e-5, atol=1e-6)
        assert answer.attestation is not None
        assert answer.attestation.mrenclave == mesh.mrenclave
    proof = ends[tickets[0].job_id]
    assert isinstance(proof, Answer)
    assert proof.receipt is not None
    save_receipt(proof.receipt, tmp_path / "receipt")
    said = mesh.cli("receipt", "verify", tmp_path / "receipt", "--trust", mesh.trust)
    assert "the receipt holds" in said
