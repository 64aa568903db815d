"""A verifier's inside over a simulated platform, and what a worker does with it: good until a test breaks one thing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral_bundle import CollateralBundle
from cloister.appraisal.policy import Policy
from cloister.appraisal.policy_document import PolicyDocument
from cloister.ear import AttestationResult, KeySet, SigningKey, check
from cloister.evidence.quoter import Quoter
from cloister.kit.audit import AuditLog
from cloister.kit.host_clock import HostClock
from cloister.kit.metrics import Metrics
from cloister.rpc.certificates import new_key, spki
from cloister.rpc.identity import PeerIdentity, TlsIdentity
from cloister.verifier.appraiser import Appraiser
from cloister.verifier.attested import AttestedWorkers, Member
from cloister.verifier.collateral import CollateralStore
from cloister.verifier.collateral_files import CollateralInFile
from cloister.verifier.collateral_memory import FileMemory
from cloister.verifier.disagreements import Disagreements
from cloister.verifier.judges import Judge, Threads
from cloister.verifier.lift_orders import LiftOrders
from cloister.verifier.mesh_ca import MeshCa
from cloister.verifier.nonces import Challenge, Nonces, Purpose
from cloister.verifier.own_evidence import OwnAttester, mesh_trust
from cloister.verifier.places import Places
from cloister.verifier.policy_desk import PolicyDesk
from cloister.verifier.policy_in_force import PolicyInForce, Signers
from cloister.verifier.revocations import RevocationFile, Revocations
from cloister.verifier.revoker import Revoker
from cloister.verifier.servicer import VerifierServicer
from cloister.verifier.signing_keys import PinnedKey
from cloister.verifier.standing import Standing
from cloister.verifier.submission import Issued, Submission
from cloister.verifier.trust_watch import TrustWatch
from cloister.verifier.turns import Turns
from cloister.verifier.witness import Witness
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.results import Clock
from fakes.shown_log import opened_witness
from fakes.sim import (
    CLUSTER,
    VERIFIER,
    VERIFIER_ENCLAVE,
    SampleEvidence,
    good_evidence,
    simulated_platform,
    simulated_quoter,
)

ENROL = f"spiffe://{CLUSTER}/enrol/main"
ENDPOINT = "127.0.0.1:9443"


def enrol_peer() -> PeerIdentity:
    """Who has no identity of its own yet."""
    return PeerIdentity(ENROL, CLUSTER, "enrol", "main", hashlib.sha256(b"enrol").digest(), 0.0)


def worker_peer(evidence: SampleEvidence) -> PeerIdentity:
    """A worker with the certificate that it got for this evidence."""
    claims = evidence.claims
    return PeerIdentity(claims.spiffe_id, CLUSTER, "worker", claims.instance, claims.tls_spki_sha256, 0.0)


def submission(challenge: Challenge, evidence: SampleEvidence, **changes: Any) -> Submission:
    """What a worker sends."""
    sent = Submission(
        challenge_id=challenge.challenge_id,
        claims=evidence.claims_bytes,
        quote=evidence.quote,
        tls_spki=spki(evidence.tls_key.public_key()),
        endpoint=ENDPOINT,
    )
    return replace(sent, **changes)


def reissued(evidence: SampleEvidence, nonce: bytes, platform: Platform, **claims: Any) -> SampleEvidence:
    """The same start of a worker, quoted for another challenge."""
    return good_evidence(
        platform=platform,
        nonce=nonce,
        instance=evidence.claims.instance,
        tls_key=evidence.tls_key,
        **{
            "hpke_suite": evidence.claims.hpke_suite,
            "hpke_public": evidence.claims.hpke_public,
            "receipt_key": evidence.claims.receipt_key,
            **claims,
        },
    )


@dataclass
class VerifierDesk:
    """Everything an appraisal needs."""

    folder: Path
    audit: AuditLog
    pki: MeshPki
    witness: Witness
    policy: Policy = field(default_factory=Policy.default)
    signers: Signers = field(default_factory=Signers)
    platform: Platform = field(default_factory=simulated_platform)
    signing_key: SigningKey = field(default_factory=SigningKey.generate)
    clock: Clock = field(default_factory=Clock)
    metrics: Metrics = field(default_factory=Metrics)
    ahead: timedelta = timedelta()
    membership: timedelta = timedelta(hours=1)
    judge: Judge | None = None
    turns: Turns = field(default_factory=lambda: Turns(16))
    lift: tuple[Collection[str], int] = ((), 1)
    with_tdx: bool = False

    def __post_init__(self) -> None:
        self.collateral_path = self.folder / "collateral.json"
        self.memory_path = self.folder / "seen.json"
        self.publish(self.platform)
        self.attested = AttestedWorkers(monotonic=self.clock)
        self.places = Places(self.clock)
        self.anchor = TrustAnchor("simulated", self.platform.root_der())
        self.restart()

    @property
    def identity(self) -> TlsIdentity:
        """The verifier's own."""
        return self.pki.identity("verifier", "one").held()

    def own_attester(self, quoter: Quoter | None = None) -> OwnAttester:
        """What attests the verifier itself."""
        identity = self.identity
        keys = PinnedKey(self.signing_key)
        return OwnAttester(
            identity.spiffe_id,
            quoter or simulated_quoter(self.platform, VERIFIER_ENCLAVE),
            trust=lambda: mesh_trust(identity, keys, self.policies.current(), self.anchor, self.witness.key),
            collateral=lambda quote: self.collateral.current(quote, self.now()).raw,
        )

    def now(self) -> datetime:
        """The verifier's clock."""
        return datetime.now(UTC) + self.ahead

    def publish(self, platform: Platform) -> None:
        """Put this platform's collateral where the verifier reads it, for enclaves, or as `with_tdx` says for both."""
        staged = self.folder / "collateral.new"
        raw = platform.collateral()
        if self.with_tdx:
            both = (raw, platform.collateral(tdx=True))
            bundle = CollateralBundle(version=1, issued_at=self.now(), collaterals=both)
            raw = bundle.signed([Ed25519PrivateKey.generate()])
        staged.write_bytes(raw)
        staged.rename(self.collateral_path)

    def restart(self) -> None:
        """All that lives in memory is new."""
        self.nonces = Nonces(ttl_s=60, monotonic=self.clock)
        self.revocations = Revocations(RevocationFile(self.folder / "revocations.json"), now=self.now)
        self.revoker = Revoker(
            self.revocations, self.attested, self.audit, orders=LiftOrders(CLUSTER, *self.lift), now=self.now
        )
        self.collateral = CollateralStore(
            self.anchor, FileMemory(self.memory_path), watched=CollateralInFile(self.collateral_path)
        )
        judge = self.judge or Threads(self.anchor)
        document = PolicyDocument(raw=b"", toml=b"", policy=self.policy)
        memory = self.folder / "policy.json"
        self.policies = PolicyInForce(document, signers=self.signers, anchor=self.anchor, memory=memory)
        self.standing = Standing(
            attested=self.attested,
            policy=self.policies.current,
            endorsed=self.collateral.current,
            judge=judge,
            expel=self.expel,
            audit=self.audit,
            now=self.now,
        )
        self.policy_desk = PolicyDesk(self.policies, self.standing, self.audit)
        self.appraiser = Appraiser(
            audience=VERIFIER,
            policy=self.policies.current,
            anchor=self.anchor,
            judge=judge,
            turns=self.turns,
            collateral=self.collateral,
            ca=MeshCa(self.pki.attested, CLUSTER),
            signing_keys=PinnedKey(self.signing_key),
            nonces=self.nonces,
            attested=self.attested,
            places=self.places,
            revocations=self.revocations,
            audit=self.audit,
            disagreements=Disagreements(self.folder / "disagreements"),
            metrics=self.metrics,
            membership=self.membership,
            clock=HostClock(self.now),
        )

    async def expel(self, member: Member, why: str) -> None:
        """Put a member out."""
        assert "no longer believed" in why
        await self.revoker.expel(member, why, by=VERIFIER)

    def trust_watch(self) -> TrustWatch:
        """What relying parties listen to."""
        keys = PinnedKey(self.signing_key)
        return TrustWatch(self.revocations, key_set=keys.key_set, own_keys=keys.keys, issuer=VERIFIER)

    def servicer(self) -> VerifierServicer:
        """The calls."""
        return VerifierServicer(
            appraiser=self.appraiser,
            nonces=self.nonces,
            attested=self.attested,
            audit=self.audit,
            signing_keys=PinnedKey(self.signing_key),
            policies=self.policies,
            policy_desk=self.policy_desk,
            revocations=self.revocations,
            revoker=self.revoker,
            trust=self.trust_watch(),
            attester=self.own_attester(),
            identity=self.identity,
            witness=self.witness,
        )

    async def challenge(
        self, key: ec.EllipticCurvePrivateKey, peer: PeerIdentity, purpose: Purpose = Purpose.MESH
    ) -> Challenge:
        """A challenge for this TLS key."""
        key_hash = hashlib.sha256(spki(key.public_key())).digest()
        return await self.nonces.issue(purpose, peer=peer.spiffe_id, tls_spki_sha256=key_hash)

    async def evidence(self, **changes: Any) -> tuple[Challenge, SampleEvidence]:
        """A challenge for a starting worker, and its good answer."""
        key = changes.pop("tls_key", None) or new_key()
        challenge = await self.challenge(key, enrol_peer())
        answer: dict[str, Any] = {"platform": self.platform, "nonce": challenge.nonce, "tls_key": key, **changes}
        return challenge, good_evidence(**answer)

    async def join(self, **changes: Any) -> tuple[SampleEvidence, Issued]:
        """A worker starts."""
        challenge, evidence = await self.evidence(**changes)
        return evidence, await self.appraiser.appraise(submission(challenge, evidence), enrol_peer())

    async def again(
        self, evidence: SampleEvidence, purpose: Purpose, peer: PeerIdentity | None = None, **claims: Any
    ) -> Issued:
        """The same worker attests once more, as a member of the mesh."""
        peer = peer or worker_peer(evidence)
        challenge = await self.challenge(evidence.tls_key, peer, purpose)
        answer = reissued(evidence, challenge.nonce, self.platform, **claims)
        return await self.appraiser.appraise(submission(challenge, answer), peer)

    def read(self, issued: Issued, audience: str) -> AttestationResult:
        """What the relying party reads."""
        keys = KeySet.from_jwks(json.dumps({"keys": [self.signing_key.jwk()]}))
        return check(
            issued.attestation_result,
            keys,
            issuer=VERIFIER,
            audience=audience,
            now=self.now(),
            max_life=timedelta(hours=1) if audience == "mesh" else timedelta(minutes=5),
        )

    def entries(self) -> list[dict[str, Any]]:
        """All records, read."""
        return [json.loads(entry.record) for entry in self.audit.records()]


@contextmanager
def verifier_desk(folder: Path, **changes: Any) -> Iterator[VerifierDesk]:
    """A desk whose record is open."""
    with AuditLog.opened(folder / "audit.db") as audit, opened_witness(folder, audit) as witness:
        yield VerifierDesk(folder, audit, MeshPki(CLUSTER), witness, **changes)
