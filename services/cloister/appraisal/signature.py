"""ECDSA over P-256 with SHA-256 and raw signatures, the only kind DCAP uses outside certificates."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from cloister.appraisal.steps import Step, rejected


def public_key(point: bytes, *, step: Step, reason: str) -> EllipticCurvePublicKey:
    """Return the key with this public point.

    Args:
        point: x and y, 64 bytes.
        step: Check on whose behalf this is done.
        reason: What to reject with.

    Raises:
        EvidenceRejected: The point is not on the curve.
    """
    try:
        return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), b"\x04" + point)
    except ValueError:
        raise rejected(step, reason, "a public key is not on P-256") from None


def check(key: EllipticCurvePublicKey, signature: bytes, message: bytes, *, step: Step, reason: str) -> None:
    """Check that `key` signed exactly `message`.

    Args:
        key: On P-256.
        signature: r and s, 64 bytes; `s` and its negative are both valid, so a signature is no identity.
        message: The signed bytes, not their digest.
        step: Check on whose behalf this is done.
        reason: What to reject with.

    Raises:
        EvidenceRejected: It did not.
    """
    if len(signature) != 64:
        raise rejected(step, reason, "a signature does not have 64 bytes")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ECDSA(SHA256()))
    except InvalidSignature:
        raise rejected(step, reason, "a signature is not by the key it is said to be by") from None
