"""The model repository extension: who may see and change which models are served, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from cloister.api.oip import inference_pb2 as oip
from cloister.api.v1.worker_pb2 import ModelOrder, ModelState
from cloister.errors import (
    CloisterError,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotReady,
    Unavailable,
)
from fakes.gateway_parts import A, B, model_state
from fakes.running_gateway import Rig

FULL = ModelState(name="big", version="2", state=ModelState.STATE_UNAVAILABLE, reason="memory.full: no room")


async def index(rig: Rig, role: str = "client", *, ready: bool = False) -> list[tuple[str, str, str, str]]:
    stub = await rig.oip(role)
    answer = await stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=ready), timeout=5)
    return [(model.name, model.version, model.state, model.reason) for model in answer.models]


async def load(rig: Rig, name: str, role: str = "operator", **parameters: Any) -> None:
    request = oip.RepositoryModelLoadRequest(model_name=name)
    for key, value in parameters.items():
        request.parameters[key].string_param = value
    await (await rig.oip(role)).RepositoryModelLoad(request, timeout=5)


async def unload(rig: Rig, name: str, role: str = "operator") -> None:
    request = oip.RepositoryModelUnloadRequest(model_name=name)
    request.parameters["unload_dependents"].bool_param = False
    await (await rig.oip(role)).RepositoryModelUnload(request, timeout=5)


async def test_the_index_tells_every_version_and_why_it_is_not_served(rig: Rig) -> None:
    loading = ModelState(name="next", state=ModelState.STATE_LOADING)
    await rig.worker(A, models=[model_state("tiny", "10"), model_state("tiny", "9"), model_state("big", "2")])
    await rig.worker(B, models=[model_state("tiny", "10"), FULL, loading])
    expected = [
        ("big", "2", "READY", "1 of 2 workers: memory.full: no room"),
        ("next", "", "LOADING", ""),
        ("tiny", "9", "READY", ""),
        ("tiny", "10", "READY", ""),
    ]
    for role in ("client", "owner", "operator"):
        assert await index(rig, role) == expected
    assert await index(rig, ready=True) == [each for each in expected if each[2] == "READY"]
    with pytest.raises(InvalidRequest):
        await (await rig.oip()).RepositoryIndex(oip.RepositoryIndexRequest(repository_name="x"), timeout=5)


@pytest.mark.attack("J14")
async def test_a_model_that_should_be_served_and_may_not_be_is_unavailable_and_one_that_is_unknown_is_not_found(
    rig: Rig,
) -> None:
    refused = ModelState(name="gone", state=ModelState.STATE_UNAVAILABLE, reason="lease.withdrawn: by its owner")
    await rig.worker(A, models=[model_state("tiny", "1"), refused, FULL])
    stub = await rig.oip()

    async def asked(name: str, version: str = "") -> CloisterError:
        with pytest.raises(CloisterError) as raised:
            await stub.ModelInfer(oip.ModelInferRequest(model_name=name, model_version=version), timeout=5)
        assert not (await stub.ModelReady(oip.ModelReadyRequest(name=name, version=version), timeout=5)).ready
        return raised.value

    for name, version in (("gone", ""), ("big", "2"), ("big", "")):
        error = await asked(name, version)
        assert (type(error), error.reason) == (Unavailable, "model.unavailable")
    for name, version in (("other", ""), ("big", "3"), ("tiny", "2")):
        assert type(await asked(name, version)) is NotFound


async def test_an_operator_loads_and_unloads_on_all_workers(rig: Rig) -> None:
    workers = [await rig.worker(A), await rig.worker(B)]
    await load(rig, "tiny@2")
    assert [each[:3] for each in await index(rig)] == [("tiny", "1", "READY"), ("tiny", "2", "READY")]
    await unload(rig, "tiny@1")
    await load(rig, "other")
    assert [each[:2] for each in await index(rig)] == [("other", "1"), ("tiny", "2")]
    for worker in workers:
        seen = [(order.kind, order.model_name, order.model_version) for order in worker.orders]
        assert seen == [
            (ModelOrder.KIND_LOAD, "tiny", "2"),
            (ModelOrder.KIND_UNLOAD, "tiny", "1"),
            (ModelOrder.KIND_LOAD, "other", ""),
        ]
    with pytest.raises(NotFound):
        await unload(rig, "tiny@1")


@pytest.mark.parametrize("role", ["client", "owner"])
async def test_nobody_but_an_operator_loads_or_unloads(rig: Rig, role: str) -> None:
    worker = await rig.worker(A)
    for call in (load, unload):
        with pytest.raises(NotAllowed):
            await call(rig, "tiny", role)
    assert worker.orders == []


@pytest.mark.parametrize("parameter", ["config", "file:1/model.onnx", "unload_dependents", "x" * 200])
async def test_no_configuration_or_file_comes_past_the_owner(rig: Rig, parameter: str) -> None:
    worker = await rig.worker(A)
    with pytest.raises(InvalidRequest, match="is not known here") as raised:
        await load(rig, "tiny@2", **{parameter: "{}"})
    assert raised.value.reason == "parameter.unknown"
    assert worker.orders == []


@pytest.mark.parametrize("name", ["", "Tiny", "tiny@", "tiny@0", "tiny@newest:2", "tiny@1@2", "../tiny"])
async def test_what_is_no_model_is_ordered_of_nobody(rig: Rig, name: str) -> None:
    worker = await rig.worker(A)
    for call in (load, unload):
        with pytest.raises(InvalidRequest):
            await call(rig, name)
    assert worker.orders == []


@pytest.mark.parametrize(
    "error", [NotReady("full", reason="memory.full"), NotAllowed("no", reason="model.not_loadable")]
)
async def test_an_order_that_nobody_obeys_says_why(rig: Rig, error: CloisterError) -> None:
    with pytest.raises(Unavailable):
        await load(rig, "tiny@2")
    for instance in (A, B):
        (await rig.worker(instance)).refusal = error
    with pytest.raises(type(error)) as raised:
        await load(rig, "tiny@2")
    assert raised.value.reason == error.reason


async def test_an_order_that_some_obey_says_how_many(rig: Rig) -> None:
    first, second = await rig.worker(A), await rig.worker(B)
    first.refusal = NotReady("big needs 3 MiB more", reason="memory.full")
    with pytest.raises(NotReady, match=r"1 of 2 workers did load tiny@2; .* big needs 3 MiB") as raised:
        await load(rig, "tiny@2")
    assert raised.value.reason == "model.partly"
    first.refusal = NotAllowed("never", reason="model.not_loadable")  # it was not meant
    await load(rig, "tiny@3")
    assert len(second.orders) == 2


async def test_a_worker_that_dies_has_not_obeyed(rig: Rig) -> None:
    worker = await rig.worker(A)
    worker._obey = lambda order, outbox: worker.cut()  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await load(rig, "tiny@2")
