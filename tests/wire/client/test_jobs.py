"""A client's jobs over mutual TLS, against a gateway that keeps them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from cloister.api.v1.gateway_pb2_grpc import add_GatewayServicer_to_server
from cloister.api.v1.jobs_pb2_grpc import add_JobsServicer_to_server
from cloister.client import Client, TrustBundle
from cloister.client.answer import Answer
from cloister.errors import NotReady
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Server
from fakes.job_desk import DeskServicer, JobDesk, ListServicer
from fakes.job_worker import Epoch, JobWorker
from fakes.pki import MeshPki
from fakes.serving import MODEL, FakeVerifier, FakeWorker

X = np.array([[1.0, 2.0]], np.float32)
SERVICES = ("cloister.api.v1.Gateway", "cloister.api.v1.Jobs")


class Rig:
    """A desk behind a server that can be stopped and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.pki = MeshPki()
        self.verifier = FakeVerifier()
        self.desk = JobDesk(JobWorker(FakeWorker(self.verifier), Epoch()))
        self.identity = self.pki.identity("client", "main").write(folder / "client")
        self.address = "127.0.0.1:0"

    @property
    def trust(self) -> TrustBundle:
        return self.verifier.trust(root_ca_pem=self.pki.roots_pem.decode())

    def client(self) -> AbstractAsyncContextManager[Client]:
        return Client.connect(self.address, trust=self.trust, identity=self.identity, timeout_s=20.0)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            lifecycle = await stack.enter_async_context(Lifecycle.running())
            identity = self.pki.identity("gateway", "main").held()
            roles = {name: {"client"} for name in SERVICES}
            server = await stack.enter_async_context(
                Server.mtls(self.address, identity, lifecycle=lifecycle, roles=roles, grace_s=0.1)
            )
            server.add(add_GatewayServicer_to_server, ListServicer(self.desk))
            server.add(add_JobsServicer_to_server, DeskServicer(self.desk))
            await server.start()
            self.address = f"127.0.0.1:{server.port}"
            yield


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_jobs_are_submitted_watched_and_opened(rig: Rig) -> None:
    async with rig.served(), rig.client() as mesh:
        ticket = await mesh.jobs.submit(MODEL, {"x": X}, key="mine")
        answer = await mesh.jobs.result(ticket)
        np.testing.assert_array_equal(answer.outputs["y"], X * 2)
        prepared = await mesh.jobs.prepare(MODEL, [{"x": X * number} for number in range(300)])
        assert [sent.error for sent in await mesh.jobs.send(prepared)] == [None] * 300
        ends = {ticket.job_id: outcome async for ticket, outcome in mesh.jobs.watch(job.ticket for job in prepared)}
        for number, job in enumerate(prepared):
            outcome = ends[job.ticket.job_id]
            assert isinstance(outcome, Answer)
            np.testing.assert_array_equal(outcome.outputs["y"], X * 2 * number)
        assert [each.state for each in await mesh.jobs.state([ticket])] == ["answered"]
        await mesh.jobs.forget([ticket])
        assert [each.state for each in await mesh.jobs.cancel([ticket])] == ["unknown"]


async def test_what_is_refused_is_told_as_it_was_raised(rig: Rig) -> None:
    async with rig.served(), rig.client() as mesh:
        prepared = await mesh.jobs.prepare(MODEL, [{"x": X}])
        rig.desk.refuse = [NotReady("this gateway takes no jobs", reason="jobs.off")] * 2
        with pytest.raises(NotReady) as raised:
            await mesh.jobs.send(prepared)
        assert raised.value.reason == "jobs.off"
        with pytest.raises(NotReady) as raised:
            await anext(mesh.jobs.watch([prepared[0].ticket]))
        assert raised.value.reason == "jobs.off"


async def test_a_gateway_that_is_started_again_is_found_by_who_watches_and_by_who_submits(rig: Rig) -> None:
    rig.desk.at_once = False
    async with AsyncExitStack() as stack:
        async with rig.served():
            mesh = await stack.enter_async_context(rig.client())
            prepared = await mesh.jobs.prepare(MODEL, [{"x": X}] * 4)
            await mesh.jobs.send(prepared[:2])
            ends = mesh.jobs.watch(job.ticket for job in prepared[:2])
            first = asyncio.ensure_future(anext(ends))
            await rig.desk.run(1)
            assert isinstance((await first)[1], Answer)
            later = asyncio.ensure_future(anext(ends))
            await asyncio.sleep(0)
        sending = asyncio.ensure_future(mesh.jobs.send(prepared))
        async with rig.served():
            assert [sent.existed for sent in await sending] == [True, True, False, False]
            await rig.desk.run()
            assert isinstance((await later)[1], Answer)
            await ends.aclose()
            await stack.aclose()
