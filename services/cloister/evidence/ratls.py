"""Evidence in a certificate: RA-TLS, in which an Attester's TLS key and its quote arrive in one handshake.

The interoperable form (CCC "Interoperable RA-TLS", TCG DICE) is an extension 2.23.133.5.4.9 with CBOR
`60000([quote, claims])`, where REPORTDATA is SHA-256 of the claims and 32 zero bytes, and the claim `pubkey-hash` names
the key of the certificate. Gramine writes it since 1.8, Intel's SDK and RATS-TLS do as well. Cloister's own claims
(`binding.py`) are such claims too, so they can travel this way. Before, there was a bare quote whose REPORTDATA is the
hash of the key; that form has no room for a nonce, and is read only where the caller says so.

Claims other than `pubkey-hash` and `nonce` are passed over, as the profile asks, and named. Nothing here is compressed,
and nothing is inflated. Pure: the clock is an argument.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import cbor2
from cryptography import x509

from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.evidence import binding, cbor, certificate
from cloister.evidence.cbor import Item, Tagged
from cloister.evidence.certificate import SelfSigned

EVIDENCE: Final = x509.ObjectIdentifier("2.23.133.5.4.9")
TEE_QUOTE_TAG: Final = 60000  # IANA: an Intel TEE quote

_EVIDENCE: Final = bytes.fromhex("678105050409")
# 1.2.840.113741.1.13.1, and what Gramine made of it: the DER of 1.2.840.113741.1337.6, with its head, as an arc.
_LEGACY: Final = (bytes.fromhex("2a864886f84d010d01"), bytes.fromhex("06092a864886f84d8a3906"))
# By their numbers in IANA's Named Information Hash Algorithm registry; the profile asks for these three.
_HASHES: Final[dict[int, Callable[[bytes], Any]]] = {1: hashlib.sha256, 7: hashlib.sha384, 8: hashlib.sha512}


@dataclass(frozen=True, slots=True, kw_only=True)
class RaTlsEvidence:
    """What a certificate brings; whoever believes the quote, and finds `report_data` in it, may believe the key.

    Attributes:
        report_data: What REPORTDATA of the quote must be, 64 bytes.
        spki_sha256: Of the certificate's key.
        nonce: Which the attester was asked to include; None where there was none.
        passed_over: Names of claims that nobody here looks at.
        legacy: Whether this is the form that is bound to the key alone.
    """

    raw_quote: bytes = field(repr=False)
    report_data: bytes
    spki_sha256: bytes
    nonce: bytes | None = None
    passed_over: tuple[str, ...] = ()
    legacy: bool = False


def read(raw: bytes, now: datetime, *, allow_legacy: bool = False) -> RaTlsEvidence:
    """Read the evidence in a certificate, and check all but the quote.

    Args:
        raw: One self-signed certificate, DER or PEM.
        now: Aware.
        allow_legacy: Whether a certificate with the legacy extension alone will do. Where the interoperable form is
            there, it is judged, and never the other in its place.

    Raises:
        InvalidRequest: Reason `certificate.malformed`, `extension.repeated`, `evidence.missing`, `evidence.malformed`
            or `claims.malformed`.
        EvidenceRejected: Reason `certificate.signature_broken`, `certificate.algorithm_refused`,
            `certificate.expired`, `evidence.legacy`, or `claims.key_mismatched`.
    """
    found = certificate.read(raw, understood=frozenset({_EVIDENCE}))
    if not found.not_before <= now <= found.not_after:
        raise EvidenceRejected("the certificate is not valid at this time", reason="certificate.expired")
    if _EVIDENCE in found.extensions:
        return _interoperable(found, found.extensions[_EVIDENCE])
    return _legacy(found, allow_legacy)


def evidence_extension(raw_quote: bytes, claims_bytes: bytes) -> x509.UnrecognizedExtension:
    """Return the extension for a certificate; not critical, since TLS libraries refuse it where it is.

    Args:
        raw_quote: Over `binding.report_data(claims_bytes)`.
        claims_bytes: A CBOR map with a `pubkey-hash` of the certificate's key, such as `binding.encode` makes.
    """
    tagged = cbor2.CBORTag(TEE_QUOTE_TAG, [raw_quote, claims_bytes])
    return x509.UnrecognizedExtension(EVIDENCE, cbor2.dumps(tagged, canonical=True))


def _interoperable(found: SelfSigned, value: bytes) -> RaTlsEvidence:
    match _read(value, "evidence"):
        case Tagged(tag=60000, item=[bytes(raw_quote), bytes(claims_bytes)]):
            pass
        case _:
            raise InvalidRequest(
                "the evidence in the certificate is not the CBOR tag 60000 over a quote and claims",
                reason="evidence.malformed",
            )
    claims = _claims(claims_bytes)
    _check_key(claims.get("pubkey-hash"), found.spki)
    nonce = claims.get("nonce")
    if not isinstance(nonce, bytes | None):
        raise InvalidRequest("the claim nonce is not a byte string", reason="claims.malformed")
    return RaTlsEvidence(
        raw_quote=raw_quote,
        report_data=binding.report_data(claims_bytes),
        spki_sha256=hashlib.sha256(found.spki).digest(),
        nonce=nonce,
        passed_over=tuple(sorted(claims.keys() - {"pubkey-hash", "nonce"})),
    )


def _claims(raw: bytes) -> dict[str, Item]:
    claims = _read(raw, "claims") if len(raw) <= binding.MAX_CLAIMS_BYTES else None
    if not isinstance(claims, dict):
        raise InvalidRequest("the claims are too long, or not a map", reason="claims.malformed")
    return claims


def _legacy(found: SelfSigned, allowed: bool) -> RaTlsEvidence:
    quotes = [found.extensions[name] for name in _LEGACY if name in found.extensions]
    if not quotes:
        raise InvalidRequest("the certificate brings no evidence", reason="evidence.missing")
    if not allowed:
        raise EvidenceRejected(
            "the certificate brings a quote in the legacy extension alone, which is read only where that is allowed",
            reason="evidence.legacy",
        )
    if len(quotes) > 1:
        raise InvalidRequest("the certificate brings two legacy quotes", reason="extension.repeated")
    digest = hashlib.sha256(found.spki).digest()
    return RaTlsEvidence(raw_quote=quotes[0], report_data=digest + bytes(32), spki_sha256=digest, legacy=True)


def _check_key(claim: Item | None, spki: bytes) -> None:
    match _read(claim, "claims") if isinstance(claim, bytes) else None:
        case [int(algorithm), bytes(digest)] if algorithm in _HASHES:
            if _HASHES[algorithm](spki).digest() != digest:
                raise EvidenceRejected(
                    "the evidence speaks for another key than the certificate's", reason="claims.key_mismatched"
                )
        case _:
            raise InvalidRequest("the claim pubkey-hash is not a hash by SHA-2", reason="claims.malformed")


def _read(raw: bytes, what: str) -> Item:
    try:
        return cbor.read(raw)
    except ValueError as error:
        raise InvalidRequest(f"the {what} in the certificate: {error}", reason=f"{what}.malformed") from error
