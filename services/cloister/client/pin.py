"""Pin a verifier: ask it, judge it, and have a trust bundle."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple

from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.appraise import Appraisal
from cloister.appraisal.policy import Policy
from cloister.client.bundle import TrustBundle
from cloister.client.verifier_site import offered_by, trust_of, trust_said_by
from cloister.client.verifier_trust import attested_bundle, believe_verifier, check_fingerprint, fingerprint_bundle
from cloister.errors import EvidenceRejected
from cloister.evidence.mesh_trust import root_ders

TIMEOUT_S: Final = 30.0
_ROTATED: Final = "claims.config_digest_mismatched"


class AttestedPin(NamedTuple):
    """A trust bundle, and the appraisal that it rests on."""

    bundle: TrustBundle
    appraisal: Appraisal


def utc_now() -> datetime:
    """The present, aware."""
    return datetime.now(UTC)


async def pin_by_evidence(
    address: str,
    *,
    mrenclave: Collection[str],
    policy_toml: bytes | None = None,
    fingerprints: Collection[str] = (),
    anchor: TrustAnchor = INTEL_SGX,
    timeout_s: float = TIMEOUT_S,
    now: Callable[[], datetime] = utc_now,
) -> AttestedPin:
    """Believe a verifier by its own evidence, or not at all.

    Args:
        address: host:port of its HTTPS listener.
        mrenclave: Measurements, in hex, of builds of the verifier that the caller trusts; may be empty where the policy
            has reference values.
        policy_toml: Appraisal policy for its platform and code; the default policy if not given.
        fingerprints: SHA-256 of the root CA's DER, in hex, where the caller knows whose mesh it should be.
        anchor: What its quote must lead back to; Intel's root unless it is meant to be a simulated one.
        timeout_s: For each request.
        now: Aware UTC.

    Raises:
        EvidenceRejected: It is not believed; `reason` says why.
        NotReady: It runs in no enclave (`enclave.absent`), or has no collateral.
        InvalidRequest: The address is none, or what came does not parse.
        Unavailable: It does not answer.
    """
    policy = Policy.default() if policy_toml is None else Policy.from_toml(policy_toml)

    async def once() -> AttestedPin:
        offered = await offered_by(address, secrets.token_bytes(32), timeout_s=timeout_s)
        appraisal = believe_verifier(offered, mrenclave, policy, anchor, now())
        return AttestedPin(attested_bundle(offered.trust, appraisal, fingerprints), appraisal)

    try:
        return await once()
    except EvidenceRejected as error:
        if error.reason != _ROTATED:
            raise
    # Keys or policy may have changed between the two requests; that does not happen twice.
    return await once()


async def pin_by_fingerprint(
    address: str,
    fingerprints: Collection[str],
    *,
    anchor: TrustAnchor = INTEL_SGX,
    timeout_s: float = TIMEOUT_S,
    now: Callable[[], datetime] = utc_now,
) -> TrustBundle:
    """Believe whoever has a verifier's certificate under a root CA that the caller names; nothing about code is proven.

    Args:
        address: host:port of its HTTPS listener.
        fingerprints: SHA-256 of the root CA's DER, in hex; more than one while the root is being replaced.
        anchor: By which root the verifier must judge workers.
        timeout_s: For each request.
        now: Aware UTC.

    Raises:
        EvidenceRejected: The root CA is another, or does not vouch for who answers.
        InvalidRequest: The address is none, or what came does not parse.
        Unavailable: It does not answer.
    """
    said = await trust_said_by(address, timeout_s=timeout_s)
    root_ca_pem = check_fingerprint(said, fingerprints)
    trust = await trust_of(address, root_ca_pem, said.cluster, timeout_s=timeout_s)
    check_fingerprint(trust, fingerprints)
    return fingerprint_bundle(trust, root_ca_pem, anchor, now())


async def root_fingerprints(address: str, *, timeout_s: float = TIMEOUT_S) -> list[str]:
    """SHA-256, in hex, of the root CA that a verifier shows: for a person to compare with what its operator says."""
    said = await trust_said_by(address, timeout_s=timeout_s)
    return [sha256(der).hexdigest() for der in root_ders(said.root_ca_pem)]
