"""Whatever the network does, a call ends in a right answer or a clear error, in time, and the next one is good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister import Client
from cloister.errors import CloisterError
from fakes.evil_network import (
    EvilNetwork,
    Plan,
    Towards,
    altering,
    cutting,
    dripping,
    evil_network,
    exchanging,
    holding,
    honest,
    repeating,
)
from fakes.running_mesh import MODEL, RunningMesh, inputs

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
X = inputs(41)
TIMEOUT_S, PATIENT_S, FAR_TOO_LONG_S = 1.5, 30.0, 90.0


@pytest.fixture
async def network(mesh: RunningMesh) -> AsyncIterator[EvilNetwork]:
    async with evil_network(mesh.gateway) as between:
        yield between


@pytest.fixture
async def far_client(mesh: RunningMesh, network: EvilNetwork) -> AsyncIterator[Client]:
    async with Client.connect(network.address, trust=mesh.trust, identity=mesh.identity("client")) as client:
        yield client


PLANS: dict[str, Callable[[Towards], Plan]] = {
    "cut": cutting,
    "cut later": lambda way: cutting(way, 2),
    "cut within a record": lambda way: cutting(way, keep_bytes=9),
    "held": holding,
    "repeated": repeating,
    "exchanged": exchanging,
    "altered": altering,
    "dripped": dripping,
}


@pytest.mark.attack("G11")
@pytest.mark.parametrize("towards", Towards, ids=lambda way: way.value)
@pytest.mark.parametrize("plan", PLANS)
async def test_a_call_ends_in_a_right_answer_or_a_clear_error(
    network: EvilNetwork, far_client: Client, truth: Truth, plan: str, towards: Towards
) -> None:
    async with asyncio.timeout(FAR_TOO_LONG_S):
        await far_client.infer(MODEL, {"x": X})
        network.follow(PLANS[plan](towards))
        try:
            timeout_s = PATIENT_S if plan == "dripped" else TIMEOUT_S
            answer = await far_client.infer(MODEL, {"x": X}, timeout_s=timeout_s)
        except (CloisterError, TimeoutError):
            assert plan != "dripped"
        else:
            assert answer.outputs["y"].tobytes() == truth(X).tobytes()
            assert plan != "held"
        assert network.touched or plan == "cut later"  # an answer may come in one record
        network.follow(honest)
        if plan == "held":
            return  # a connection that says nothing is found out by HTTP/2's pings, later than a test has time
        again = await far_client.infer(MODEL, {"x": X})
        assert again.outputs["y"].tobytes() == truth(X).tobytes()


@pytest.mark.attack("G11")
async def test_a_stream_that_is_cut_goes_on_as_calls(network: EvilNetwork, far_client: Client, truth: Truth) -> None:
    async with asyncio.timeout(FAR_TOO_LONG_S), far_client.stream() as streaming:
        await streaming.infer(MODEL, {"x": X})
        network.follow(cutting(Towards.CLIENT))
        with pytest.raises((CloisterError, TimeoutError)):
            await streaming.infer(MODEL, {"x": X}, timeout_s=TIMEOUT_S)
        network.follow(honest)
        assert (await streaming.infer(MODEL, {"x": X})).outputs["y"].tobytes() == truth(X).tobytes()


@pytest.mark.attack("G16")
async def test_a_connection_that_is_played_again_is_no_connection(
    network: EvilNetwork, far_client: Client, mesh: RunningMesh
) -> None:
    await far_client.infer(MODEL, {"x": X})
    before = mesh.json("status", mesh.folder)["requests"]["total"]
    async with asyncio.timeout(FAR_TOO_LONG_S):
        said = await network.replayed(bytes(network.recorded[0]))
    assert len(said) < 16_384  # a handshake's part at most
    assert mesh.json("status", mesh.folder)["requests"]["total"] == before
