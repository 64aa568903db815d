"""A gateway before a real worker and before one that can be held, for clients that know nothing of Cloister."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fakes.gateway_parts import A, model_state
from fakes.networks import tiny
from fakes.pki import MeshPki
from fakes.running_gateway import Rig
from fakes.serving_mesh import serving_mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["grpc", "envoy"])
async def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """`tiny` of a real worker, and `held`, which echoes, of a fake one."""
    folder = tmp_path_factory.mktemp("mesh")
    async with serving_mesh(folder, MeshPki(), {"tiny": tiny()}, front=request.param) as made:
        await made.worker(A, models=[model_state("held")])
        yield made
