"""A mesh for a bridge: a desk of jobs, a worker that doubles, and a gateway that says what its model takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from cloister.api.oip.inference_pb2 import ModelMetadataRequest, ModelMetadataResponse
from cloister.api.oip.inference_pb2_grpc import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server
from cloister.api.v1.gateway_pb2_grpc import add_GatewayServicer_to_server
from cloister.api.v1.jobs_pb2_grpc import add_JobsServicer_to_server
from cloister.errors import NotFound
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Server
from fakes.job_desk import DeskGateway, DeskServicer, JobDesk, ListServicer
from fakes.job_worker import Epoch, JobWorker
from fakes.pki import MeshPki
from fakes.serving import MODEL, FakeVerifier, FakeWorker
from fakes.sim import CLUSTER


async def eventually(check: Callable[[], Any], within_s: float = 60.0) -> None:
    """Wait until this is so."""
    async with asyncio.timeout(within_s):
        while not check():
            await asyncio.sleep(0.01)


class ZooGateway(DeskGateway):
    """A gateway without a wire.

    Attributes:
        shape: Of input and output.
        refuse: Raised by the next questions for metadata or answers, in order.
    """

    def __init__(self, desk: JobDesk) -> None:
        super().__init__(desk)
        self.shape = [-1, 2]
        self.refuse: list[Exception] = []

    async def ModelMetadata(self, request: ModelMetadataRequest, timeout: float) -> ModelMetadataResponse:  # noqa: ASYNC109
        return metadata(request, self.shape)

    async def ModelInfer(self, request: Any, timeout: float, **options: Any) -> Any:  # noqa: ASYNC109
        if self.refuse:
            raise self.refuse.pop(0)
        return await super().ModelInfer(request, timeout, **options)


def metadata(request: ModelMetadataRequest, shape: list[int]) -> ModelMetadataResponse:
    """What the model takes and gives."""
    if request.name != MODEL:
        raise NotFound("no such model")
    answer = ModelMetadataResponse(name=MODEL, versions=["1"])
    answer.inputs.add(name="x", datatype="FP32", shape=shape)
    answer.outputs.add(name="y", datatype="FP32", shape=shape)
    return answer


class _Models(GRPCInferenceServiceServicer):
    async def ModelMetadata(self, request: Any, context: Any) -> ModelMetadataResponse:
        return metadata(request, [-1, 2])


class ZooMesh:
    """The same behind a server, with a folder by which the `cloister` command finds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.desk = JobDesk(JobWorker(FakeWorker(verifier := FakeVerifier()), Epoch()))
        self._pki = MeshPki()
        (folder / "identities").mkdir(parents=True)
        files = self._pki.identity("client", "main").write(folder / "identities/client/main")
        files.private_key.rename(files.private_key.with_name("private_key.pem"))
        files.trust_roots.rename(files.trust_roots.with_name("trust_roots.pem"))
        trust = verifier.trust(root_ca_pem=self._pki.roots_pem.decode())
        (folder / "trust.json").write_bytes(trust.to_json())

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        services = ("cloister.api.v1.Gateway", "cloister.api.v1.Jobs", "inference.GRPCInferenceService")
        async with AsyncExitStack() as stack:
            lifecycle = await stack.enter_async_context(Lifecycle.running())
            identity = self._pki.identity("gateway", "main").held()
            roles = {name: {"client"} for name in services}
            server = await stack.enter_async_context(
                Server.mtls("127.0.0.1:0", identity, lifecycle=lifecycle, roles=roles, grace_s=0.1)
            )
            server.add(add_GatewayServicer_to_server, ListServicer(self.desk))
            server.add(add_JobsServicer_to_server, DeskServicer(self.desk))
            server.add(add_GRPCInferenceServiceServicer_to_server, _Models())
            await server.start()
            address = f"127.0.0.1:{server.port}"
            (self.folder / "mesh.toml").write_text(
                f'cluster = "{CLUSTER}"\nsimulated = true\n[addresses]\ngateway = "{address}"\n'
                f'verifier = "{address}"\nprovisioner = "{address}"\n'
            )
            yield
