"""Documents that people sign: the Dead Simple Signing Envelope (DSSE v1.0.2) with Ed25519, k of n.

An appraisal policy and a collateral bundle are files that travel by any road; what makes one believable is that enough
of the people who may decide about it signed exactly these bytes for exactly this purpose (`payload_type`). `keyid` is
the signer's public key in hex: a hint for people, never a reason to believe. The payload is returned only once the
signatures hold. Pure.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cloister.errors import InvalidRequest

MAX_ENVELOPE_BYTES: Final = 8 << 20
MAX_SIGNATURES: Final = 64


def sign(payload: bytes, payload_type: str, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Return an envelope, as JSON, of `payload` signed by each of `keys`."""
    return _written(payload, payload_type, {_name(key): key.sign(_pae(payload, payload_type)) for key in keys})


def countersigned(envelope: bytes, payload_type: str, key: Ed25519PrivateKey, *, most: int = MAX_SIGNATURES) -> bytes:
    """Return the envelope with one more signature, of `most` that there may be; read what it holds first (`payload`).

    Raises:
        InvalidRequest: Not an envelope of this type, or it has that many already (`signature.malformed`).
    """
    content, signatures = _read(envelope, payload_type, most)
    signatures[_name(key)] = key.sign(_pae(content, payload_type))
    if len(signatures) > most:
        raise _malformed(f"with one more it would have more than {most} signatures")
    return _written(content, payload_type, signatures)


def payload(envelope: bytes, payload_type: str, *, most: int = MAX_SIGNATURES) -> bytes:
    """Return what an envelope holds, believed by nobody yet: for whoever is about to sign it, or to show it.

    Raises:
        InvalidRequest: Not an envelope of this type (`signature.malformed`).
    """
    return _read(envelope, payload_type, most)[0]


def signers(envelope: bytes, payload_type: str, *, most: int = MAX_SIGNATURES) -> frozenset[str]:
    """Return the public keys, in hex, whose signatures in the envelope hold, trusted or not.

    Raises:
        InvalidRequest: Not an envelope of this type (`signature.malformed`).
    """
    content, signatures = _read(envelope, payload_type, most)
    signed = _pae(content, payload_type)
    return frozenset(name for name, signature in signatures.items() if _holds(name, signature, signed))


def verified(
    envelope: bytes, payload_type: str, trusted: Collection[str], *, threshold: int = 1, most: int = MAX_SIGNATURES
) -> bytes:
    """Return the payload of an envelope that enough of the trusted keys have signed.

    Args:
        envelope: JSON, at most 8 MiB.
        payload_type: Media type that it must be of; it is part of what was signed.
        trusted: Ed25519 public keys, 64 lower-case hex digits each.
        threshold: How many of them must have signed.
        most: Signatures that it may have; each costs whoever reads it.

    Raises:
        InvalidRequest: Not an envelope of this type (`signature.malformed`), or too few of the trusted keys have
            signed these bytes (`signature.insufficient`).
    """
    if not 1 <= threshold <= len(set(trusted)):
        raise InvalidRequest("a threshold is at least one, and at most the number of trusted keys")
    found = signers(envelope, payload_type, most=most) & frozenset(trusted)
    if len(found) < threshold:
        raise InvalidRequest(
            f"{len(found)} of the keys that may sign this have signed it, and {threshold} must",
            reason="signature.insufficient",
        )
    return payload(envelope, payload_type, most=most)


def _pae(content: bytes, payload_type: str) -> bytes:
    """The pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(content), content)


def _name(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def _holds(name: str, signature: bytes, signed: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(name)).verify(signature, signed)
    except (ValueError, InvalidSignature):
        return False
    return True


def _written(content: bytes, payload_type: str, signatures: Mapping[str, bytes]) -> bytes:
    rows = [{"keyid": name, "sig": b64encode(signature).decode()} for name, signature in sorted(signatures.items())]
    members = {"payload": b64encode(content).decode(), "payloadType": payload_type, "signatures": rows}
    return json.dumps(members, indent=2).encode() + b"\n"


def _read(envelope: bytes, payload_type: str, most: int) -> tuple[bytes, dict[str, bytes]]:
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise _malformed("it is longer than 8 MiB")
    try:
        members = json.loads(envelope, object_pairs_hook=_distinct)
        if not isinstance(members, dict) or members.keys() != {"payload", "payloadType", "signatures"}:
            raise ValueError("its members are not payload, payloadType and signatures")
        if members["payloadType"] != payload_type:
            raise ValueError(f"it is not of the type {payload_type}")
        return _octets(members["payload"]), _signatures(members["signatures"], most)
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error)) from error


def _signatures(rows: object, most: int) -> dict[str, bytes]:
    if not isinstance(rows, list) or not 0 < len(rows) <= most:
        raise ValueError(f"it has no signature, or more than {most}")
    found: dict[str, bytes] = {}
    for row in rows:
        if not isinstance(row, dict) or row.keys() != {"keyid", "sig"} or not isinstance(row["keyid"], str):
            raise ValueError("a signature is not a keyid and a sig")
        if row["keyid"] in found:
            raise ValueError("a key has signed twice")
        found[row["keyid"]] = _octets(row["sig"])
    return found


def _octets(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("a member is not in base64")
    try:
        return b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("a member is not in base64") from error


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"not a signed document: {what}", reason="signature.malformed")
