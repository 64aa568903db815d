"""The routing file: read at start, watched by each gateway, and what clients see of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloister.api.oip import inference_pb2 as oip
from cloister.api.v1.gateway_pb2 import ListWorkersRequest
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.errors import InvalidRequest, NotFound, Unavailable
from cloister.rpc.files import replace_public
from fakes.gateway_parts import A, B, model_state
from fakes.pki import MeshPki
from fakes.running_gateway import Rig, ask, running_gateway

BOTH = (model_state("tiny", "1"), model_state("tiny", "2"))


async def listed(rig: Rig, version: str = "") -> set[str]:
    gateway = (await rig.peer()).stub(GatewayStub)
    request = ListWorkersRequest(model_name="tiny", model_version=version)
    return {worker.model_version for worker in (await gateway.ListWorkers(request, timeout=5)).workers}


async def until_listed(rig: Rig, expected: str, asked: str = "") -> None:
    async with asyncio.timeout(10):
        while await listed(rig, asked) != {expected}:  # noqa: ASYNC110 - there is no event across a wire
            await asyncio.sleep(0.02)


async def test_every_gateway_goes_by_the_file_and_by_each_change_of_it(tmp_path: Path, pki: MeshPki) -> None:
    path = tmp_path / "routing.toml"
    path.write_text("[models.tiny]\ndefault = 1\nlabels = { canary = 2 }\n")
    first_folder, second_folder = tmp_path / "1", tmp_path / "2"
    for folder in (first_folder, second_folder):
        folder.mkdir()
    async with (
        running_gateway(first_folder, pki, routing=path) as first,
        running_gateway(second_folder, pki, routing=path) as second,
    ):
        for rig in (first, second):
            worker = await rig.worker(A, models=BOTH)
            await rig.worker(B, models=BOTH[:1])
            assert (await listed(rig), await listed(rig, "canary")) == ({"1"}, {"2"})
            metadata = await (await rig.oip()).ModelMetadata(oip.ModelMetadataRequest(name="tiny"), timeout=5)
            assert list(metadata.versions) == ["1", "2"]
            await ask(await rig.raw(), version="canary")
            assert worker.seen[-1].model_version == "2"
        with pytest.raises(NotFound):
            await listed(first, "stable")
        replace_public(path, b"[models.tiny]\ndefault = 2\nlabels = { stable = 1 }\n")
        for rig in (first, second):
            await until_listed(rig, "2")
            assert await listed(rig, "stable") == {"1"}
            with pytest.raises(NotFound):
                await ask(await rig.raw(), version="canary")
        replace_public(path, b"[models.tiny]\ndefault = 3\n")
        with pytest.raises(Unavailable):
            await until_listed(first, "3")
        replace_public(path, b"[models.tiny\n")  # what makes no sense changes nothing
        await asyncio.sleep(0.6)
        with pytest.raises(Unavailable):
            await listed(first)
        replace_public(path, b"")
        async with asyncio.timeout(10):
            while await known(second) != {"1"}:  # noqa: ASYNC110 - all workers have it
                await asyncio.sleep(0.02)


async def known(rig: Rig) -> set[str]:
    try:
        return await listed(rig)
    except Unavailable:
        return set()


async def test_a_gateway_does_not_start_with_a_file_that_makes_no_sense(tmp_path: Path, pki: MeshPki) -> None:
    path = tmp_path / "routing.toml"
    path.write_text("[models.tiny]\ndefault = 'two'\n")
    with pytest.raises(InvalidRequest, match="default"):
        async with running_gateway(tmp_path, pki, routing=path):
            pass


async def test_a_request_sealed_to_a_version_that_is_gone_may_be_sealed_again(rig: Rig) -> None:
    """Its client may have left the version open; one that has not hears, when it asks who serves it, that none does."""
    await rig.worker(A, models=BOTH[1:])
    stub = await rig.raw()
    with pytest.raises(Unavailable) as raised:
        await ask(stub, version="1", workers=[A])
    assert raised.value.reason == "workers.gone"
    for wrong in ({"version": "stable", "workers": [A]}, {"version": "1"}, {"name": "none", "workers": [A]}):
        with pytest.raises(NotFound):
            await ask(stub, **wrong)
    with pytest.raises(NotFound):
        await listed(rig, "1")
