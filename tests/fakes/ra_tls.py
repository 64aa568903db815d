"""A certificate with evidence in it, put together by hand so that a test can break any one thing of it."""

from __future__ import annotations

import hashlib
from base64 import encodebytes
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister import der
from cloister.evidence import ratls
from cloister.evidence.binding import report_data
from cloister_simulator.platform import Platform

EVIDENCE = bytes.fromhex("678105050409")
LEGACY_INTEL = bytes.fromhex("2a864886f84d010d01")
LEGACY_GRAMINE = bytes.fromhex("06092a864886f84d8a3906")
ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
NULL = b"\x05\x00"
SET = 0x31


def name(common_name: str) -> bytes:
    attribute = der.encoded(der.OBJECT_IDENTIFIER, b"\x55\x04\x03") + der.encoded(0x0C, common_name.encode())
    return der.encoded(der.SEQUENCE, der.encoded(SET, der.encoded(der.SEQUENCE, attribute)))


def spki_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def attester_claims(spki: bytes, **others: object) -> bytes:
    """Claims as Gramine writes them: the hash of the key; a nonce and others where a test names them."""
    entry = cbor2.dumps([1, hashlib.sha256(spki).digest()])
    return cbor2.dumps({"pubkey-hash": entry, **others})


@dataclass
class Certificate:
    """A self-signed certificate of an RA-TLS attester; wholly valid once it has its evidence.

    Attributes:
        extensions: Object identifier, criticality (None leaves it out) and value of each.
        algorithm: Contents of the AlgorithmIdentifier, in both places; `inner_algorithm` changes the first alone.
        signer: Whose signature it bears.
    """

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    extensions: list[tuple[bytes, bool | None, bytes]] = field(default_factory=list)
    not_before: datetime = datetime(2001, 1, 1, tzinfo=UTC)
    not_after: datetime = datetime(2030, 12, 31, 23, 59, 59, tzinfo=UTC)
    version: int = 2
    subject: str = "RATLS"
    issuer: str = "RATLS"
    algorithm: bytes = ECDSA_SHA256
    inner_algorithm: bytes | None = None
    signer: ec.EllipticCurvePrivateKey | None = None

    @property
    def spki(self) -> bytes:
        return spki_of(self.key)

    def der(self) -> bytes:
        """Its bytes."""
        tbs = self._tbs()
        signature = (self.signer or self.key).sign(tbs, ec.ECDSA(hashes.SHA256()))
        algorithm = der.encoded(der.SEQUENCE, self.algorithm)
        return der.encoded(der.SEQUENCE, tbs + algorithm + der.encoded(der.BIT_STRING, b"\0" + signature))

    def pem(self) -> bytes:
        """The same as text."""
        return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(self.der()) + b"-----END CERTIFICATE-----\n"

    def _tbs(self) -> bytes:
        times = [each.strftime("%y%m%d%H%M%SZ").encode() for each in (self.not_before, self.not_after)]
        inner = self.algorithm if self.inner_algorithm is None else self.inner_algorithm
        parts = [
            der.encoded(0xA0, der.encoded(der.INTEGER, bytes([self.version]))),
            der.encoded(der.INTEGER, b"\x01"),
            der.encoded(der.SEQUENCE, inner),
            name(self.issuer),
            der.encoded(der.SEQUENCE, b"".join(der.encoded(der.UTC_TIME, each) for each in times)),
            name(self.subject),
            self.spki,
            der.encoded(0xA3, der.encoded(der.SEQUENCE, b"".join(map(_extension, self.extensions)))),
        ]
        return der.encoded(der.SEQUENCE, b"".join(parts))


def _extension(one: tuple[bytes, bool | None, bytes]) -> bytes:
    identifier, critical, value = one
    flag = b"" if critical is None else der.encoded(der.BOOLEAN, b"\xff" if critical else b"\0")
    parts = der.encoded(der.OBJECT_IDENTIFIER, identifier) + flag + der.encoded(der.OCTET_STRING, value)
    return der.encoded(der.SEQUENCE, parts)


def attester(platform: Platform, *, claims: bytes | None = None, **changes: Any) -> Certificate:
    """A certificate as Gramine's RA-TLS library makes it since 1.8, without the legacy extension.

    Args:
        platform: Who quotes.
        claims: Other claims than those that Gramine writes.
        changes: Fields of `Certificate`.
    """
    made = Certificate(**changes)
    said = attester_claims(made.spki) if claims is None else claims
    evidence = ratls.evidence_extension(platform.quote(report_data(said)), said).value
    made.extensions.append((EVIDENCE, None, evidence))
    return made


def legacy_attester(platform: Platform, identifier: bytes = LEGACY_GRAMINE, **changes: Any) -> Certificate:
    """A certificate as Gramine made it before 1.8, with its Mbed TLS's NULL after the algorithm's name."""
    made = Certificate(**{"algorithm": ECDSA_SHA256 + NULL, **changes})
    quote = platform.quote(hashlib.sha256(made.spki).digest() + bytes(32))
    made.extensions.append((identifier, None, quote))
    return made


def in_time(now: datetime) -> dict[str, datetime]:
    """Dates of a certificate that is valid for a day before and after `now`."""
    day = timedelta(days=1)
    return {"not_before": now - day, "not_after": now + day}
