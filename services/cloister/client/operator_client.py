"""The operator's side: the mesh as it is, what workers serve, and what is still believed. None of it shows a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from cloister.api.oip.inference_pb2 import RepositoryIndexResponse
from cloister.api.v1.gateway_pb2 import GetStatusResponse
from cloister.api.v1.verifier_pb2 import ApplyPolicyResponse, LiftRevocationResponse, Revocation, RevokeResponse
from cloister.client import operator
from cloister.client.mesh_folder import MeshFolder
from cloister.client.reaching import reached
from cloister.kit.revocation import Name
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsFiles


class OperatorClient:
    """An operator's connections to gateway and verifier; `connect` makes one.

    Every call raises `NotAllowed` and `Unauthenticated` for an identity that may not, `Unavailable` and `TimeoutError`
    where nobody answers in time, and what stands with it.

    Args:
        gateway: Connected as this operator.
        verifier: Connected as this operator.
    """

    def __init__(self, gateway: Peer, verifier: Peer) -> None:
        self._gateway = gateway
        self._verifier = verifier

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, *, gateway: str, verifier: str, identity: TlsFiles | Path | str
    ) -> AsyncIterator[OperatorClient]:
        """Connect to a mesh; use it in `async with`. Nothing is sent before the first call.

        Args:
            gateway: host:port.
            verifier: host:port.
            identity: TLS files of an operator of this mesh, or the folder that holds them.

        Raises:
            NotFound, InvalidRequest, NotReady: A file is missing, is not what it should be, or lies open to others.
            Unauthenticated: The identity has expired (`identity.expired`).
        """
        async with (
            reached(gateway, "gateway", identity) as (serving, _),
            reached(verifier, "verifier", identity) as (verifying, _),
        ):
            yield cls(serving, verifying)

    @classmethod
    def of_mesh(cls, folder: Path | str) -> AbstractAsyncContextManager[OperatorClient]:
        """Connect by a mesh folder that holds an operator's identity; as `connect`."""
        mesh = MeshFolder.read(Path(folder))
        return cls.connect(gateway=mesh.gateway, verifier=mesh.verifier, identity=mesh.identity("operator"))

    async def status(self) -> GetStatusResponse:
        """The mesh as the gateway sees it: workers, models, queues, refusals."""
        return await operator.mesh_status(self._gateway)

    async def models(self) -> RepositoryIndexResponse:
        """Every version of a model that some worker serves or should serve, and why it does not."""
        return await operator.model_index(self._gateway)

    async def load(self, model: str, timeout_s: float = 300.0) -> None:
        """Have the workers load `name` or `name@version`, and wait until they have.

        Raises:
            NotReady: Some have not, or none could (`memory.full`, `model.missing`, ...).
            NotAllowed: No worker's settings let anybody do this (`model.not_loadable`).
        """
        await operator.load_model(self._gateway, model, timeout_s)

    async def unload(self, model: str, timeout_s: float = 300.0) -> None:
        """Have the workers drop `name` or `name@version` once what is under way is answered."""
        await operator.unload_model(self._gateway, model, timeout_s)

    async def apply_policy(self, policy: bytes) -> ApplyPolicyResponse:
        """Put an appraisal policy in force, and judge every member by it.

        Args:
            policy: TOML, or the envelope that as many people signed as must.

        Raises:
            InvalidRequest: It does not parse, or is older than the one in force.
            NotAllowed: Not enough of those who may have signed it.
        """
        return await operator.apply_policy(self._verifier, policy)

    async def revoke(self, name: Name, reason: str) -> RevokeResponse:
        """Take trust from a measurement, signer, platform or instance: its workers go within seconds.

        Args:
            name: What it is; `cloister.kit.revocation.Name`.
            reason: For the record.
        """
        return await operator.revoke(self._verifier, name, reason)

    async def lift(self, name: Name, reason: str, order: bytes = b"") -> LiftRevocationResponse:
        """Give trust back.

        Args:
            name: What was revoked.
            reason: For the record.
            order: Signed by as many as must, where the verifier's settings name them.
        """
        return await operator.lift(self._verifier, name, reason, order)

    async def revocations(self) -> list[Revocation]:
        """What is revoked now, and why; oldest first."""
        return await operator.revocations(self._verifier)
