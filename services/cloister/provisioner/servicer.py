"""The provisioner's calls: messages to values and back, nothing else. Who may call what is in `ROLES`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Final

import grpc.aio

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerServicer as Base
from cloister.errors import InvalidRequest
from cloister.kit.event_stream import write_event
from cloister.kit.server import current_peer
from cloister.kit.withdrawal import Withdrawn
from cloister.provisioner.leasing.leases import Going, Leases
from cloister.provisioner.leasing.watch import LeaseWatch
from cloister.provisioner.leasing.withdrawals import Withdrawal, Withdrawals
from cloister.provisioner.models.registry import Registry
from cloister.provisioner.models.rotation import Rotation
from cloister.provisioner.models.stored import StoredModel, StoredPolicy
from cloister.provisioner.releases.nonces import NONCE_BYTES, Nonces
from cloister.provisioner.releases.release import Releaser, ReleaseRequest
from cloister.provisioner.vaults.threads import VaultThreads
from cloister.provisioner.witnesses.log_desk import LogDesk
from cloister.provisioner.witnesses.resuming import Asked, Resuming
from cloister.provisioner.witnesses.witnessed import Witnessed
from cloister.seal.keys import Secret
from cloister.seal.names import check_model

SERVICE: Final = "cloister.api.v1.Provisioner"
RESUME: Final = f"/{SERVICE}/Resume"
ROLES: Final[Mapping[str, set[str]]] = {
    f"/{SERVICE}/RegisterModel": {"owner"},
    f"/{SERVICE}/SetReleasePolicy": {"owner"},
    f"/{SERVICE}/SetSigners": {"owner"},
    f"/{SERVICE}/ListModels": {"owner", "operator", "auditor"},
    f"/{SERVICE}/ChallengeRelease": {"worker"},
    f"/{SERVICE}/ReleaseKey": {"worker"},
    f"/{SERVICE}/WatchLeases": {"worker"},
    f"/{SERVICE}/Withdraw": {"owner", "operator"},
    f"/{SERVICE}/LiftWithdrawal": {"owner", "operator"},
    f"/{SERVICE}/ListWithdrawals": {"owner", "operator", "auditor"},
    f"/{SERVICE}/ListAudit": {"owner", "auditor"},
    f"/{SERVICE}/RotateRoot": {"operator"},
    f"/{SERVICE}/GetVaultStatus": {"operator", "auditor"},
    RESUME: {"operator"},
    f"/{SERVICE}/GetCheckpoint": {"owner", "auditor", "operator"},
    f"/{SERVICE}/ProveInclusion": {"owner", "auditor", "operator"},
    f"/{SERVICE}/ProveConsistency": {"owner", "auditor", "operator"},
}
_SIGNATURE_BYTES = 64

_Context = grpc.aio.ServicerContext[object, object]


class ProvisionerServicer(Base):
    """Serves `cloister.api.v1.Provisioner`."""

    def __init__(
        self,
        *,
        releaser: Releaser,
        registry: Registry,
        nonces: Nonces,
        leases: Leases,
        lease_watch: LeaseWatch,
        withdrawals: Withdrawals,
        witnessed: Witnessed,
        log_desk: LogDesk,
        resuming: Resuming,
        rotation: Rotation,
        threads: VaultThreads,
    ) -> None:
        self._releaser = releaser
        self._registry = registry
        self._nonces = nonces
        self._leases = leases
        self._lease_watch = lease_watch
        self._withdrawals = withdrawals
        self._witnessed = witnessed
        self._log_desk = log_desk
        self._resuming = resuming
        self._rotation = rotation
        self._threads = threads

    async def RegisterModel(self, request: pb.RegisterModelRequest, context: _Context) -> pb.RegisterModelResponse:
        """Keep a model's manifest and key."""
        sequence = await self._threads.run(
            self._registry.register,
            current_peer().spiffe_id,
            request.manifest.manifest,
            request.manifest.signature,
            request.manifest.public_key,
            Secret(request.model_key),
            request.approval,
        )
        await self._witnessed.witnessed(sequence)
        return pb.RegisterModelResponse(audit_sequence=sequence)

    async def SetReleasePolicy(
        self, request: pb.SetReleasePolicyRequest, context: _Context
    ) -> pb.SetReleasePolicyResponse:
        """Say who may have the key."""
        sequence = await asyncio.to_thread(
            self._registry.set_policy, current_peer().spiffe_id, request.policy, request.signature
        )
        await self._witnessed.witnessed(sequence)
        return pb.SetReleasePolicyResponse(audit_sequence=sequence)

    async def SetSigners(self, request: pb.SetSignersRequest, context: _Context) -> pb.SetSignersResponse:
        """Say who signs for a model from now on."""
        sequence = await asyncio.to_thread(self._registry.set_signers, current_peer().spiffe_id, request.signer_set)
        await self._witnessed.witnessed(sequence)
        return pb.SetSignersResponse(audit_sequence=sequence)

    async def ListModels(self, request: pb.ListModelsRequest, context: _Context) -> pb.ListModelsResponse:
        """The caller's models, or all of them for who oversees the mesh."""
        owner = _owner_or_all()
        found = await asyncio.to_thread(self._registry.listing, owner)
        going = await asyncio.to_thread(self._leases.going)
        withdrawn = {each.what: each for each in await asyncio.to_thread(self._withdrawals.listing, owner)}
        held = await asyncio.to_thread(self._registry.held)
        models = [_summary(*each, going, withdrawn, held.get(each[0].name, 0)) for each in found]
        return pb.ListModelsResponse(models=models)

    async def ChallengeRelease(
        self, request: pb.ChallengeReleaseRequest, context: _Context
    ) -> pb.ChallengeReleaseResponse:
        """A nonce for one proof of possession."""
        peer = current_peer()
        nonce = self._nonces.issue(peer=peer.spiffe_id, tls_spki_sha256=peer.spki_sha256)
        return pb.ChallengeReleaseResponse(nonce=nonce, expires_at_ms=int((time.time() + self._nonces.ttl_s) * 1000))

    async def ReleaseKey(self, request: pb.ReleaseKeyRequest, context: _Context) -> pb.ReleaseKeyResponse:
        """A key, sealed to the attested worker that asks for it."""
        check_model(request.model_name, request.model_version or 1)
        if len(request.nonce) != NONCE_BYTES or len(request.proof) != _SIGNATURE_BYTES:
            raise InvalidRequest(f"nonce and proof are {NONCE_BYTES} and {_SIGNATURE_BYTES} bytes")
        asked = ReleaseRequest(
            model_name=request.model_name,
            model_version=request.model_version,
            attestation_result=request.attestation_result,
            nonce=request.nonce,
            proof=request.proof,
        )
        released = await self._releaser.release(asked, current_peer())
        self._witnessed.check()  # nobody else has begun to write while this waited for the disk
        return pb.ReleaseKeyResponse(
            manifest=_manifest(released.model), lease_id=released.lease_id, sealed_grant=released.sealed_grant
        )

    async def WatchLeases(  # type: ignore[override]  # the stub knows of generators; gRPC takes a writer too
        self, request: pb.WatchLeasesRequest, context: _Context
    ) -> None:
        """What becomes of the caller's leases, and that we are there."""
        events = self._lease_watch.events(current_peer().name, request.lease_ids)
        async with aclosing(events):
            async for event in events:
                await write_event(context, event)

    async def Withdraw(self, request: pb.WithdrawRequest, context: _Context) -> pb.WithdrawResponse:
        """A model, or a version of it, is released and served no more."""
        what = Withdrawn.of(request.model_name, request.model_version)
        sequence, went = await asyncio.to_thread(
            self._withdrawals.withdraw,
            _owner_or_all(),
            what,
            reason=request.reason,
            by=current_peer().spiffe_id,
        )
        await self._witnessed.witnessed(sequence)
        return pb.WithdrawResponse(audit_sequence=sequence, leases=went.workers, leases_until_ms=went.until_ms)

    async def LiftWithdrawal(self, request: pb.LiftWithdrawalRequest, context: _Context) -> pb.LiftWithdrawalResponse:
        """It is given back."""
        sequence = await asyncio.to_thread(
            self._withdrawals.lift,
            _owner_or_all(),
            Withdrawn.of(request.model_name, request.model_version),
            reason=request.reason,
            by=current_peer().spiffe_id,
            order=request.order,
        )
        await self._witnessed.witnessed(sequence)
        return pb.LiftWithdrawalResponse(audit_sequence=sequence)

    async def ListWithdrawals(
        self, request: pb.ListWithdrawalsRequest, context: _Context
    ) -> pb.ListWithdrawalsResponse:
        """What is withdrawn, and why."""
        found = await asyncio.to_thread(self._withdrawals.listing, _owner_or_all())
        return pb.ListWithdrawalsResponse(withdrawals=[_described(each) for each in found])

    async def ListAudit(self, request: pb.ListAuditRequest, context: _Context) -> AsyncIterator[AuditRecord]:
        """The record: the caller's models, or all of it for an auditor."""
        pages = self._registry.audit(
            _owner_or_all(), model_name=request.model_name, after=request.after_sequence, newest=request.newest
        )
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            for entry in page:
                yield entry

    async def RotateRoot(self, request: pb.RotateRootRequest, context: _Context) -> pb.RotateRootResponse:
        """Begin to wrap all under another root key."""
        begun = await self._threads.run(self._rotation.begin, current_peer().spiffe_id)
        self._rotation.wanted.set()
        await self._witnessed.witnessed(begun.sequence)
        return pb.RotateRootResponse(to=begun.to, secrets=begun.secrets, audit_sequence=begun.sequence)

    async def GetVaultStatus(self, request: pb.GetVaultStatusRequest, context: _Context) -> pb.GetVaultStatusResponse:
        """Root keys by name, and how much lies under each."""
        found = await asyncio.to_thread(self._rotation.status)
        return pb.GetVaultStatusResponse(root_keys=[pb.RootKey(**asdict(each)) for each in found])

    async def Resume(self, request: pb.ResumeRequest, context: _Context) -> pb.ResumeResponse:
        """Go on without what was lost."""
        asked = Asked(request.have_size, request.should_size, request.reason, operator=current_peer().spiffe_id)
        outcome = await self._resuming.resume(asked)
        return pb.ResumeResponse(audit_sequence=outcome.sequence, generation=outcome.generation)

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, context: _Context) -> pb.GetCheckpointResponse:
        """The head of the record."""
        checkpoint, log_key = await asyncio.to_thread(self._log_desk.checkpoint)
        return pb.GetCheckpointResponse(checkpoint=checkpoint, log_key=log_key)

    async def ProveInclusion(self, request: pb.ProveInclusionRequest, context: _Context) -> pb.ProveInclusionResponse:
        """That a line is in it."""
        proof = await asyncio.to_thread(self._log_desk.inclusion, request.sequence, request.size)
        return pb.ProveInclusionResponse(proof=proof)

    async def ProveConsistency(
        self, request: pb.ProveConsistencyRequest, context: _Context
    ) -> pb.ProveConsistencyResponse:
        """That it has only grown."""
        proof = await asyncio.to_thread(self._log_desk.consistency, request.old_size, request.new_size)
        return pb.ProveConsistencyResponse(proof=proof)


