"""The auditor's side: what was decided in a mesh and why, and whether its workers are what they are said to be.

Nothing here needs the gateway, and little of it anybody's word: each line's hash is checked, and evidence is judged
anew, by the code and the trust bundle of the auditor. None of it shows a secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.api.v1.provisioner_pb2 import ModelSummary
from cloister.api.v1.verifier_pb2 import GetPolicyResponse, Revocation
from cloister.appraisal.appraise import Appraisal
from cloister.client import operator, owner
from cloister.client.audit_memory import AuditMemory
from cloister.client.bundle import TrustBundle
from cloister.client.collateral import KnownCollateral
from cloister.client.log_auditor import LogAuditor
from cloister.client.mesh_folder import MeshFolder
from cloister.client.operator import AuditLine
from cloister.client.reaching import reached
from cloister.client.trust import vouched
from cloister.ear import AttestationResult
from cloister.errors import CloisterError
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedWorker:
    """A worker that the verifier says is attested, and what this auditor finds.

    Attributes:
        instance: 32 hex digits, random for each start.
        evidence: As the verifier handed it over; `cloister evidence verify` reads its file too.
        result: The verifier's Attestation Result; None where it is not believed.
        appraisal: The auditor's own, which agrees with it; None where it is not believed.
        refusal: Why it is not believed; None where it is.
    """

    instance: str
    evidence: EvidenceBundle = field(repr=False)
    result: AttestationResult | None = None
    appraisal: Appraisal | None = None
    refusal: CloisterError | None = None


class AuditorClient:
    """An auditor's connections to verifier and provisioner; `connect` makes one.

    Args:
        verifier: Connected as this auditor.
        provisioner: Connected as this auditor.
        trust: By what evidence is judged.
    """

    def __init__(self, verifier: Peer, provisioner: Peer, trust: TrustBundle) -> None:
        self.trust = trust
        self._verifier = verifier
        self._provisioner = provisioner

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, *, verifier: str, provisioner: str, trust: TrustBundle | Path | str, identity: TlsFiles | Path | str
    ) -> AsyncIterator[AuditorClient]:
        """Connect to a mesh; use it in `async with`. Nothing is sent before the first call.

        Args:
            verifier: host:port.
            provisioner: host:port.
            trust: The trust bundle by which evidence is judged, or its file.
            identity: TLS files of an auditor of this mesh, or the folder that holds them.

        Raises:
            NotFound, InvalidRequest, NotReady: A file is missing, is not what it should be, or lies open to others.
            Unauthenticated: The identity has expired (`identity.expired`).
        """
        bundle = trust if isinstance(trust, TrustBundle) else await asyncio.to_thread(TrustBundle.read, Path(trust))
        async with (
            reached(verifier, "verifier", identity) as (verifying, _),
            reached(provisioner, "provisioner", identity) as (provisioning, _),
        ):
            yield cls(verifying, provisioning, bundle)

    @classmethod
    def of_mesh(cls, folder: Path | str) -> AbstractAsyncContextManager[AuditorClient]:
        """Connect by a mesh folder that holds an auditor's identity; as `connect`."""
        mesh = MeshFolder.read(Path(folder))
        return cls.connect(
            verifier=mesh.verifier, provisioner=mesh.provisioner, trust=mesh.trust, identity=mesh.identity("auditor")
        )

    async def workers(self) -> AsyncIterator[AuditedWorker]:
        """Everyone attested now, each judged here, by this auditor's own trust bundle.

        Raises:
            NotAllowed, Unauthenticated, Unavailable, TimeoutError: As they say. A worker that is not believed raises
                nothing: it is yielded with its `refusal`.
        """
        known = KnownCollateral()
        async for instance, evidence in operator.attested_evidence(self._verifier):
            try:
                # Both verifiers hold the interpreter for a while: not on the event loop.
                result, appraisal = await asyncio.to_thread(
                    vouched, evidence, self.trust, datetime.now(UTC), collateral=known
                )
            except CloisterError as refusal:
                yield AuditedWorker(instance=instance, evidence=evidence, refusal=refusal)
            else:
                yield AuditedWorker(instance=instance, evidence=evidence, result=result, appraisal=appraisal)

    def appraisals(self, after: int = 0) -> AsyncIterator[AuditLine]:
        """The verifier's record: every appraisal, believed or not, and why; oldest first.

        Args:
            after: Only lines after this number.

        Raises:
            LogBroken: A line does not have the hash that it is listed with.
            NotAllowed, Unauthenticated, Unavailable, TimeoutError: As they say.
        """
        return operator.appraisals(self._verifier, after)

    def releases(self, model: str = "", after: int = 0) -> AsyncIterator[AuditLine]:
        """The provisioner's record: registrations, policies, releases and refusals; oldest first.

        Args:
            model: Only what concerns this model; empty for all.
            after: Only lines after this number.

        Raises:
            LogBroken, NotAllowed, Unauthenticated, Unavailable, TimeoutError: As `appraisals`.
        """
        return operator.releases(self._provisioner, model, after)

    def record(self, memory: Path | str) -> LogAuditor:
        """The provisioner's record, to be believed for its proofs: `verify`, `show`, `follow`.

        Args:
            memory: File that keeps what was found good; the mesh folder's is `audit.json`.
        """
        return LogAuditor(self._verifier, self._provisioner, AuditMemory(Path(memory)), witness=self.trust.witness_key)

    async def models(self) -> Sequence[ModelSummary]:
        """All models, with the policies they are released by."""
        return await owner.list_models(self._provisioner)

    async def policy(self) -> GetPolicyResponse:
        """The verifier's appraisal policy that is in force, as it was signed."""
        return await operator.policy_in_force(self._verifier)

    async def revocations(self) -> list[Revocation]:
        """What is revoked now, and why; oldest first."""
        return await operator.revocations(self._verifier)
