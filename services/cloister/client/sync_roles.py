"""A model owner's and an auditor's calls without `async`, as `sync` has a data owner's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.provisioner_pb2 import ModelSummary, ReleasePolicy, SignerRule
from cloister.api.v1.verifier_pb2 import GetPolicyResponse, Revocation
from cloister.client.auditor import AuditedWorker, AuditorClient
from cloister.client.bundle import TrustBundle
from cloister.client.log_audit import LogAudit
from cloister.client.loop_thread import PlainFace
from cloister.client.mesh_folder import MeshFolder
from cloister.client.operator import AuditLine
from cloister.client.owner import OwnerClient
from cloister.client.owner_documents import OwnerDocument
from cloister.client.release_terms import LEASE_S, TCB_STATUSES, ReleaseTerms
from cloister.kit.signer_set import SignerSet
from cloister.rpc.identity import TlsFiles
from cloister.seal.keys import ModelKey
from cloister.seal.manifest import Signed

T = TypeVar("T")


class SyncOwnerClient(PlainFace[OwnerClient]):
    """A model owner's connection to the provisioner; use it as a context manager.

    Args:
        provisioner: host:port.
        identity: The folder of an owner's identity.
        signer: The owner's signing key; None for the one in that folder.

    Raises:
        CloisterError: When the `with` block is entered: as `OwnerClient.connect`.
    """

    def __init__(self, provisioner: str, *, identity: Path | str, signer: Ed25519PrivateKey | None = None) -> None:
        super().__init__(partial(OwnerClient.connect, provisioner, identity=identity, signer=signer))

    @classmethod
    def of_mesh(cls, folder: Path | str) -> Self:
        """By a mesh folder that holds an owner's identity."""
        mesh = MeshFolder.read(Path(folder))
        return cls(mesh.provisioner, identity=mesh.identity("owner"))

    def register(self, signed: Signed, key: ModelKey, *, approval: bytes = b"") -> int:
        """Hand the provisioner a model's signed manifest and its key; as `OwnerClient.register`."""
        return self._wait(self._connected.register(signed, key, approval=approval))

    def allow(
        self,
        model: str,
        *,
        mrenclave: Sequence[str] = (),
        td_measurement: Sequence[str] = (),
        signers: Sequence[SignerRule] = (),
        tcb_statuses: Sequence[str] = TCB_STATUSES,
        simulated: bool = False,
        plain: bool = False,
        lease_s: int = LEASE_S,
        min_model_version: int | None = None,
        platforms: Sequence[str] | None = None,
        releases_per_hour: int = 0,
    ) -> tuple[ReleasePolicy, int]:
        """Replace the model's release policy; arguments, result and errors are those of `OwnerClient.allow`."""
        call = self._connected.allow(
            model,
            mrenclave=mrenclave,
            td_measurement=td_measurement,
            signers=signers,
            tcb_statuses=tcb_statuses,
            simulated=simulated,
            plain=plain,
            lease_s=lease_s,
            min_model_version=min_model_version,
            platforms=platforms,
            releases_per_hour=releases_per_hour,
        )
        return self._wait(call)

    def draft(self, model: str, terms: ReleaseTerms) -> ReleasePolicy:
        """The next policy of a model, for those who sign for it; as `OwnerClient.draft`."""
        return self._wait(self._connected.draft(model, terms))

    def signers(self, model: str) -> SignerSet:
        """Who signs for a model now; as `OwnerClient.signers`."""
        return self._wait(self._connected.signers(model))

    def apply(self, document: OwnerDocument) -> int:
        """Put a signed policy or signer set in force; as `OwnerClient.apply`."""
        return self._wait(self._connected.apply(document))

    def models(self) -> Sequence[ModelSummary]:
        """This owner's models; as `OwnerClient.models`."""
        return self._wait(self._connected.models())

    def audit(self, model: str = "", after: int = 0) -> list[AuditLine]:
        """What was done with this owner's models, oldest first; as `OwnerClient.audit`."""
        return self._wait(_all(self._connected.audit(model, after)))


class SyncAuditorClient(PlainFace[AuditorClient]):
    """An auditor's connections to verifier and provisioner; use it as a context manager.

    Args:
        verifier: host:port.
        provisioner: host:port.
        trust: The trust bundle by which evidence is judged, or its file.
        identity: TLS files of an auditor of this mesh, or the folder that holds them.

    Raises:
        CloisterError: When the `with` block is entered: as `AuditorClient.connect`.
    """

    def __init__(
        self, *, verifier: str, provisioner: str, trust: TrustBundle | Path | str, identity: TlsFiles | Path | str
    ) -> None:
        connect = AuditorClient.connect
        super().__init__(partial(connect, verifier=verifier, provisioner=provisioner, trust=trust, identity=identity))

    @classmethod
    def of_mesh(cls, folder: Path | str) -> Self:
        """By a mesh folder that holds an auditor's identity."""
        mesh = MeshFolder.read(Path(folder))
        identity = mesh.identity("auditor")
        return cls(verifier=mesh.verifier, provisioner=mesh.provisioner, trust=mesh.trust, identity=identity)

    def workers(self) -> list[AuditedWorker]:
        """Everyone attested now, each judged here; as `AuditorClient.workers`."""
        return self._wait(_all(self._connected.workers()))

    def appraisals(self, after: int = 0) -> list[AuditLine]:
        """The verifier's record, oldest first; as `AuditorClient.appraisals`."""
        return self._wait(_all(self._connected.appraisals(after)))

    def releases(self, model: str = "", after: int = 0) -> list[AuditLine]:
        """The provisioner's record, oldest first; as `AuditorClient.releases`."""
        return self._wait(_all(self._connected.releases(model, after)))

    def verify_record(self, memory: Path | str) -> LogAudit:
        """Check the provisioner's whole record; as `LogAuditor.verify`, which `AuditorClient.record` makes."""
        return self._wait(self._connected.record(memory).verify())

    def models(self) -> Sequence[ModelSummary]:
        """All models, with the policies they are released by."""
        return self._wait(self._connected.models())

    def policy(self) -> GetPolicyResponse:
        """The verifier's appraisal policy that is in force, as it was signed."""
        return self._wait(self._connected.policy())

    def revocations(self) -> list[Revocation]:
        """What is revoked now, and why; oldest first."""
        return self._wait(self._connected.revocations())


async def _all(lines: AsyncIterator[T]) -> list[T]:
    return [line async for line in lines]
