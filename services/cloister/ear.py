"""The Attestation Result as an EAR (EAT profile, AR4SI trustworthiness vector) in a JWT: issue it, check it.

A token is three segments of canonical base64url, at most 16 KiB. Its header holds `alg`, `kid` and `typ` and nothing
else, so no key ever comes with the token; the algorithm is that of the key which `kid` names. Every member is required,
none may be added or given twice, and each has one JSON type. ES256 signatures have their smaller `s`, so that nobody
but the issuer can make a second token of one. Times are compared with the `now` that is handed in.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, NoReturn, TypeAlias, cast

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from cloister import __version__
from cloister.errors import EvidenceRejected, InvalidRequest

PROFILE: Final = "tag:github.com,2023:veraison/ear"
TOKEN_TYPE: Final = "ear+jwt"  # noqa: S105  # a media type
MAX_TOKEN_BYTES: Final = 16 * 1024
_MAX_TEXT: Final = 2048
LEEWAY: Final = timedelta(seconds=30)
SIMULATED_HARDWARE: Final = 96  # AR4SI: contraindicated

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_HEX_32: Final = re.compile(r"[0-9a-f]{64}")
_MEMBERS: Final = frozenset(
    {"eat_profile", "iss", "aud", "jti", "iat", "exp", "eat_nonce", "ear.verifier-id", "cnf", "submods", "cloister"}
)
_OWN_MEMBERS: Final = frozenset(
    {
        *("role", "spiffe_id", "cluster", "instance", "tls_spki_sha256", "hpke_suite", "hpke_public", "tee"),
        *("mrenclave", "mrsigner", "isvprodid", "isvsvn", "debug", "tcb_status", "advisory_ids", "tcb_evaluation"),
        *("ppid_sha256", "collateral_sha256", "config_digest", "anchor", "simulated", "policy_digest"),
    }
)
_SUBMODULE_MEMBERS: Final = frozenset({"ear.status", "ear.trustworthiness-vector", "ear.appraisal-policy-id"})
_PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """What a Verifier believes of an Attester, for one Relying Party and for a while.

    Attributes:
        ear_id: `jti` of the token.
        nonce: The challenge the evidence answered.
        receipt_key: Ed25519 public key, 32 bytes; in the token's `cnf`.
        mrenclave: 64 lower-case hex digits, as are `mrsigner` and `ppid_sha256`.
        ppid_sha256: SHA-256 of the platform's PPID.
        tcb_evaluation: TCB evaluation data number of the collateral used.
        anchor: Name of the trust anchor that the quote chains to; `simulated` says whether it is a simulator's.
        hardware: AR4SI claim, as are `executables` and `configuration`: 2 to 31 affirm, 32 to 95 warn, 96 and up
            contraindicate.
        policy_digest: SHA-256 of the appraisal policy.
    """

    issuer: str
    audience: str
    ear_id: str
    issued_at: datetime
    expires_at: datetime
    nonce: bytes
    role: str
    spiffe_id: str
    cluster: str
    instance: str
    tls_spki_sha256: bytes
    receipt_key: bytes
    hpke_suite: str
    hpke_public: bytes
    tee: str = "sgx"
    mrenclave: str
    mrsigner: str
    isvprodid: int
    isvsvn: int
    debug: bool
    tcb_status: str
    advisory_ids: tuple[str, ...]
    tcb_evaluation: int
    ppid_sha256: str
    collateral_sha256: bytes
    config_digest: bytes
    anchor: str
    simulated: bool
    hardware: int
    executables: int
    configuration: int
    policy_id: str
    policy_digest: bytes

    @property
    def status(self) -> str:
        """The trustworthiness tier (AR4SI section 3.2): that of the worst claim."""
        worst = max(self.hardware, self.executables, self.configuration)
        tiers = ((96, "contraindicated"), (32, "warning"), (2, "affirming"))
        return next((tier for least, tier in tiers if worst >= least), "none")


class SigningKey:
    """A Verifier's private key for Attestation Results: P-256 (ES256) or Ed25519 (EdDSA)."""

    def __init__(self, private: _PrivateKey) -> None:
        self._private = private
        public = _jwk(private.public_key())
        self.kid = thumbprint(public)
        self.algorithm = _algorithm(private.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a fresh P-256 key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Read an unencrypted private key.

        Raises:
            InvalidRequest: Not a PEM private key on P-256 or Ed25519.
        """
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise InvalidRequest("the signing key is not an unencrypted PEM private key") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            raise InvalidRequest("the signing key is of another kind than P-256 or Ed25519")
        return cls(private)

    def to_pem(self) -> bytes:
        """Return the key as unencrypted PKCS #8, for a file that only its owner may read."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self._private.private_bytes(encoding, form, serialization.NoEncryption())

    def jwk(self) -> dict[str, str]:
        """Return the public key as a JSON Web Key, with `kid`, `alg` and `use`."""
        return {**_jwk(self._private.public_key()), "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def sign(self, payload: bytes) -> str:
        """Return a compact JWS of `payload` with our header."""
        headers = {"typ": TOKEN_TYPE, "kid": self.kid}
        while True:
            token = PyJWS(algorithms=[self.algorithm]).encode(payload, self._private, self.algorithm, headers)
            if self.algorithm != "ES256" or _has_low_s(token):
                return token

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"


class KeySet:
    """Public keys that Attestation Results may be signed with, by thumbprint."""

    def __init__(self, keys: Mapping[str, _PublicKey]) -> None:
        self._keys = dict(keys)

    @classmethod
    def from_jwks(cls, jwks: str | bytes, pinned_thumbprints: Collection[str] | None = None) -> KeySet:
        """Read a JSON Web Key Set; with pins, only the keys that are pinned count.

        Raises:
            InvalidRequest: Not a JWKS of public P-256 and Ed25519 keys, or none of them is pinned.
        """
        try:
            members = _object(_parse(jwks), None)
            found = [_from_jwk(_object(key, None)) for key in _array(members["keys"])]
        except (KeyError, ValueError, RecursionError) as error:
            raise InvalidRequest("not a JSON Web Key Set of P-256 or Ed25519 public keys") from error
        keys = {kid: key for kid, key in found if pinned_thumbprints is None or kid in pinned_thumbprints}
        if not keys:
            raise InvalidRequest("the JSON Web Key Set holds no key to be trusted")
        return cls(keys)

    @property
    def thumbprints(self) -> frozenset[str]:
        """The thumbprints (RFC 7638) of all keys."""
        return frozenset(self._keys)

    def named(self, kid: str) -> _PublicKey | None:
        """Return the key of this thumbprint, if it is one of ours."""
        return self._keys.get(kid)


def issue(result: AttestationResult, key: SigningKey) -> str:
    """Return `result` as a signed token.

    Raises:
        ValueError: The result contradicts itself, or a field has not its form.
    """
    payload = _payload(result)
    if _result(payload) != result:
        raise ValueError("the Attestation Result does not survive its own encoding")
    return key.sign(json.dumps(payload, separators=(",", ":")).encode())


def check(
    token: str, keys: KeySet, *, issuer: str, audience: str, now: datetime | None, max_life: timedelta
) -> AttestationResult:
    """Return what a token says, having found it signed by one of `keys`, meant for us and not expired.

    Args:
        token: The JWT in its compact form.
        keys: The Verifier's.
        issuer: SPIFFE id of the Verifier.
        audience: Exactly what `aud` must be.
        now: Aware UTC. None asks for no judgement of `iat` and `exp` but their distance: for an Attester that has no
            clock of its own, takes the time from the token, and must hold that against what it knows.
        max_life: The longest `exp` less `iat` that is believed.

    Raises:
        EvidenceRejected: It is not; `reason` is `token.malformed`, `.key_unknown`, `.signature`, `.issuer`,
            `.audience`, `.not_yet`, `.expired` or `.too_long`.
    """
    payload = _verified_payload(token, keys)
    try:
        result = _result(_parse(payload))
    except (ValueError, RecursionError) as error:
        raise _rejected("malformed") from error
    if result.issuer != issuer:
        raise _rejected("issuer")
    if result.audience != audience:
        raise _rejected("audience")
    if now is not None and result.issued_at > now + LEEWAY:
        raise _rejected("not_yet")
    if now is not None and result.expires_at <= now - LEEWAY:
        raise _rejected("expired")
    if result.expires_at - result.issued_at > max_life:
        raise _rejected("too_long")
    return result


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the JWK thumbprint (RFC 7638), SHA-256 in base64url."""
    required = {name: jwk[name] for name in ("crv", "kty", "x", "y") if name in jwk}
    return _b64(sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).digest())


def _rejected(why: str) -> EvidenceRejected:
    return EvidenceRejected(f"the Attestation Result is not accepted: {why}", reason=f"token.{why}")


def _verified_payload(token: str, keys: KeySet) -> bytes:
    kid, algorithm = _read_header(token)
    key = keys.named(kid)
    if key is None:
        raise _rejected("key_unknown")
    if algorithm != _algorithm(key) or (algorithm == "ES256" and not _has_low_s(token)):
        raise _rejected("signature")
    try:
        payload: bytes = PyJWS(algorithms=[algorithm]).decode(token, key, algorithms=[algorithm])
    except (PyJWTError, ValueError) as error:
        raise _rejected("signature") from error
    return payload


def _read_header(token: str) -> tuple[str, str]:
    """Check the token's form, and return `kid` and `alg`."""
    try:
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError("too long")
        segments = [_unb64(segment) for segment in token.split(".", 3)]
        if len(segments) != 3:
            raise ValueError("not three segments")
        header = _object(_parse(segments[0]), {"alg", "kid", "typ"})
        if header["typ"] != TOKEN_TYPE:
            raise ValueError("another type")
        return _text(header["kid"]), _text(header["alg"])
    except (ValueError, RecursionError) as error:
        raise _rejected("malformed") from error


def _payload(result: AttestationResult) -> dict[str, object]:
    return {
        "eat_profile": PROFILE,
        "iss": result.issuer,
        "aud": result.audience,
        "jti": result.ear_id,
        "iat": int(result.issued_at.timestamp()),
        "exp": int(result.expires_at.timestamp()),
        "eat_nonce": _b64(result.nonce),
        "ear.verifier-id": {"developer": "Cloister", "build": __version__},
        "cnf": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": _b64(result.receipt_key)}},
        "submods": {
            result.role: {
                "ear.status": result.status,
                "ear.trustworthiness-vector": {
                    "hardware": result.hardware,
                    "executables": result.executables,
                    "configuration": result.configuration,
                },
                "ear.appraisal-policy-id": result.policy_id,
            }
        },
        "cloister": {
            "role": result.role,
            "spiffe_id": result.spiffe_id,
            "cluster": result.cluster,
            "instance": result.instance,
            "tls_spki_sha256": _b64(result.tls_spki_sha256),
            "hpke_suite": result.hpke_suite,
            "hpke_public": _b64(result.hpke_public),
            "tee": result.tee,
            "mrenclave": result.mrenclave,
            "mrsigner": result.mrsigner,
            "isvprodid": result.isvprodid,
            "isvsvn": result.isvsvn,
            "debug": result.debug,
            "tcb_status": result.tcb_status,
            "advisory_ids": list(result.advisory_ids),
            "tcb_evaluation": result.tcb_evaluation,
            "ppid_sha256": result.ppid_sha256,
            "collateral_sha256": _b64(result.collateral_sha256),
            "config_digest": _b64(result.config_digest),
            "anchor": result.anchor,
            "simulated": result.simulated,
            "policy_digest": _b64(result.policy_digest),
        },
    }


def _result(payload: object) -> AttestationResult:
    """Read the claims; raises ValueError for anything that is not exactly of this profile."""
    claims = _object(payload, _MEMBERS)
    own = _object(claims["cloister"], _OWN_MEMBERS)
    role = _text(own["role"])
    submodule = _object(_object(claims["submods"], {role})[role], _SUBMODULE_MEMBERS)
    vector = _object(submodule["ear.trustworthiness-vector"], {"hardware", "executables", "configuration"})
    jwk = _object(_object(claims["cnf"], {"jwk"})["jwk"], {"kty", "crv", "x"})
    verifier = _object(claims["ear.verifier-id"], {"developer", "build"})
    for name in verifier.values():
        _text(name)
    if claims["eat_profile"] != PROFILE or (jwk["kty"], jwk["crv"]) != ("OKP", "Ed25519"):
        raise ValueError("another profile, or another kind of receipt key")
    result = AttestationResult(
        issuer=_text(claims["iss"]),
        audience=_text(claims["aud"]),
        ear_id=_text(claims["jti"]),
        issued_at=_time(claims["iat"]),
        expires_at=_time(claims["exp"]),
        nonce=_digest(claims["eat_nonce"]),
        role=role,
        spiffe_id=_text(own["spiffe_id"]),
        cluster=_text(own["cluster"]),
        instance=_text(own["instance"]),
        tls_spki_sha256=_digest(own["tls_spki_sha256"]),
        receipt_key=_digest(jwk["x"]),
        hpke_suite=_text(own["hpke_suite"]),
        hpke_public=_unb64(_text(own["hpke_public"])),
        tee=_text(own["tee"]),
        mrenclave=_hex(own["mrenclave"]),
        mrsigner=_hex(own["mrsigner"]),
        isvprodid=_count(own["isvprodid"]),
        isvsvn=_count(own["isvsvn"]),
        debug=_flag(own["debug"]),
        tcb_status=_text(own["tcb_status"]),
        advisory_ids=tuple(_text(advisory) for advisory in _array(own["advisory_ids"])),
        tcb_evaluation=_count(own["tcb_evaluation"]),
        ppid_sha256=_hex(own["ppid_sha256"]),
        collateral_sha256=_digest(own["collateral_sha256"]),
        config_digest=_digest(own["config_digest"]),
        anchor=_text(own["anchor"]),
        simulated=_flag(own["simulated"]),
        hardware=_tier(vector["hardware"]),
        executables=_tier(vector["executables"]),
        configuration=_tier(vector["configuration"]),
        policy_id=_text(submodule["ear.appraisal-policy-id"]),
        policy_digest=_digest(own["policy_digest"]),
    )
    _check_agreement(result, submodule["ear.status"])
    return result


def _check_agreement(result: AttestationResult, status: object) -> None:
    if status != result.status:
        raise ValueError("status and vector disagree")
    if result.simulated and result.hardware != SIMULATED_HARDWARE:
        raise ValueError("simulated evidence with another hardware claim")
    if not result.spiffe_id.startswith(f"spiffe://{result.cluster}/{result.role}/"):
        raise ValueError("cluster and role do not fit the SPIFFE id")
    if result.expires_at <= result.issued_at:
        raise ValueError("ends before it begins")


def _parse(raw: str | bytes) -> object:
    """Read JSON without duplicate members, floats or constants that JSON does not have."""
    return cast(object, json.loads(raw, object_pairs_hook=_unique, parse_float=_refuse, parse_constant=_refuse))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _refuse(number: str) -> NoReturn:
    raise ValueError("a number that is not an integer")


def _object(value: object, members: Collection[str] | None) -> dict[str, object]:
    if not isinstance(value, dict) or (members is not None and value.keys() != set(members)):
        raise ValueError("not an object with exactly the members of the profile")
    return value


def _array(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("not an array")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        raise ValueError("not a text")
    return value


def _hex(value: object) -> str:
    if not isinstance(value, str) or not _HEX_32.fullmatch(value):
        raise ValueError("not 64 hex digits")
    return value


def _digest(value: object) -> bytes:
    raw = _unb64(_text(value))
    if len(raw) != 32:
        raise ValueError("not 32 bytes")
    return raw


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise ValueError("not a count")
    return value


def _tier(value: object) -> int:
    if type(value) is not int or not -128 <= value <= 127:
        raise ValueError("not an AR4SI claim")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def _time(value: object) -> datetime:
    return datetime.fromtimestamp(_count(value), UTC)


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(segment: str) -> bytes:
    """Decode base64url without padding; only the one canonical spelling of the bytes."""
    if not _BASE64URL.fullmatch(segment):
        raise ValueError("not base64url")
    raw = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if _b64(raw) != segment:
        raise ValueError("not canonical base64url")
    return raw


def _has_low_s(token: str) -> bool:
    signature = _unb64(token.rpartition(".")[2])
    return len(signature) == 64 and int.from_bytes(signature[32:], "big") <= _P256_ORDER // 2


def _algorithm(key: _PublicKey) -> str:
    return "EdDSA" if isinstance(key, ed25519.Ed25519PublicKey) else "ES256"


def _jwk(key: _PublicKey) -> dict[str, str]:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": _b64(key.public_bytes_raw())}
    if not isinstance(key.curve, ec.SECP256R1):
        raise InvalidRequest("the key is on another curve than P-256")
    numbers = key.public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": _b64(numbers.x.to_bytes(32)), "y": _b64(numbers.y.to_bytes(32))}


def _from_jwk(jwk: dict[str, object]) -> tuple[str, _PublicKey]:
    """Read one public key; its `kid`, where given, must be its thumbprint, and its `alg` the one we would use."""
    key: _PublicKey
    match jwk:
        case {"kty": "EC", "crv": "P-256", "x": x, "y": y}:
            numbers = (int.from_bytes(_digest(x)), int.from_bytes(_digest(y)))
            key = ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()
        case {"kty": "OKP", "crv": "Ed25519", "x": x}:
            key = ed25519.Ed25519PublicKey.from_public_bytes(_digest(x))
        case _:
            raise ValueError("another kind of key")
    kid, algorithm = thumbprint(_jwk(key)), _algorithm(key)
    if "d" in jwk or jwk.get("kid", kid) != kid or jwk.get("alg", algorithm) != algorithm:
        raise ValueError("a private key, or a name or algorithm that is not this key's")
    return kid, key
