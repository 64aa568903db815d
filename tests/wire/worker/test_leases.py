"""A worker hears what becomes of its leases, and the gateway sees it: withdrawn, changed (F13, J14)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from cloister.api.v1.verifier_pb2 import (
    REVOCATION_KIND_INSTANCE,
    REVOCATION_KIND_MEASUREMENT,
    REVOCATION_KIND_PLATFORM,
    REVOCATION_KIND_SIGNER,
    Revocation,
)
from cloister.api.v1.worker_pb2 import ModelState
from cloister.api.v1.worker_pb2_grpc import WorkerStub
from cloister.client import is_serving
from cloister.errors import EvidenceRejected, KeyRefused

WITHIN_S = 5.0


class Announced:
    """What a worker says that it serves, and does not."""

    def __init__(self, stream):
        self.stream = stream
        self.states = {}

    async def until(self, done, within_s=20.0):
        async with asyncio.timeout(within_s):
            while not done(self.ready):
                frame = await self.stream.read()
                if frame.models_changed:
                    self.states = {(state.name, state.version): state for state in frame.models}

    @property
    def ready(self):
        ready = (key for key, state in self.states.items() if state.state == ModelState.STATE_READY)
        return sorted(f"{name}@{version}" for name, version in ready)


@asynccontextmanager
async def announced(mesh, *models, serving):
    async with mesh.worker(mesh.settings(models=models)) as worker, worker.peer() as peer:
        await peer.ready(10)
        stream = peer.stub(WorkerStub).Link(timeout=60)
        heard = Announced(stream)
        await heard.until(lambda ready: ready == list(serving))
        yield heard, peer
        stream.cancel()


@pytest.mark.attack("J14")
async def test_a_withdrawn_model_goes_within_seconds_and_the_worker_serves_no_more(mesh):
    async with announced(mesh, "tiny", serving=["tiny@3"]) as (heard, peer):
        assert await is_serving(peer, 5.0)
        await mesh.provisioner.withdraw("tiny")
        await heard.until(lambda ready: not ready, within_s=WITHIN_S)
        async with asyncio.timeout(WITHIN_S):
            while await is_serving(peer, 5.0):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.mark.attack("J14")
@pytest.mark.attack("F05")
async def test_a_withdrawn_version_goes_and_the_highest_that_is_left_takes_its_place(mesh, tiny_files):
    mesh.provisioner.publish(mesh.folder / "models", "tiny", 4, tiny_files)
    async with announced(mesh, "tiny", serving=["tiny@4"]) as (heard, _):
        await mesh.provisioner.withdraw("tiny@4")
        await heard.until(lambda ready: ready == ["tiny@3"], within_s=WITHIN_S + 5)
        assert mesh.provisioner.models["tiny"][0].manifest.version == 3


async def test_a_new_version_is_served_without_waiting_for_the_lease(mesh, tiny_files):
    async with announced(mesh, "tiny", serving=["tiny@3"]) as (heard, _):
        mesh.provisioner.publish(mesh.folder / "models", "tiny", 4, tiny_files)
        await mesh.provisioner.tell_change()
        seen = []
        await heard.until(lambda ready: seen.append(ready) or ready == ["tiny@4"], within_s=WITHIN_S + 5)
        assert [] not in seen, "there was a version that answered, at any time"
        assert ["tiny@3", "tiny@4"] in seen, "the old one answers while gateways hear of the new one"


@pytest.mark.attack("F13")
async def test_a_policy_that_lets_a_worker_in_no_more_is_felt_within_seconds(mesh):
    async with announced(mesh, "tiny", serving=["tiny@3"]) as (heard, _):
        mesh.provisioner.error = KeyRefused("the request was refused")
        await mesh.provisioner.tell_change()
        await heard.until(lambda ready: not ready, within_s=WITHIN_S)


KINDS = {
    "measurement": REVOCATION_KIND_MEASUREMENT,
    "signer": REVOCATION_KIND_SIGNER,
    "platform": REVOCATION_KIND_PLATFORM,
    "instance": REVOCATION_KIND_INSTANCE,
}


@pytest.mark.attack("J14")
@pytest.mark.attack("E11")
@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_is_revoked_of_a_worker_it_ends_and_nobody_reaches_it(mesh, kind):
    async def run_until_it_ends():
        async with announced(mesh, "tiny", serving=["tiny@3"]):
            value = "c3" * (16 if kind == "instance" else 32)
            await mesh.verifier.tell(Revocation(kind=KINDS[kind], value=value))
            async with asyncio.timeout(WITHIN_S):
                await asyncio.Event().wait()

    with pytest.raises(EvidenceRejected) as ended:
        await run_until_it_ends()
    assert ended.value.reason == f"{kind}.revoked"
