"""A simulated platform for tests, and evidence from it that is wholly valid until a test breaks one thing.

```python
sim = simulated_platform()
sim.tcb_status = "OutOfDate"            # any field of cloister_simulator.recipe
good = good_evidence(platform=sim, nonce=nonce)
```
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache

import dcap_qvl
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister.evidence.binding import Claims, encode, report_data
from cloister.seal.hpke import KeyPair
from cloister_simulator.measurement import Measurement
from cloister_simulator.platform import Platform
from cloister_simulator.quoter import SimulatedQuoter
from cloister_simulator.recipe import label_digest
from cloister_simulator.trust_domain import TrustDomain

CLUSTER = "demo.cloister.internal"
VERIFIER = f"spiffe://{CLUSTER}/verifier/one"
ENCLAVE = Measurement(mrenclave=label_digest("an enclave"))
VERIFIER_ENCLAVE = Measurement(mrenclave=label_digest("a verifier"), isvprodid=2)


@cache
def _platform() -> Platform:
    return Platform.generate(datetime.now(UTC))


def simulated_platform(now: datetime | None = None) -> Platform:
    """The platform of this test process, as a copy that the test may break: every copy has the same keys and root.

    Args:
        now: When its collateral is fresh; the present if not given.
    """
    platform = _platform().copy()
    platform.reissue(datetime.now(UTC) if now is None else now)
    return platform


def simulated_quoter(platform: Platform | None = None, enclave: Measurement = ENCLAVE) -> SimulatedQuoter:
    """A Quoter for a worker in a test."""
    return SimulatedQuoter(platform or simulated_platform(), enclave)


@dataclass(frozen=True, kw_only=True)
class SampleEvidence:
    """Evidence, what is needed to judge it, and the private keys it speaks for."""

    platform: Platform
    claims: Claims
    claims_bytes: bytes
    quote: bytes
    collateral: bytes
    root_der: bytes
    tls_key: ec.EllipticCurvePrivateKey
    receipt_key: Ed25519PrivateKey
    hpke: KeyPair


def good_evidence(
    *,
    platform: Platform | None = None,
    enclave: Measurement = ENCLAVE,
    domain: TrustDomain | None = None,
    nonce: bytes | None = None,
    cluster: str = CLUSTER,
    role: str = "worker",
    audience: str = VERIFIER,
    instance: str | None = None,
    hpke_suite: str = "xwing",
    config_digest: bytes = bytes(32),
    tls_key: ec.EllipticCurvePrivateKey | None = None,
    **claims_changes: object,
) -> SampleEvidence:
    """Evidence of an attester that has just started, quoted by `platform` as it is now.

    Args:
        platform: Who quotes; a fresh copy of the process's platform if not given.
        enclave: What is quoted.
        domain: A trust domain that is quoted instead; then the collateral is that for TDX.
        nonce: The verifier's challenge; random if not given.
        cluster: Trust domain.
        role: Role in the claims and the SPIFFE id.
        audience: SPIFFE id of the verifier.
        instance: 32 hex digits; random if not given.
        hpke_suite: `xwing` or `x25519`; empty, with the keys, for a verifier.
        config_digest: 32 bytes.
        tls_key: The serving key; new if not given.
        claims_changes: Any other field of `Claims`, replaced before the quote is made.
    """
    sim = platform or simulated_platform()
    instance = instance or secrets.token_hex(16)
    tls_key = tls_key or ec.generate_private_key(ec.SECP256R1())
    receipt_key = Ed25519PrivateKey.generate()
    hpke = KeyPair.generate(hpke_suite or "x25519")
    spki = tls_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    claims = Claims(
        tls_spki_sha256=hashlib.sha256(spki).digest(),
        nonce=secrets.token_bytes(32) if nonce is None else nonce,
        hpke_suite=hpke_suite,
        hpke_public=hpke.public,
        receipt_key=receipt_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
        role=role,
        spiffe_id=f"spiffe://{cluster}/{role}/{instance}",
        cluster=cluster,
        audience=audience,
        config_digest=config_digest,
        instance=instance,
    )
    claims = replace(claims, **claims_changes)  # type: ignore[arg-type]  # a test names the fields
    claims_bytes = encode(claims)
    bound = report_data(claims_bytes)
    return SampleEvidence(
        platform=sim,
        claims=claims,
        claims_bytes=claims_bytes,
        quote=sim.quote(bound, **asdict(enclave)) if domain is None else sim.td_quote(bound, domain),
        collateral=sim.collateral(tdx=domain is not None),
        root_der=sim.root_der(),
        tls_key=tls_key,
        receipt_key=receipt_key,
        hpke=hpke,
    )


def library_verdict(
    platform: Platform, *, quote: bytes | None = None, collateral: bytes | None = None, now: datetime | None = None
) -> tuple[str, list[str]]:
    """What dcap-qvl, which knows nothing of us, says of the platform: TCB status and advisories.

    Raises:
        ValueError: It rejects; the message is its own.
    """
    moment = datetime.now(UTC) if now is None else now
    report = dcap_qvl.verify_with_root_ca(
        platform.quote(bytes(64)) if quote is None else quote,
        dcap_qvl.QuoteCollateralV3.from_json((platform.collateral() if collateral is None else collateral).decode()),
        platform.root_der(),
        int(moment.timestamp()),
    )
    return report.status, report.advisory_ids