def _owner_or_all() -> str | None:
    peer = current_peer()
    return peer.spiffe_id if peer.role == "owner" else None


def _manifest(model: StoredModel) -> pb.SignedManifest:
    return pb.SignedManifest(manifest=model.manifest, signature=model.signature, public_key=model.owner.key)


def _described(withdrawal: Withdrawal) -> pb.Withdrawal:
    return pb.Withdrawal(
        model_name=withdrawal.what.name,
        model_version=withdrawal.what.version,
        sequence=withdrawal.sequence,
        withdrawn_at_ms=withdrawal.withdrawn_at_ms,
        by=withdrawal.by,
        reason=withdrawal.reason,
    )


def _summary(
    model: StoredModel,
    policy: StoredPolicy | None,
    leases: Mapping[tuple[str, int], Going],
    withdrawn: Mapping[Withdrawn, Withdrawal],
    held_since: int,
) -> pb.ModelSummary:
    going = leases.get((model.name, model.version), Going())
    withdrawal = withdrawn.get(Withdrawn(model.name)) or withdrawn.get(Withdrawn(model.name, model.version))
    return pb.ModelSummary(
        name=model.name,
        version=model.version,
        owner=model.owner.spiffe_id,
        manifest=_manifest(model),
        policy=pb.ReleasePolicy.FromString(policy.policy) if policy is not None else None,
        signer_sets=model.signer_sets,
        signed_policy=pb.SignedReleasePolicy(policy=policy.policy, signature=policy.signature)
        if policy is not None
        else None,
        leases=going.workers,
        leases_until_ms=going.until_ms,
        withdrawal=_described(withdrawal) if withdrawal is not None else None,
        held_since=held_since,
    )
