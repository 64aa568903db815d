"""A self-signed X.509 certificate, read for what evidence needs of it (RFC 5280 section 4.1).

Nothing vouches for such a certificate but the quote inside; its own signature proves that whoever made it holds the
key. It is read here rather than by `cryptography` because the key must be taken in the very bytes that a quote is bound
to, and because Mbed TLS before 3.5, and so Gramine before 1.6, wrote a NULL after the names of ECDSA algorithms that
RFC 5758 forbids. Everything else is kept strictly: one certificate and no byte more, version 3, the same name and
algorithm in both places, no extension twice, none that is critical and unknown.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cloister import der
from cloister.errors import EvidenceRejected, InvalidRequest

MAX_CERTIFICATE_BYTES: Final = 64 * 1024
PEM_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"

_PEM_END: Final = b"-----END CERTIFICATE-----"
_MAX_PEM_BYTES: Final = 2 * MAX_CERTIFICATE_BYTES
_NULL: Final = b"\x05\x00"
_ECDSA: Final = bytes.fromhex("06082a8648ce3d0403")  # and one arc: 1.2.840.10045.4.3.x
_RSA: Final = bytes.fromhex("06092a864886f70d0101")  # and one arc: 1.2.840.113549.1.1.x
_HASHES: Final = (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
_ALGORITHMS: Final = {
    **{_ECDSA + bytes([2 + n]) + null: each for n, each in enumerate(_HASHES) for null in (b"", _NULL)},
    **{_RSA + bytes([11 + n]) + _NULL: each for n, each in enumerate(_HASHES)},
}
_TBS: Final = (0xA0, der.INTEGER, *[der.SEQUENCE] * 5, 0xA3)
# Subject key id, key usage, alternative name, basic constraints, authority key id, extended key usage (2.5.29.x).
_UNDERSTOOD: Final = frozenset(b"\x55\x1d" + bytes([arc]) for arc in (14, 15, 17, 19, 35, 37))


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfSigned:
    """A certificate that its own key signed.

    Attributes:
        spki: DER SubjectPublicKeyInfo, as it stands in the certificate.
        extensions: DER values by DER object identifier, both without tag and length.
    """

    spki: bytes
    not_before: datetime
    not_after: datetime
    extensions: dict[bytes, bytes] = field(repr=False)


def read(raw: bytes, *, understood: frozenset[bytes] = frozenset()) -> SelfSigned:
    """Read one certificate, DER or PEM, and check that it is signed by the key it holds.

    Args:
        raw: At most 64 KiB of DER, or as much in PEM.
        understood: Object identifiers that may be critical, besides those of RFC 5280 that bear on no decision here.

    Raises:
        InvalidRequest: Reason `certificate.malformed`, or `extension.repeated`.
        EvidenceRejected: Reason `certificate.signature_broken` or `certificate.algorithm_refused`.
    """
    try:
        tbs, algorithm, signature = _fields(_der(raw), (der.SEQUENCE, der.SEQUENCE, der.BIT_STRING))
        signed = der.encoded(der.SEQUENCE, tbs)
        found = _self_signed(signed, algorithm, _UNDERSTOOD | understood)
        if not signature.startswith(b"\0"):
            raise ValueError("its signature is not of whole bytes")
    except ValueError as error:
        raise InvalidRequest(f"the certificate does not parse: {error}", reason="certificate.malformed") from error
    _check_signature(found.spki, algorithm, signature[1:], signed)
    return found


def _self_signed(tbs: bytes, algorithm: bytes, understood: frozenset[bytes]) -> SelfSigned:
    version, serial, inner, issuer, validity, subject, key, extensions = _fields(tbs, _TBS)
    if version != b"\x02\x01\x02" or inner != algorithm or issuer != subject:
        raise ValueError("not a self-issued certificate of version 3")
    der.unsigned(serial)
    not_before, not_after = _validity(der.elements(validity))
    return SelfSigned(
        spki=der.encoded(der.SEQUENCE, key),
        not_before=not_before,
        not_after=not_after,
        extensions=_extensions(der.contents(extensions, der.SEQUENCE), understood),
    )


def _der(raw: bytes) -> bytes:
    if len(raw) > _MAX_PEM_BYTES:
        raise ValueError("it is too long")
    text = raw.strip()
    if text.startswith(PEM_BEGIN):
        if not text.endswith(_PEM_END):
            raise ValueError("the PEM has no end, or more than a certificate")
        body = b"".join(text[len(PEM_BEGIN) : -len(_PEM_END)].split())
        try:
            raw = binascii.a2b_base64(body, strict_mode=True)
        except binascii.Error:
            raise ValueError("the PEM is not base64 of one certificate") from None
    if len(raw) > MAX_CERTIFICATE_BYTES:
        raise ValueError("it is too long")
    return raw


def _fields(sequence: bytes, tags: Sequence[int]) -> list[bytes]:
    values = der.elements(der.contents(sequence, der.SEQUENCE))
    if [tag for tag, _ in values] != list(tags):
        raise ValueError("its fields are not those of a certificate with extensions")
    return [inside for _, inside in values]


def _validity(values: list[tuple[int, bytes]]) -> list[datetime]:
    if len(values) != 2:
        raise ValueError("its validity is not two times")
    return [_moment(tag, inside) for tag, inside in values]


def _moment(tag: int, inside: bytes) -> datetime:
    text = inside.decode("ascii")
    if tag == der.UTC_TIME:
        text = ("20" if text < "5" else "19") + text  # RFC 5280 section 4.1.2.5.1
    elif tag != der.GENERALIZED_TIME:
        raise ValueError("its validity is not two times")
    if len(text) != 15 or not text[:14].isdigit():
        raise ValueError("a time is not to the second and in UTC")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _extensions(inside: bytes, understood: frozenset[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for tag, one in der.elements(inside):
        parts = der.elements(one) if tag == der.SEQUENCE else []
        match parts:
            case [(der.OBJECT_IDENTIFIER, name), (der.OCTET_STRING, value)]:
                critical = False
            case [(der.OBJECT_IDENTIFIER, name), (der.BOOLEAN, flag), (der.OCTET_STRING, value)]:
                critical = der.boolean(flag)
            case _:
                raise ValueError("an extension is not a name and a value")
        if critical and name not in understood:
            raise ValueError("a critical extension is one that nobody here knows")
        if name in found:
            raise InvalidRequest("the certificate has the same extension twice", reason="extension.repeated")
        found[name] = value
    return found


def _check_signature(spki: bytes, algorithm: bytes, signature: bytes, signed: bytes) -> None:
    digest = _ALGORITHMS.get(algorithm)
    try:
        key = load_der_public_key(spki)
        if digest is not None and isinstance(key, ec.EllipticCurvePublicKey) and algorithm.startswith(_ECDSA):
            key.verify(signature, signed, ec.ECDSA(digest))
        elif digest is not None and isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 4096:
            key.verify(signature, signed, padding.PKCS1v15(), digest)
        else:
            raise EvidenceRejected(
                "the certificate is not signed by ECDSA or RSA (2048 to 4096 bits) with SHA-2",
                reason="certificate.algorithm_refused",
            )
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequest("the certificate's key does not parse", reason="certificate.malformed") from error
    except InvalidSignature:
        raise EvidenceRejected(
            "the certificate is not signed by the key it holds", reason="certificate.signature_broken"
        ) from None
