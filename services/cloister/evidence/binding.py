"""What an Attester says of itself, and how a quote vouches for exactly that.

The claims are one CBOR map in the deterministic encoding of RFC 8949 section 4.2.1, so equal claims are equal bytes.
REPORTDATA holds their SHA-256 and 32 zero bytes, which is also the binding of the CCC interoperable RA-TLS profile: the
same map with its `pubkey-hash` and `nonce` members can travel in a certificate's evidence extension. Decoding accepts
what encoding produces and nothing else: the map is encoded again and compared byte for byte, so duplicate keys, longer
heads, indefinite lengths, tags and trailing bytes are all refused. Which members there are is a matter of the role:
requests are sealed to every Attester but the verifier, which therefore has no keys for that, and may claim none.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

import cbor2

from cloister.errors import InvalidRequest
from cloister.evidence import cbor

VERSION: Final = 1
VERIFIER: Final = "verifier"
HPKE_PUBLIC_BYTES: Final = {"xwing": 1216, "x25519": 32}
MAX_CLAIMS_BYTES: Final = 4096

_SHA_256: Final = 1  # in IANA's Named Information Hash Algorithm registry
_COMMON: Final = frozenset({"v", "pubkey-hash", "nonce", "role", "svc", "cluster", "aud", "cfg", "inst"})
_SEALING: Final = frozenset({"hpke", "sig"})
_SEAL: Final = "seal"
_FIRST_SEAL: Final = 1
_MAX_SEAL: Final = 255
_SPIFFE_ID: Final = re.compile(r"spiffe://(?P<cluster>[a-z0-9.-]{1,253})/(?P<role>[a-z]{1,32})/[a-z0-9._-]{1,128}")
_INSTANCE: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """All that a quote is bound to.

    Attributes:
        tls_spki_sha256: SHA-256 of the DER SubjectPublicKeyInfo of the TLS key, 32 bytes.
        nonce: The verifier's challenge, 32 bytes.
        hpke_suite: `xwing` or `x25519`; empty for the verifier, as are `hpke_public` and `receipt_key`.
        hpke_public: 1216 or 32 bytes.
        receipt_key: Ed25519 public key, 32 bytes.
        seal_version: The newest version of sealing that it speaks. An Attester that speaks the first only has no such
            member, as none had before there was a second.
        role: As in the SPIFFE id.
        cluster: Trust domain, as in the SPIFFE id.
        audience: SPIFFE id of the verifier this was made for.
        config_digest: SHA-256 of the configuration the Attester runs under.
        instance: 32 lower-case hex digits, random for each start.
    """

    version: int = VERSION
    tls_spki_sha256: bytes
    nonce: bytes
    hpke_suite: str = ""
    hpke_public: bytes = b""
    receipt_key: bytes = b""
    seal_version: int = _FIRST_SEAL
    role: str
    spiffe_id: str
    cluster: str
    audience: str
    config_digest: bytes
    instance: str


def encode(claims: Claims) -> bytes:
    """Return the deterministic CBOR map of `claims`.

    Raises:
        InvalidRequest: A field has a wrong type, length or form.
    """
    _check(claims)
    members: dict[str, object] = {
        "v": claims.version,
        "pubkey-hash": cbor2.dumps([_SHA_256, claims.tls_spki_sha256], canonical=True),
        "nonce": claims.nonce,
        "role": claims.role,
        "svc": claims.spiffe_id,
        "cluster": claims.cluster,
        "aud": claims.audience,
        "cfg": claims.config_digest,
        "inst": claims.instance,
    }
    if claims.role != VERIFIER:
        members |= {"hpke": [claims.hpke_suite, claims.hpke_public], "sig": claims.receipt_key}
    if claims.seal_version != _FIRST_SEAL:
        members[_SEAL] = claims.seal_version
    return cbor2.dumps(members, canonical=True)


def decode(raw: bytes) -> Claims:
    """Read claims that came with evidence.

    Raises:
        InvalidRequest: Anything but the one encoding of well-formed claims.
    """
    if len(raw) > MAX_CLAIMS_BYTES:
        raise InvalidRequest("the claims are too long")
    members = _load(raw)
    if not isinstance(members, dict) or members.keys() - {_SEAL} != _names(members.get("role")):
        raise InvalidRequest("the claims are not a map with exactly the members of this version")
    suite, public = _pair(members["hpke"]) if "hpke" in members else ("", b"")
    claims = Claims(
        version=members["v"],
        tls_spki_sha256=_sha_256(members["pubkey-hash"]),
        nonce=members["nonce"],
        hpke_suite=suite,
        hpke_public=public,
        receipt_key=members.get("sig", b""),
        seal_version=members.get(_SEAL, _FIRST_SEAL),
        role=members["role"],
        spiffe_id=members["svc"],
        cluster=members["cluster"],
        audience=members["aud"],
        config_digest=members["cfg"],
        instance=members["inst"],
    )
    if encode(claims) != raw:
        raise InvalidRequest("the claims are not in the deterministic encoding")
    return claims


def report_data(claims_bytes: bytes) -> bytes:
    """Return the 64 bytes that a report over these claims carries: SHA-256 of them, then 32 zero bytes."""
    return hashlib.sha256(claims_bytes).digest() + bytes(32)


def _load(raw: bytes) -> object:
    try:
        return cbor.read(raw)
    except ValueError as error:
        raise InvalidRequest("the claims are not CBOR as evidence has it") from error


def _names(role: object) -> frozenset[str]:
    return _COMMON if role == VERIFIER else _COMMON | _SEALING


def _pair(member: object) -> tuple[str, bytes]:
    match member:
        case [str(first), bytes(second)]:
            return first, second
    raise InvalidRequest("the claim hpke is not a pair of suite and public key")


def _sha_256(member: object) -> bytes:
    match _load(member) if isinstance(member, bytes) else None:
        case [1, bytes(digest)]:
            return digest
    raise InvalidRequest("the claim pubkey-hash is not a SHA-256 entry")


def _check(claims: Claims) -> None:
    _check_number("v", claims.version)
    _check_bytes("pubkey-hash", claims.tls_spki_sha256, 32)
    _check_bytes("nonce", claims.nonce, 32)
    _check_sealing_keys(claims)
    _check_bytes("cfg", claims.config_digest, 32)
    if not isinstance(claims.instance, str) or not _INSTANCE.fullmatch(claims.instance):
        raise InvalidRequest("the claim inst is not 32 lower-case hex digits")
    service = _check_spiffe_id("svc", claims.spiffe_id)
    _check_spiffe_id("aud", claims.audience)
    if (claims.cluster, claims.role) != (service["cluster"], service["role"]):
        raise InvalidRequest("the claims cluster and role do not fit the SPIFFE id")


def _check_sealing_keys(claims: Claims) -> None:
    if claims.role == VERIFIER:
        said = (claims.hpke_suite, claims.hpke_public, claims.receipt_key, claims.seal_version)
        if said != ("", b"", b"", _FIRST_SEAL):
            raise InvalidRequest("a verifier has no keys to seal requests to")
        return
    if not isinstance(claims.hpke_suite, str) or claims.hpke_suite not in HPKE_PUBLIC_BYTES:
        raise InvalidRequest("the claim hpke names a suite that is not known")
    _check_bytes("hpke", claims.hpke_public, HPKE_PUBLIC_BYTES[claims.hpke_suite])
    _check_bytes("sig", claims.receipt_key, 32)
    if type(claims.seal_version) is not int or not _FIRST_SEAL <= claims.seal_version <= _MAX_SEAL:
        raise InvalidRequest(f"the claim seal is not a version from {_FIRST_SEAL} to {_MAX_SEAL}")


def _check_number(name: str, value: object) -> None:
    if type(value) is not int or value != VERSION:
        raise InvalidRequest(f"the claim {name} is not {VERSION}")


def _check_bytes(name: str, value: object, length: int) -> None:
    if not isinstance(value, bytes) or len(value) != length:
        raise InvalidRequest(f"the claim {name} is not {length} bytes")


def _check_spiffe_id(name: str, value: object) -> re.Match[str]:
    found = _SPIFFE_ID.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidRequest(f"the claim {name} is not a SPIFFE id of a role")
    return found
