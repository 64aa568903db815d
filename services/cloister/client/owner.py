"""The model owner's side: seal a model, register it, say who may have its key, see what was done with it.

Everything that matters is signed here with the owner's Ed25519 key; the provisioner cannot make up a model or a policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.provisioner_pb2 import (
    ListModelsRequest,
    ListModelsResponse,
    ModelSummary,
    RegisterModelRequest,
    ReleasePolicy,
    SetReleasePolicyRequest,
    SetSignersRequest,
    SignedManifest,
    SignerRule,
)
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.client.identity import signing_key
from cloister.client.mesh_folder import MeshFolder
from cloister.client.operator import AuditLine, releases
from cloister.client.owner_documents import DocumentKind, OwnerDocument, policy_bytes
from cloister.client.reaching import reached
from cloister.client.release_terms import LEASE_S, TCB_STATUSES, ReleaseTerms
from cloister.errors import InvalidRequest, NotFound
from cloister.kit.signer_set import SignerSet, follow
from cloister.rpc.channel import Peer
from cloister.seal.keys import ModelKey, Secret
from cloister.seal.manifest import DEFAULT_PRECISION, ModelManifest, Signed, sign, sign_policy
from cloister.seal.model_file import seal_model
from cloister.seal.model_stream import SeekableSource

CALL_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class SealedFiles:
    """What `seal_to` made: the sealed file, the key that opens it, and the manifest the owner signed."""

    path: Path
    manifest: ModelManifest
    signed: Signed
    key: ModelKey


def seal_to(
    path: Path,
    files: Mapping[str, Path | SeekableSource],
    *,
    name: str,
    version: int,
    signer: Ed25519PrivateKey,
    precision: str = DEFAULT_PRECISION,
    preprocessing: Mapping[str, str] = MappingProxyType({}),
    now: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SealedFiles:
    """Encrypt a model's files into one, under a fresh key, and sign its manifest.

    Args:
        path: The sealed file; must not exist.
        files: What goes in, by its name inside: `model.xml` and `model.bin` for OpenVINO. A path, or what reads like
            a file opened in binary mode.
        name: Of the model.
        version: A positive number, higher than any before.
        signer: The owner's key.
        precision: What workers are to compute in, one of `seal.manifest.PRECISIONS`.
        preprocessing: What is done to an input inside the model, in words, by the input's name; metadata repeats it.
        now: Aware UTC, for the manifest.
        progress: Told how many bytes are sealed, and how many there are.

    Raises:
        InvalidRequest: A name or a precision is not one.
        FileExistsError: `path` exists.
    """
    key = ModelKey(Secret.random())
    with path.open("xb") as out:
        try:
            sealed = seal_model(files, out, key, name=name, version=version, progress=progress)
            manifest = ModelManifest(
                name=name,
                version=version,
                digest=sealed.digest,
                size_bytes=sealed.size_bytes,
                created_at=(now or datetime.now(UTC)).replace(microsecond=0),
                files=sealed.header.files,
                precision=precision,
                preprocessing=tuple(sorted(preprocessing.items())),
            )
            signed = sign(manifest, signer)
        except BaseException:
            path.unlink()  # half a model is no model, and nobody could open one that nothing is said of
            raise
    return SealedFiles(path, manifest, signed, key)


class OwnerClient:
    """A model owner's connection to the provisioner.

    Args:
        provisioner: Connected as this owner.
        cluster: The mesh; policies signed here hold in no other.
        signer: The owner's key.
    """

    def __init__(self, provisioner: Peer, cluster: str, signer: Ed25519PrivateKey) -> None:
        self._peer = provisioner
        self._cluster = cluster
        self._stub = provisioner.stub(ProvisionerStub)
        self._signer = signer

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, provisioner: str, *, identity: Path | str, signer: Ed25519PrivateKey | None = None
    ) -> AsyncIterator[OwnerClient]:
        """Connect to a provisioner; use it in `async with`. Nothing is sent before the first call.

        Args:
            provisioner: host:port.
            identity: The folder of an owner's identity; its certificate names the mesh.
            signer: The owner's signing key; None for the one in that folder.

        Raises:
            NotFound: There is no such folder, or no key in it.
            InvalidRequest, NotReady: A file is not what it should be, or a private key lies open to others.
            Unauthenticated: The identity has expired (`identity.expired`).
        """
        key = signer if signer is not None else await asyncio.to_thread(signing_key, Path(identity))
        async with reached(provisioner, "provisioner", identity) as (peer, cluster):
            yield cls(peer, cluster, key)

    @classmethod
    def of_mesh(cls, folder: Path | str) -> AbstractAsyncContextManager[OwnerClient]:
        """Connect by a mesh folder that holds an owner's identity; as `connect`."""
        mesh = MeshFolder.read(Path(folder))
        return cls.connect(mesh.provisioner, identity=mesh.identity("owner"))

    async def register(self, signed: Signed, key: ModelKey, *, approval: bytes = b"") -> int:
        """Hand the provisioner a model's signed manifest and its key.

        Args:
            signed: The manifest, as `seal_to` made it.
            key: The key that opens the sealed model.
            approval: The manifest in an envelope that enough of the model's signer set have signed, where it has one.

        Returns:
            The number of the line in the provisioner's record.

        Raises:
            AlreadyExists: This version is registered, with other content.
            InvalidRequest: Too few of those who sign for the model have approved of it (`signature.insufficient`).
            NotAllowed, Unauthenticated, Unavailable, TimeoutError: As they say.
        """
        manifest = SignedManifest(manifest=signed.manifest, signature=signed.signature, public_key=signed.public_key)
        request = RegisterModelRequest(manifest=manifest, model_key=key.reveal(), approval=approval)
        answer = await self._stub.RegisterModel(request, timeout=CALL_S)
        return int(answer.audit_sequence)

    async def allow(
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
        """Replace the model's release policy; returns it and the number of the line in the record.

        Args:
            model: Name.
            mrenclave: Measurements of enclaves that may have the key.
            td_measurement: Measurements of TDX trust domains that may have it.
            signers: Signers whose enclaves may have it.
            tcb_statuses: DCAP statuses a platform may be in.
            simulated: Whether workers under a root that is not Intel's may have it.
            plain: Whether workers may answer requests that are not sealed.
            lease_s: Seconds until a worker must ask again.
            min_model_version: Older versions are released to nobody; it never goes down. None leaves it as it is.
            platforms: SHA-256 of the PPIDs, in hex, of machines that may have the key; None for any.
            releases_per_hour: Of all versions together, renewals included; 0 for no bound.

        Raises:
            NotFound: No model of this owner has that name.
            InvalidRequest: The policy allows nobody, or more than may be; or others sign for the model too
                (`signature.insufficient`): then `draft` it, have them sign it, and `apply` it.
            AlreadyExists: The model's floor is higher (`min_model_version.lowered`).
            NotAllowed, Unauthenticated, Unavailable, TimeoutError: As they say.
        """
        terms = ReleaseTerms(
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
        policy = await self.draft(model, terms)
        raw = policy_bytes(policy)
        if policy.signer_set:
            return policy, await self.apply(OwnerDocument(DocumentKind.POLICY, raw).signed(self._signer))
        request = SetReleasePolicyRequest(policy=raw, signature=sign_policy(raw, self._signer))
        answer = await self._stub.SetReleasePolicy(request, timeout=CALL_S)
        return policy, int(answer.audit_sequence)

    async def draft(self, model: str, terms: ReleaseTerms) -> ReleasePolicy:
        """The next policy of a model, for those who sign for it; raises as `models`."""
        known = [each for each in await self.models() if each.name == model]
        return terms.policy(model, self._cluster, known)

    async def signers(self, model: str) -> SignerSet:
        """Who signs for a model now, followed from this owner's own key.

        Raises:
            NotFound: No model of this owner has that name.
            InvalidRequest: What the provisioner shows does not lead there from this owner's key.
        """
        known = next((each for each in await self.models() if each.name == model), None)
        if known is None:
            raise NotFound("there is no such model of yours")
        key = self._signer.public_key().public_bytes_raw()
        return follow(key, known.signer_sets, model_name=model, cluster=self._cluster)

    async def apply(self, document: OwnerDocument) -> int:
        """Put a signed policy or signer set in force; returns the number of the line in the record.

        Raises:
            InvalidRequest: It is neither, or too few of those who sign for the model have (`signature.insufficient`).
            NotFound: No model of this owner has the name in it.
            AlreadyExists: Its number is not the next (`version.not_higher`), or it lowers the model's floor
                (`min_model_version.lowered`).
            NotAllowed, Unauthenticated, Unavailable, TimeoutError: As they say.
        """
        if document.kind is DocumentKind.POLICY:
            request = SetReleasePolicyRequest(policy=document.content, signature=document.envelope)
            return int((await self._stub.SetReleasePolicy(request, timeout=CALL_S)).audit_sequence)
        if document.kind is DocumentKind.SIGNER_SET:
            handed = SetSignersRequest(signer_set=document.envelope)
            return int((await self._stub.SetSigners(handed, timeout=CALL_S)).audit_sequence)
        raise InvalidRequest("a manifest is approved of with the version that it is of, when that is registered")

    async def models(self) -> Sequence[ModelSummary]:
        """This owner's models, with the policies they are released by."""
        return await list_models(self._peer)

    def audit(self, model: str = "", after: int = 0) -> AsyncIterator[AuditLine]:
        """What was done with this owner's models, oldest first."""
        return releases(self._peer, model, after)


async def list_models(provisioner: Peer) -> Sequence[ModelSummary]:
    """Models that the caller may see. Roles: owner (its own), operator and auditor (all)."""
    answer: ListModelsResponse = await provisioner.stub(ProvisionerStub).ListModels(ListModelsRequest(), timeout=CALL_S)
    return list(answer.models)
