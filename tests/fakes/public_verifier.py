"""A verifier that serves HTTPS, and a client's view of it that is wholly good until a test breaks one thing."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cloister.api.v1.evidence_pb2 import Evidence, EvidenceBundle
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.appraise import Appraisal
from cloister.appraisal.policy import Policy
from cloister.cli.ports import free_ports
from cloister.client.verifier_site import Offered
from cloister.client.verifier_trust import believe_verifier
from cloister.ear import SigningKey
from cloister.evidence.mesh_trust import MeshTrust, root_ders
from cloister.evidence.quoter import Quoter
from cloister.rpc.certificates import new_key, spki
from cloister.verifier.settings import Settings
from cloister_simulator.platform import Platform
from fakes.pki import CLUSTER, MeshPki
from fakes.running_services import VERIFIER_NAME, Running, running_verifier
from fakes.sim import VERIFIER_ENCLAVE, SampleEvidence, good_evidence, simulated_platform, simulated_quoter

MRENCLAVE = VERIFIER_ENCLAVE.mrenclave.hex()
VERIFIER_ID = f"spiffe://{CLUSTER}/verifier/{VERIFIER_NAME}"


@dataclass(frozen=True)
class PublicVerifier:
    """One that answers over HTTPS."""

    running: Running
    address: str
    platform: Platform

    @property
    def anchor(self) -> TrustAnchor:
        """By which its evidence is to be judged."""
        return TrustAnchor("simulated", self.platform.root_der())

    @property
    def fingerprint(self) -> str:
        """Of the mesh's root CA."""
        (der,) = root_ders(self.running.pki.roots_pem.decode())
        return sha256(der).hexdigest()


@asynccontextmanager
async def public_verifier(
    settings: Settings, pki: MeshPki, platform: Platform, quoter: Quoter | None = None
) -> AsyncIterator[PublicVerifier]:
    """A verifier in a simulated enclave, unless another quoter is given."""
    (port,) = free_ports(1, first=20_000 + secrets.randbelow(20_000))
    address = f"127.0.0.1:{port}"
    quoter = quoter or simulated_quoter(platform, VERIFIER_ENCLAVE)
    async with running_verifier(replace(settings, https_listen=address), pki, quoter) as running:
        yield PublicVerifier(running, address, platform)


@dataclass
class VerifierVisit:
    """What a client heard from a verifier. Change a part, then `judge`: evidence is made of the parts as they are."""

    platform: Platform
    pki: MeshPki
    trust: MeshTrust
    claimed: dict[str, Any]
    nonce: bytes
    spki_sha256: bytes
    mrenclave: tuple[str, ...] = (MRENCLAVE,)
    policy: Policy = field(default_factory=Policy.default)
    anchor: TrustAnchor | None = None

    def evidence(self) -> SampleEvidence:
        """What the verifier's enclave says."""
        claims: dict[str, Any] = {
            "role": "verifier",
            "spiffe_id": VERIFIER_ID,
            "audience": VERIFIER_ID,
            "hpke_suite": "",
            "hpke_public": b"",
            "receipt_key": b"",
            "tls_spki_sha256": self.spki_sha256,
            "config_digest": self.trust.digest(),
            "nonce": self.nonce,
        }
        return good_evidence(platform=self.platform, enclave=VERIFIER_ENCLAVE, **{**claims, **self.claimed})

    def judge(self, evidence: SampleEvidence | None = None, **changes: Any) -> Appraisal:
        """What the client makes of it; `changes` are of what it was offered."""
        made = evidence or self.evidence()
        offered = Offered(
            nonce=self.nonce,
            bundle=EvidenceBundle(
                evidence=Evidence(claims=made.claims_bytes, quote=made.quote), collateral=made.collateral
            ),
            trust=self.trust,
            tls_spki_sha256=self.spki_sha256,
        )
        anchor = self.anchor or TrustAnchor("simulated", self.platform.root_der())
        return believe_verifier(replace(offered, **changes), self.mrenclave, self.policy, anchor, datetime.now(UTC))


def verifier_visit() -> VerifierVisit:
    """A good one."""
    platform, pki, key = simulated_platform(), MeshPki(), SigningKey.generate()
    return VerifierVisit(
        platform=platform,
        pki=pki,
        trust=sample_trust(platform, pki, key),
        claimed={},
        nonce=secrets.token_bytes(32),
        spki_sha256=sha256(spki(new_key().public_key())).digest(),
    )


def sample_trust(platform: Platform, pki: MeshPki, key: SigningKey) -> MeshTrust:
    """What the verifier of this mesh stands for."""
    return MeshTrust(
        cluster=CLUSTER,
        verifier_id=VERIFIER_ID,
        root_ca_pem=pki.roots_pem.decode(),
        jwks=jwks(key),
        thumbprints=frozenset({key.kid}),
        policy_id="default",
        policy_version=0,
        policy_digest=Policy.default().digest,
        anchor_root_der=platform.root_der(),
    )


def jwks(*keys: SigningKey) -> str:
    """A key set."""
    return json.dumps({"keys": [key.jwk() for key in keys]})
