"""The verifier's calls: messages to values and back, nothing else. Who may call what is in `ROLES`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from itertools import islice
from typing import Final

import grpc.aio

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.api.v1.evidence_pb2 import Evidence, EvidenceBundle
from cloister.api.v1.verifier_pb2_grpc import VerifierServicer as Base
from cloister.errors import InvalidRequest, NotAllowed
from cloister.kit.audit import AuditLog
from cloister.kit.event_stream import write_event
from cloister.kit.log import get_logger
from cloister.kit.revocation import Name, kind_of
from cloister.kit.server import ANY_ROLE, current_peer
from cloister.rpc.address import check_address
from cloister.rpc.identity import TlsIdentity, spki_sha256
from cloister.rpc.spiffe import WORKER
from cloister.verifier.appraiser import Appraiser
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.member import Change, Event, Member
from cloister.verifier.nonces import Challenges, Purpose
from cloister.verifier.own_evidence import OwnAttester
from cloister.verifier.policy_desk import PolicyDesk
from cloister.verifier.policy_in_force import PolicyInForce
from cloister.verifier.revocations import Revocations
from cloister.verifier.revoker import Revoker
from cloister.verifier.signing_keys import SigningKeys
from cloister.verifier.submission import Submission
from cloister.verifier.trust_watch import SIGN_OF_LIFE_S, TrustWatch, described
from cloister.verifier.witness import Witness
from cloister.verifier.witness_calls import shown, told

SERVICE: Final = "cloister.api.v1.Verifier"
ROLES: Final[Mapping[str, frozenset[str]]] = {
    f"/{SERVICE}/Challenge": frozenset({"enrol", WORKER}),
    f"/{SERVICE}/Appraise": frozenset({"enrol", WORKER}),
    f"/{SERVICE}/Leave": frozenset({WORKER}),
    f"/{SERVICE}/WatchAttested": frozenset({"gateway", "operator"}),
    f"/{SERVICE}/ListAppraisals": frozenset({"owner", "auditor", "operator"}),
    f"/{SERVICE}/GetKeys": ANY_ROLE,
    f"/{SERVICE}/ApplyPolicy": frozenset({"operator"}),
    f"/{SERVICE}/GetPolicy": frozenset({"owner", "auditor", "operator"}),
    f"/{SERVICE}/ListEvidence": frozenset({"owner", "auditor", "operator"}),
    f"/{SERVICE}/GetEvidence": ANY_ROLE,
    f"/{SERVICE}/Revoke": frozenset({"operator"}),
    f"/{SERVICE}/LiftRevocation": frozenset({"operator"}),
    f"/{SERVICE}/ListRevocations": frozenset({"owner", "auditor", "operator"}),
    f"/{SERVICE}/WatchTrust": frozenset({"gateway", "provisioner", "operator", WORKER}),
    f"/{SERVICE}/Witness": frozenset({"provisioner"}),
    f"/{SERVICE}/GetWitnessed": frozenset({"provisioner", "owner", "auditor", "operator"}),
}
# A worker does not end for want of news: its lease and its membership bound what it may do meanwhile.
WORKER_SIGN_OF_LIFE_S: Final = 20.0

_PURPOSES: Final[Mapping[int, Purpose]] = {
    pb.PURPOSE_MESH: Purpose.MESH,
    pb.PURPOSE_KEY_RELEASE: Purpose.KEY_RELEASE,
}
_KINDS: Final[Mapping[Change, pb.AttestedEvent.Kind]] = {
    Change.JOINED: pb.AttestedEvent.KIND_JOINED,
    Change.RENEWED: pb.AttestedEvent.KIND_RENEWED,
    Change.GONE: pb.AttestedEvent.KIND_GONE,
    Change.CURRENT: pb.AttestedEvent.KIND_CURRENT,
}
# A host name or address with a port: nothing that a dialler could take for another kind of address.
_PAGE: Final = 256

_Context = grpc.aio.ServicerContext[object, object]
_log = get_logger()


class VerifierServicer(Base):
    """Serves `cloister.api.v1.Verifier`."""

    def __init__(
        self,
        *,
        appraiser: Appraiser,
        nonces: Challenges,
        attested: AttestedWorkers,
        audit: AuditLog,
        policies: PolicyInForce,
        policy_desk: PolicyDesk,
        attester: OwnAttester,
        identity: TlsIdentity,
        signing_keys: SigningKeys,
        revocations: Revocations,
        revoker: Revoker,
        trust: TrustWatch,
        witness: Witness,
    ) -> None:
        self._appraiser = appraiser
        self._nonces = nonces
        self._attested = attested
        self._audit = audit
        self._policies = policies
        self._policy_desk = policy_desk
        self._attester = attester
        self._identity = identity
        self._signing_keys = signing_keys
        self._revocations = revocations
        self._revoker = revoker
        self._trust = trust
        self._witness = witness

    async def Challenge(self, request: pb.ChallengeRequest, context: _Context) -> pb.ChallengeResponse:
        """A nonce for one piece of evidence."""
        peer = current_peer()
        purpose = _PURPOSES.get(request.purpose)
        if purpose is None:
            raise InvalidRequest("a challenge has a purpose", reason="challenge.invalid")
        if purpose is not Purpose.MESH and peer.role != WORKER:
            raise NotAllowed("who enrols may join the mesh and nothing else")
        made = await self._nonces.issue(purpose, peer=peer.spiffe_id, tls_spki_sha256=request.tls_spki_sha256)
        return pb.ChallengeResponse(
            challenge_id=made.challenge_id,
            nonce=made.nonce,
            expires_at_ms=int((time.time() + self._nonces.ttl_s) * 1000),
        )

    async def Appraise(self, request: pb.AppraiseRequest, context: _Context) -> pb.AppraiseResponse:
        """An Attestation Result for evidence."""
        submission = Submission(
            challenge_id=request.challenge_id,
            claims=request.evidence.claims,
            quote=request.evidence.quote,
            tls_spki=request.tls_spki,
            endpoint=_endpoint(request.endpoint),
        )
        issued = await self._appraiser.appraise(submission, current_peer())
        return pb.AppraiseResponse(
            attestation_result=issued.attestation_result,
            certificate_chain=issued.certificate_chain,
            expires_at_ms=int(issued.expires_at.timestamp() * 1000),
        )

    async def Leave(self, request: pb.LeaveRequest, context: _Context) -> pb.LeaveResponse:
        """The caller is going."""
        instance = current_peer().name
        if self._attested.leave(instance):
            _log.info("worker.left", instance=instance)
        return pb.LeaveResponse()

    async def WatchAttested(  # type: ignore[override]  # the stub knows of generators; gRPC takes a writer too
        self, request: pb.WatchAttestedRequest, context: _Context
    ) -> None:
        """Everyone attested, then what changes."""
        with self._attested.watching() as events:
            async for event in events:
                await write_event(context, _event(event))

    async def ListAppraisals(self, request: pb.ListAppraisalsRequest, context: _Context) -> AsyncIterator[AuditRecord]:
        """The record, oldest first."""
        entries = self._audit.records(request.after_sequence, request.newest)
        while page := await asyncio.to_thread(_page, entries):
            for entry in page:
                yield entry

    async def GetKeys(self, request: pb.GetKeysRequest, context: _Context) -> pb.GetKeysResponse:
        """What results are signed with."""
        return pb.GetKeysResponse(
            jwks=self._signing_keys.jwks(), key_set=self._signing_keys.key_set(), witness=self._witness.key.vkey
        )

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: _Context) -> pb.GetEvidenceResponse:
        """Our own evidence."""
        made = await self._attester.evidence(request.nonce, spki_sha256(self._identity.certificate))
        return pb.GetEvidenceResponse(bundle=made.bundle, mesh_trust=made.trust.to_json())

    async def Revoke(self, request: pb.RevokeRequest, context: _Context) -> pb.RevokeResponse:
        """Something is not believed any more."""
        name = Name.read(kind_of(request.kind), request.value)
        sequence, members = await self._revoker.revoke(name, reason=request.reason, by=current_peer().spiffe_id)
        return pb.RevokeResponse(audit_sequence=sequence, members=members)

    async def LiftRevocation(self, request: pb.LiftRevocationRequest, context: _Context) -> pb.LiftRevocationResponse:
        """It is believed again."""
        name = Name.read(kind_of(request.kind), request.value)
        sequence = await self._revoker.lift(
            name, reason=request.reason, by=current_peer().spiffe_id, order=request.order
        )
        return pb.LiftRevocationResponse(audit_sequence=sequence)

    async def ListRevocations(
        self, request: pb.ListRevocationsRequest, context: _Context
    ) -> pb.ListRevocationsResponse:
        """What is revoked, and why."""
        return pb.ListRevocationsResponse(revocations=[described(each) for each in self._revocations.in_force])

    async def WatchTrust(  # type: ignore[override]  # as WatchAttested
        self, request: pb.WatchTrustRequest, context: _Context
    ) -> None:
        """What relying parties must know, and that we are there."""
        peer = current_peer()
        events = self._trust.events(
            peer,
            request.attestation_result,
            sign_of_life_s=WORKER_SIGN_OF_LIFE_S if peer.role == WORKER else SIGN_OF_LIFE_S,
        )
        async with aclosing(events):
            async for event in events:
                await write_event(context, event)

    async def Witness(self, request: pb.WitnessRequest, context: _Context) -> pb.WitnessResponse:
        """A head of the provisioner's log, countersigned."""
        return pb.WitnessResponse(cosignature=str(await self._witness.countersign(shown(request))))

    async def GetWitnessed(self, request: pb.GetWitnessedRequest, context: _Context) -> pb.GetWitnessedResponse:
        """The newest of them."""
        return told(self._witness.newest())

    async def ApplyPolicy(self, request: pb.ApplyPolicyRequest, context: _Context) -> pb.ApplyPolicyResponse:
        """A policy takes effect, on members too."""
        review = await self._policy_desk.apply(request.policy, current_peer().spiffe_id)
        return pb.ApplyPolicyResponse(
            version=review.policy.version,
            digest=review.policy.digest,
            stood=review.stood,
            fallen=[
                pb.ApplyPolicyResponse.Fallen(instance=one.instance, step=one.step, reason=one.reason)
                for one in review.fallen
            ],
            unjudged=review.unjudged,
        )

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: _Context) -> pb.GetPolicyResponse:
        """The policy in force."""
        document = self._policies.document
        policy = document.policy if document is not None else self._policies.current()
        return pb.GetPolicyResponse(
            policy_id=policy.policy_id,
            version=policy.version,
            digest=policy.digest,
            policy=document.raw if document is not None else b"",
            signers=self._policies.signed_by(document) if document is not None else (),
        )

    async def ListEvidence(
        self, request: pb.ListEvidenceRequest, context: _Context
    ) -> AsyncIterator[pb.AttestedWorker]:
        """Everyone attested now."""
        for member in self._attested.members:
            yield _worker(member)


def _page(entries: Iterator[AuditRecord]) -> list[AuditRecord]:
    return list(islice(entries, _PAGE))


def _endpoint(endpoint: str) -> str:
    """Return a host:port, or nothing where the purpose needs none; raises InvalidRequest for anything else."""
    if endpoint:
        try:
            check_address(endpoint)
        except ValueError as error:
            raise InvalidRequest(f"endpoint {error}", reason="endpoint.invalid") from error
    return endpoint


def _event(event: Event) -> pb.AttestedEvent:
    return pb.AttestedEvent(
        kind=_KINDS[event.change],
        worker=_worker(event.member) if event.member is not None else None,
        reason=event.reason,
    )


def _worker(member: Member) -> pb.AttestedWorker:
    return pb.AttestedWorker(
        instance=member.instance,
        spiffe_id=member.spiffe_id,
        endpoint=member.endpoint,
        tls_spki_sha256=member.keys.tls_spki_sha256,
        server_name=member.server_name,
        bundle=EvidenceBundle(
            evidence=Evidence(claims=member.claims, quote=member.quote),
            collateral=member.collateral,
            attestation_result=member.attestation_result,
        ),
        expires_at_ms=int(member.expires_at.timestamp() * 1000),
        simulated=member.simulated,
    )
