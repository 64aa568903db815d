"""The verifier's own evidence: that this code, in this enclave, holds this TLS key and stands for this mesh.

Its claims carry the digest of the mesh's root CA, the verifier's keys, its policy, its anchor and the key that it
witnesses with (`evidence/mesh_trust.py`), so a client that believes the evidence believes those. Each piece is made for
one nonce and never again; one quote is made at a time, and few may wait for theirs, because quotes cost the platform
more than asking costs a stranger.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple

from cloister.api.v1.evidence_pb2 import Evidence, EvidenceBundle
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.ear import KeySet
from cloister.errors import InvalidRequest, Overloaded
from cloister.evidence.binding import VERIFIER, Claims, encode, report_data
from cloister.evidence.mesh_trust import MeshTrust
from cloister.evidence.quoter import Quoter
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import SpiffeId
from cloister.tlog.cosignature import WitnessKey
from cloister.verifier.signing_keys import SigningKeys

NONCE_BYTES: Final = 32
MAX_WAITING: Final = 16
QUOTE_S: Final = 20.0


def mesh_trust(
    identity: TlsIdentity, keys: SigningKeys, policy: Policy, anchor: TrustAnchor, witness: WitnessKey
) -> MeshTrust:
    """What a verifier with this identity, these keys, this policy, this anchor and this witness's key stands for."""
    jwks, signers = keys.jwks(), keys.signers
    return MeshTrust(
        cluster=identity.spiffe_id.cluster,
        verifier_id=str(identity.spiffe_id),
        root_ca_pem=identity.trust_roots.decode(),
        jwks=jwks,
        thumbprints=KeySet.from_jwks(jwks).thumbprints,
        policy_id=policy.policy_id,
        policy_version=policy.version,
        policy_digest=policy.digest,
        anchor_root_der=anchor.root_der,
        key_signers=signers.keys if signers is not None else frozenset(),
        key_threshold=signers.threshold if signers is not None else 1,
        key_set=keys.key_set(),
        witness=witness.vkey,
    )


class OwnEvidence(NamedTuple):
    """Evidence, the collateral to judge it by, and what it vouches for."""

    bundle: EvidenceBundle
    trust: MeshTrust


class OwnAttester:
    """Attests the verifier to whoever asks.

    Args:
        spiffe_id: Ours.
        quoter: Makes the quotes; outside an enclave it says that there are none.
        trust: What we stand for at this moment.
        collateral: Collateral to judge a quote by; blocking.
    """

    def __init__(
        self,
        spiffe_id: SpiffeId,
        quoter: Quoter,
        *,
        trust: Callable[[], MeshTrust],
        collateral: Callable[[bytes], bytes],
    ) -> None:
        self.trust = trust
        self._spiffe_id = spiffe_id
        self._quoter = quoter
        self._collateral = collateral
        self._instance = secrets.token_hex(16)
        self._one = asyncio.Lock()
        self._waiting = 0

    async def evidence(self, nonce: bytes, tls_spki_sha256: bytes) -> OwnEvidence:
        """Evidence for one challenge.

        Args:
            nonce: The asker's, 32 bytes.
            tls_spki_sha256: Of the key that the asker's connection is made with.

        Raises:
            InvalidRequest: The nonce is none.
            NotReady: This verifier runs in no enclave, or has no collateral.
            Overloaded: Too many are waiting for a quote.
            TimeoutError: The platform makes none in time.
        """
        if len(nonce) != NONCE_BYTES:
            raise InvalidRequest(f"a nonce is {NONCE_BYTES} random bytes", reason="nonce.invalid")
        if self._waiting >= MAX_WAITING:
            raise Overloaded("too many wait for a quote; try again in a moment")
        self._waiting += 1
        try:
            async with asyncio.timeout(QUOTE_S), self._one:
                trust = self.trust()
                claims = self._claims(nonce, tls_spki_sha256, trust)
                quote = await self._quoter.quote(report_data(claims))
        finally:
            self._waiting -= 1
        collateral = await asyncio.to_thread(self._collateral, quote)
        bundle = EvidenceBundle(evidence=Evidence(claims=claims, quote=quote), collateral=collateral)
        return OwnEvidence(bundle, trust)

    def _claims(self, nonce: bytes, tls_spki_sha256: bytes, trust: MeshTrust) -> bytes:
        return encode(
            Claims(
                tls_spki_sha256=tls_spki_sha256,
                nonce=nonce,
                role=VERIFIER,
                spiffe_id=str(self._spiffe_id),
                cluster=self._spiffe_id.cluster,
                audience=str(self._spiffe_id),
                config_digest=trust.digest(),
                instance=self._instance,
            )
        )
