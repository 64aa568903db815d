"""All other calls: what the Open Inference Protocol and the gateway say of servers, models and workers."""

from __future__ import annotations

import pytest

from cloister import __version__
from cloister.api.oip import inference_pb2 as oip
from cloister.api.v1.gateway_pb2 import GetStatusRequest, ListWorkersRequest
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.api.v1.model_pb2 import SignedJobEpoch, SignedManifest
from cloister.errors import NotAllowed, NotFound
from fakes.gateway_parts import A, B, model_state
from fakes.running_gateway import Rig, ask


async def test_live_and_ready(rig: Rig) -> None:
    stub = await rig.oip()
    assert (await stub.ServerLive(oip.ServerLiveRequest(), timeout=5)).live
    assert not (await stub.ServerReady(oip.ServerReadyRequest(), timeout=5)).ready
    worker = await rig.worker(A)
    assert (await stub.ServerReady(oip.ServerReadyRequest(), timeout=5)).ready
    await worker.die()
    await rig.until(lambda status: not any(worker.linked for worker in status.workers))
    assert not (await stub.ServerReady(oip.ServerReadyRequest(), timeout=5)).ready


async def test_server_metadata(rig: Rig) -> None:
    metadata = await (await rig.oip()).ServerMetadata(oip.ServerMetadataRequest(), timeout=5)
    assert (metadata.name, metadata.version) == ("cloister", __version__)
    assert "model_stream_infer" in metadata.extensions


async def test_models_of_several_workers(rig: Rig) -> None:
    await rig.worker(A, models=[model_state("tiny", "1"), model_state("other", "1")])
    await rig.worker(B, models=[model_state("tiny", "2")])
    stub = await rig.oip()

    async def ready(name: str, version: str = "") -> bool:
        return (await stub.ModelReady(oip.ModelReadyRequest(name=name, version=version), timeout=5)).ready

    assert [await ready("tiny"), await ready("tiny", "2"), await ready("other")] == [True] * 3
    assert [await ready("tiny", "3"), await ready("none"), await ready("")] == [False] * 3
    metadata = await stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny"), timeout=5)
    assert (metadata.name, list(metadata.versions), metadata.inputs[0].name) == ("tiny", ["1", "2"], "x")
    for request in (oip.ModelMetadataRequest(name="none"), oip.ModelMetadataRequest(name="tiny", version="3")):
        with pytest.raises(NotFound, match=r"^no such model$"):
            await stub.ModelMetadata(request, timeout=5)


async def test_workers_are_listed_with_what_the_verifier_said(rig: Rig) -> None:
    state = model_state("tiny", "2", allow_plain=False)
    state.manifest.CopyFrom(SignedManifest(manifest=b"exact bytes", signature=b"s" * 64, public_key=b"p" * 32))
    said = SignedJobEpoch(statement=b"no statement that a gateway would read", signature=b"s" * 64)
    state.job_epoch.CopyFrom(said)
    first = await rig.worker(A, models=[state])
    await rig.worker(B, models=[model_state("tiny", "1")])
    gateway = (await rig.peer()).stub(GatewayStub)
    listed = (await gateway.ListWorkers(ListWorkersRequest(model_name="tiny"), timeout=5)).workers
    assert [(worker.instance, worker.model_version, worker.allow_plain) for worker in listed] == [(A, "2", False)]
    assert listed[0].job_epoch == said
    assert listed[0].bundle == first.attested().bundle
    assert listed[0].model_digest == bytes(32)
    assert listed[0].manifest == state.manifest
    older = await gateway.ListWorkers(ListWorkersRequest(model_name="tiny", model_version="1"), timeout=5)
    assert [worker.instance for worker in older.workers] == [B]
    assert not older.workers[0].HasField("job_epoch")
    with pytest.raises(NotFound, match=r"^no such model$"):
        await gateway.ListWorkers(ListWorkersRequest(model_name="none"), timeout=5)


async def test_a_draining_worker_is_not_listed(rig: Rig) -> None:
    draining = await rig.worker(A)
    await rig.worker(B)
    draining.drain()
    await rig.until(lambda status: any(worker.draining or not worker.linked for worker in status.workers))
    gateway = (await rig.peer()).stub(GatewayStub)
    listed = await gateway.ListWorkers(ListWorkersRequest(model_name="tiny"), timeout=5)
    assert [worker.instance for worker in listed.workers] == [B]


async def test_status(rig: Rig) -> None:
    worker = await rig.worker(A, slots=7, models=[model_state("tiny", "1"), model_state("big", "3")])
    stub = await rig.raw()
    await ask(stub)
    with pytest.raises(NotFound):
        await ask(stub, name="none")
    status = await rig.status()
    (seen,) = status.workers
    assert (seen.instance, seen.endpoint) == (A, f"127.0.0.1:{worker.port}")
    assert (seen.linked, seen.draining, seen.simulated, seen.slots, seen.slots_used) == (True, False, False, 14, 0)
    assert list(seen.models) == ["big@3", "tiny@1"]
    assert (seen.mrenclave, seen.tcb_status) == ("", "")
    assert (status.requests_total, status.requests_failed_total, status.queued) == (2, 1, 0)
    (told,) = [each for each in status.latencies if each.model_name == "tiny"]
    assert (sum(told.counts), len(told.counts)) == (1, len(told.bounds_s) + 1)
    assert told.sum_s > 0


@pytest.mark.attack("J04")
@pytest.mark.parametrize("role", ["client", "owner", "gateway"])
async def test_status_is_for_operators_and_auditors(rig: Rig, role: str) -> None:
    auditor = (await rig.peer("auditor", "one")).stub(GatewayStub)
    assert (await auditor.GetStatus(GetStatusRequest(), timeout=5)).process == 1  # type: ignore[misc]
    gateway = (await rig.peer(role, "somebody")).stub(GatewayStub)
    with pytest.raises(NotAllowed):
        await gateway.GetStatus(GetStatusRequest(), timeout=5)


@pytest.mark.parametrize("role", ["auditor", "worker", "enrol"])
async def test_workers_are_listed_to_those_who_ask_models(rig: Rig, role: str) -> None:
    await rig.worker(A)
    gateway = (await rig.peer(role, B)).stub(GatewayStub)
    with pytest.raises(NotAllowed):
        await gateway.ListWorkers(ListWorkersRequest(model_name="tiny"), timeout=5)
