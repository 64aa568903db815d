"""A gateway's HTTPS face by each engine, for each module of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from cloister.gateway import envoy_config, http_faces
from cloister.kit.https import HttpsLimits
from fakes.pki import MeshPki
from fakes.running_rest import ENGINES, RestRig, running_rest
from fakes.worker_link import FakeWorker

WORKER = "a" * 32


@pytest_asyncio.fixture(scope="package", loop_scope="package", params=ENGINES)
async def rest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestRig]:
    folder = tmp_path_factory.mktemp(f"rest-{request.param}")
    with pytest.MonkeyPatch.context() as impatient:
        impatient.setattr(envoy_config, "HEADERS_S", 1)
        impatient.setattr(envoy_config, "CLOSE_S", 0.1)
        impatient.setattr(http_faces, "RECEIVE_S", 0.5)
        impatient.setattr(http_faces, "HttpsLimits", partial(HttpsLimits, idle_s=1.0))
        async with running_rest(folder, MeshPki(), request.param, max_message_bytes=8 << 20, tenant_limit=32) as rig:
            await rig.worker(WORKER, slots=16)
            yield rig


@pytest.fixture
def worker(rest: RestRig) -> FakeWorker:
    found = rest.workers[WORKER]
    found.seen.clear()
    found.cancelled.clear()
    found.open_gate.set()
    return found
