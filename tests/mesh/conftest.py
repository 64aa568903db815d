"""One mesh for all tests of this folder that leave it as they found it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from cloister import Client
from fakes.enclave_mesh import mesh_class
from fakes.evil_gateway import EvilGateway, evil_gateway
from fakes.running_mesh import CLUSTER, CONFIG, MODEL, RunningMesh, probe


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """Two simulated workers that serve `probe`, to sealed requests and to plain ones; in enclaves if asked."""
    running = mesh_class()(tmp_path_factory.mktemp("mesh") / "mesh")
    running.found()
    sealed = running.seal(probe())
    with running.up(workers=2, https=True):
        running.cli("model", "publish", sealed)
        running.allow("--allow-simulated", "--allow-plain")
        running.until_serving(2)
        assert MODEL in running.serving()[0]["models"][0]
        yield running


@pytest.fixture(scope="session")
def truth() -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What OpenVINO answers in this process."""
    compiled = ov.Core().compile_model(probe(), "CPU", CONFIG)

    def answer(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(compiled(x)[0])

    return answer


@pytest.fixture
async def evil(mesh: RunningMesh) -> AsyncIterator[EvilGateway]:
    """A gateway in front of the true one, honest until told otherwise."""
    gateway, client = mesh.identity("gateway"), mesh.identity("client")
    async with evil_gateway(mesh.gateway, CLUSTER, gateway, client) as cheat:
        yield cheat


@pytest.fixture
async def client(mesh: RunningMesh, evil: EvilGateway) -> AsyncIterator[Client]:
    """A client of the evil gateway."""
    async with Client.connect(evil.address, trust=mesh.trust, identity=mesh.identity("client")) as connected:
        yield connected
