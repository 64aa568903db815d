"""An answered challenge: evidence in; Attestation Result, and for the mesh a certificate, out.

The challenge is consumed first, whatever comes of it. A worker speaks for its own instance and keys only; whoever
enrols joins the mesh and gets nothing else. Every appraisal is in the record, with all detail, before its answer
leaves; a rejected caller hears one sentence. Judging, signing and writing are off the event loop, and of more requests
than can be answered at once those wait who can best afford to (`turns.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from cloister import ear
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Appraisal, Evidence, Expected
from cloister.appraisal.policy import Policy
from cloister.ear import AttestationResult
from cloister.errors import (
    ChallengeExpired,
    CloisterError,
    EvidenceRejected,
    InternalError,
    InvalidRequest,
    NotReady,
    Overloaded,
    Unavailable,
)
from cloister.kit.audit import AuditLog
from cloister.kit.host_clock import HostClock
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.rpc.certificates import load_spki
from cloister.rpc.identity import PeerIdentity
from cloister.rpc.spiffe import WORKER
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.collateral import CollateralStore, Endorsements
from cloister.verifier.disagreements import DISAGREEMENT, REASONS, Disagreements
from cloister.verifier.judges import Case, Judge
from cloister.verifier.member import Keys, Member
from cloister.verifier.mesh_ca import MeshCa
from cloister.verifier.nonces import Challenge, Challenges, Purpose
from cloister.verifier.places import Places
from cloister.verifier.results import attestation_result, claimed, facts, names
from cloister.verifier.revocations import Revocations
from cloister.verifier.signing_keys import SigningKeys
from cloister.verifier.submission import Issued, Submission
from cloister.verifier.turns import Turns

REFUSED = "the request was refused"
KEY_RELEASE_LIFE = timedelta(minutes=5)
# What can stand between an answered challenge and its result: all of it is in the record.
ACCEPTED = "evidence.accepted"
_RECORDED = (EvidenceRejected, InvalidRequest, ChallengeExpired, NotReady, Overloaded, Unavailable, InternalError)

_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Believed:
    appraisal: Appraisal
    endorsements: Endorsements

    @property
    def keys(self) -> Keys:
        claims = self.appraisal.claims
        return Keys(claims.tls_spki_sha256, claims.receipt_key, claims.hpke_suite, claims.hpke_public)


class Appraiser:
    """Appraises for one cluster.

    Args:
        audience: Our own SPIFFE id: what claims must be addressed to.
        policy: The policy in force; asked once for each appraisal.
        membership: How long a member of the mesh is believed, an hour at most.
        clock: Tells the time that evidence is held against.
    """

    def __init__(
        self,
        *,
        audience: str,
        policy: Callable[[], Policy],
        anchor: TrustAnchor,
        judge: Judge,
        turns: Turns,
        collateral: CollateralStore,
        ca: MeshCa,
        signing_keys: SigningKeys,
        nonces: Challenges,
        attested: AttestedWorkers,
        places: Places,
        revocations: Revocations,
        audit: AuditLog,
        disagreements: Disagreements,
        metrics: Metrics,
        membership: timedelta,
        clock: HostClock,
    ) -> None:
        self._audience = audience
        self._policy = policy
        self._anchor = anchor
        self._judge = judge
        self._turns = turns
        self._collateral = collateral
        self._ca = ca
        self._signing_keys = signing_keys
        self._nonces = nonces
        self._attested = attested
        self._places = places
        self._revocations = revocations
        self._audit = audit
        self._disagreements = disagreements
        self._metrics = metrics
        self._membership = membership
        self._clock = clock

    async def appraise(self, submission: Submission, peer: PeerIdentity) -> Issued:
        """Answer a challenge.

        Raises:
            ChallengeExpired: It was used, is too old, or another's; or policy or collateral changed meanwhile.
            EvidenceRejected: Anything else that speaks against it; always the same words.
            NotReady: There is no collateral to appraise with; the caller is not at fault.
            Overloaded: Too many instances are attested, or wait to be.
            Unavailable: Record or state cannot be written, or the appraisal did not come to an end; nothing was issued.
        """
        if submission.oversized:
            return await self._answered(submission, peer)  # refused at once: what waits is small
        ends_at = self._attested.ends_at(peer.name) if peer.role == WORKER else None
        async with self._turns.turn(peer.spiffe_id, ends_at=ends_at):
            return await self._answered(submission, peer)

    async def _answered(self, submission: Submission, peer: PeerIdentity) -> Issued:
        spki_sha256 = hashlib.sha256(submission.tls_spki).digest()
        purpose = None
        try:
            challenge = await self._nonces.consume(
                submission.challenge_id, peer=peer.spiffe_id, tls_spki_sha256=spki_sha256
            )
            purpose = challenge.purpose
            believed = await self._believed(submission, challenge, peer)
            self._revocations.check(names(believed.appraisal))
            instance = believed.appraisal.claims.instance
            life = self._life(purpose)
            await self._attested.pin(instance, believed.keys, life_s=life.total_seconds())
        except _RECORDED as objection:
            await self._record_rejection(objection, submission, purpose, peer)
            if isinstance(objection, EvidenceRejected | InvalidRequest):
                raise EvidenceRejected(REFUSED) from None
            raise
        issued = await self._issue(believed, submission, purpose, peer)
        await self._check_not_overtaken(believed, submission, purpose, peer)
        if purpose is Purpose.MESH:
            await self._attested.admit(self._member(believed, submission, issued), life_s=life.total_seconds())
            try:
                # While it was being kept it was no member yet, whom others judge anew.
                await self._check_not_overtaken(believed, submission, purpose, peer)
            except CloisterError:
                self._attested.revoke(instance)
                raise
            self._places.seen(believed.appraisal.ppid_sha256, submission.endpoint, life_s=life.total_seconds())
        return issued

    async def _believed(self, submission: Submission, challenge: Challenge, peer: PeerIdentity) -> _Believed:
        now = self._clock.now()
        submission.check_size()
        load_spki(submission.tls_spki)
        _may_ask(challenge, peer)
        policy = self._policy()
        case = Case(
            evidence=Evidence(raw_quote=submission.quote, claims_bytes=submission.claims),
            expect=self._expected(challenge, peer, policy),
            endorsements=await asyncio.to_thread(self._collateral.current, submission.quote, now),
            policy=policy,
            now=now,
        )
        appraisal = await self._judged(case)
        claims = appraisal.claims
        if claims.spiffe_id != f"spiffe://{self._ca.cluster}/{WORKER}/{claims.instance}":
            raise EvidenceRejected("the claimed identity is not that of the instance", step=5, reason="identity.other")
        return _Believed(appraisal, case.endorsements)

    async def _judged(self, case: Case) -> Appraisal:
        try:
            return await self._judge.judge(case)
        except CloisterError as objection:
            if objection.reason in REASONS:
                await asyncio.to_thread(self._disagreements.keep, case, objection.reason)
            raise

    async def _check_not_overtaken(
        self, believed: _Believed, submission: Submission, purpose: Purpose, peer: PeerIdentity
    ) -> None:
        """Withhold what older policy or collateral believed, and what was revoked meanwhile."""
        try:
            if believed.appraisal.policy_digest != self._policy().digest:
                raise ChallengeExpired("the appraisal policy changed; begin again", reason="policy.changed")
            if not self._collateral.holds(believed.endorsements):
                raise ChallengeExpired("newer collateral came; begin again", reason="collateral.changed")
            self._revocations.check(names(believed.appraisal))
        except (ChallengeExpired, EvidenceRejected) as objection:
            await self._record_rejection(objection, submission, purpose, peer)
            if isinstance(objection, ChallengeExpired):
                raise
            raise EvidenceRejected(REFUSED) from None

    def _expected(self, challenge: Challenge, peer: PeerIdentity, policy: Policy) -> Expected:
        member = peer.role == WORKER
        return Expected(
            nonce=challenge.nonce,
            audience=self._audience,
            cluster=self._ca.cluster,
            role=WORKER,
            tls_spki_sha256=challenge.tls_spki_sha256,
            instance=peer.name if member else None,
            spiffe_id=peer.spiffe_id if member else None,
            tee=policy.tee,
        )

    def _life(self, purpose: Purpose) -> timedelta:
        return self._membership if purpose is Purpose.MESH else KEY_RELEASE_LIFE

    async def _issue(self, believed: _Believed, submission: Submission, purpose: Purpose, peer: PeerIdentity) -> Issued:
        result = attestation_result(
            believed.appraisal, issuer=self._audience, purpose=purpose, life=self._life(purpose)
        )
        issued = await asyncio.to_thread(self._signed, result, submission.tls_spki, purpose)
        await self._audit.appended(
            ACCEPTED,
            purpose=purpose.name.lower(),
            peer=peer.spiffe_id,
            ear_id=result.ear_id,
            expires_at=result.expires_at.isoformat(),
            **facts(result),
        )
        self._clock.vouched(result.issued_at)
        self._metrics.evidence_appraised(accepted=True, simulated=self._anchor.simulated)
        return issued

    def _signed(self, result: AttestationResult, tls_spki: bytes, purpose: Purpose) -> Issued:
        chain = b""
        if purpose is Purpose.MESH:
            life = result.expires_at - result.issued_at
            chain = self._ca.certify(tls_spki, result.instance, now=result.issued_at, life=life)
        token = ear.issue(result, self._signing_keys.at(result.issued_at))
        return Issued(attestation_result=token, certificate_chain=chain, expires_at=result.expires_at)

    def _member(self, believed: _Believed, submission: Submission, issued: Issued) -> Member:
        claims = believed.appraisal.claims
        return Member(
            instance=claims.instance,
            spiffe_id=claims.spiffe_id,
            server_name=self._ca.server_name(claims.instance),
            endpoint=submission.endpoint,
            keys=believed.keys,
            claims=submission.claims,
            quote=submission.quote,
            collateral=believed.endorsements.raw,
            attestation_result=issued.attestation_result,
            expires_at=issued.expires_at,
            simulated=believed.appraisal.simulated,
        )

    async def _record_rejection(
        self, objection: CloisterError, submission: Submission, purpose: Purpose | None, peer: PeerIdentity
    ) -> None:
        simulated = self._anchor.simulated
        self._metrics.evidence_appraised(accepted=False, simulated=simulated, reason=objection.reason)
        if objection.reason == DISAGREEMENT:
            self._metrics.verifiers_disagreed()
            _log.error("verifiers.disagreed", peer=peer.spiffe_id)
        says = await asyncio.to_thread(claimed, submission.quote, submission.claims)
        await self._audit.appended(
            "evidence.rejected",
            step=objection.step if isinstance(objection, EvidenceRejected) else 0,
            reason=objection.reason,
            purpose=purpose.name.lower() if purpose is not None else None,
            peer=peer.spiffe_id,
            anchor=self._anchor.name,
            **says,
        )


def _may_ask(challenge: Challenge, peer: PeerIdentity) -> None:
    """A member speaks for its own TLS key; who is none yet may join, and nothing else."""
    if peer.role == WORKER:
        if peer.spki_sha256 != challenge.tls_spki_sha256:
            raise EvidenceRejected("a worker attests its own TLS key only", reason="peer.other_key")
    elif challenge.purpose is not Purpose.MESH:
        raise EvidenceRejected("who enrols may join the mesh and nothing else", reason="peer.not_member")
