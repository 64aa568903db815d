"""What a worker is for as long as it runs: fresh keys and a fresh name, made at start and gone with the process.

These keys say who it is, and keep nothing secret for later: TLS 1.3 agrees on new keys for every connection, and a
signature gives nothing away. So they last, and receipts of all its epochs hold under one key. What is sealed *to* the
worker hangs on its HPKE keys, which do not last: see `epochs`.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.rpc.certificates import new_key, spki


@dataclass(frozen=True, slots=True)
class WorkerKeys:
    """The keys that evidence speaks for.

    Attributes:
        instance: 32 hex digits, random.
        tls: P-256.
        receipt: Signs receipts, and proofs that an Attestation Result is ours.
    """

    instance: str
    tls: EllipticCurvePrivateKey = field(repr=False)
    receipt: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def fresh(cls) -> WorkerKeys:
        """Make all of them."""
        return cls(secrets.token_hex(16), new_key(), Ed25519PrivateKey.generate())

    @property
    def tls_spki(self) -> bytes:
        """DER SubjectPublicKeyInfo of the TLS key."""
        return spki(self.tls.public_key())

    @property
    def tls_spki_sha256(self) -> bytes:
        """Its SHA-256, which the claims carry."""
        return hashlib.sha256(self.tls_spki).digest()

    @property
    def receipt_public(self) -> bytes:
        """The Ed25519 public key, 32 bytes."""
        return self.receipt.public_key().public_bytes_raw()
