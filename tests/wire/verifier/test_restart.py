"""A verifier on one machine that is killed and starts again (attacks C10, D10)."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.ear import SigningKey
from cloister.errors import ChallengeExpired, EvidenceRejected
from cloister.rpc.channel import Peer
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.programs import program, written
from fakes.running_services import CALL_S, WireWorker, verifier_settings


async def started(settings: Path) -> tuple[asyncio.subprocess.Process, int]:
    """A verifier that answers, and its port."""
    process = await asyncio.create_subprocess_exec(
        *program("verifier", settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONASYNCIODEBUG": ""},
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while True:
            event = json.loads(await process.stdout.readline())
            if event["event"] == "server.listening":
                return process, int(event["port"])


@pytest.mark.attack("D10")
async def test_a_verifier_that_is_killed_voids_its_challenges_and_knows_its_members_again(
    tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> None:
    path = written(tmp_path, verifier_settings(tmp_path, pki, platform, signing_key))
    worker, late = WireWorker(pki, platform), WireWorker(pki, platform)
    process, port = await started(path)
    async with peer_at(port, pki, "enrol") as enrol:
        await worker.appraised(enrol)
        outstanding = late.answer(await late.challenge(enrol.stub(VerifierStub), pb.PURPOSE_MESH))
    process.kill()
    await process.communicate()
    process, port = await started(path)
    try:
        async with peer_at(port, pki, "enrol") as enrol:
            with pytest.raises(ChallengeExpired):
                await stub_of(enrol).Appraise(outstanding, timeout=CALL_S)
            with pytest.raises(EvidenceRejected):
                await WireWorker(pki, platform, instance=worker.instance).appraised(enrol)
        async with peer_at(port, pki, "gateway") as gateway:
            watched = aiter(stub_of(gateway).WatchAttested(pb.WatchAttestedRequest(), timeout=CALL_S))
            assert (await anext(watched)).worker.instance == worker.instance
    finally:
        process.kill()
        await process.communicate()


def peer_at(port: int, pki: MeshPki, role: str) -> Peer:
    return Peer(f"127.0.0.1:{port}", pki.identity(role, "main").held(), f"verifier.{pki.cluster}")


def stub_of(peer: Peer) -> Any:
    return peer.stub(VerifierStub)
