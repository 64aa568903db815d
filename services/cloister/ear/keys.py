"""A Verifier's keys: to sign Attestation Results with, and to check them by.

The algorithm is that of the key. ES256 signatures have their smaller `s`, so that nobody but the issuer can make
a second token of one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt import PyJWS

from cloister.ear.members import array, base64url, digest, exact_object, from_base64url, parse_json, time
from cloister.errors import InvalidRequest

TOKEN_TYPE: Final = "ear+jwt"  # noqa: S105  # a media type
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class SigningKey:
    """A Verifier's private key for Attestation Results: P-256 (ES256) or Ed25519 (EdDSA)."""

    def __init__(self, private: PrivateKey) -> None:
        self._private = private
        public = _jwk(private.public_key())
        self.kid = thumbprint(public)
        self.algorithm = algorithm_of(private.public_key())

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
            if self.algorithm != "ES256" or has_low_s(from_base64url(token.rpartition(".")[2])):
                return token

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"


class Window(NamedTuple):
    """When a key signs: from the one moment on and before the other, aware UTC."""

    begins_at: datetime
    ends_at: datetime


ALWAYS: Final = Window(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


class KeySet:
    """Public keys that Attestation Results may be signed with, by thumbprint, and the times that each signs in.

    A key's times are the members `nbf` and `exp` of its JSON Web Key, as OpenID Federation 1.0 (section 8.7) has them;
    without them it signs always.
    """

    def __init__(self, keys: Mapping[str, PublicKey], windows: Mapping[str, Window] | None = None) -> None:
        self._keys = dict(keys)
        self._windows = dict(windows or {})

    @classmethod
    def from_jwks(cls, jwks: str | bytes, pinned_thumbprints: Collection[str] | None = None) -> KeySet:
        """Read a JSON Web Key Set; with pins, only the keys that are pinned count.

        Raises:
            InvalidRequest: Not a JWKS of public P-256 and Ed25519 keys, or none of them is pinned.
        """
        try:
            members = exact_object(parse_json(jwks), None)
            rows = [exact_object(key, None) for key in array(members["keys"])]
            found = [(_from_jwk(row), _window(row)) for row in rows]
        except (KeyError, ValueError, RecursionError) as error:
            raise InvalidRequest("not a JSON Web Key Set of P-256 or Ed25519 public keys") from error
        keys = {kid: key for (kid, key), _ in found if pinned_thumbprints is None or kid in pinned_thumbprints}
        if not keys:
            raise InvalidRequest("the JSON Web Key Set holds no key to be trusted")
        return cls(keys, {kid: window for (kid, _), window in found})

    @property
    def thumbprints(self) -> frozenset[str]:
        """The thumbprints (RFC 7638) of all keys."""
        return frozenset(self._keys)

    def named(self, kid: str) -> PublicKey | None:
        """Return the key of this thumbprint, if it is one of ours."""
        return self._keys.get(kid)

    def window(self, kid: str) -> Window:
        """When the key of this thumbprint signs."""
        return self._windows.get(kid, ALWAYS)

    def signs_at(self, kid: str, moment: datetime) -> bool:
        """Whether the key of this thumbprint is one of ours and signs at a moment."""
        window = self.window(kid)
        return kid in self._keys and window.begins_at <= moment < window.ends_at


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the JWK thumbprint (RFC 7638), SHA-256 in base64url."""
    required = {name: jwk[name] for name in ("crv", "kty", "x", "y") if name in jwk}
    return base64url(sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).digest())


def has_low_s(signature: bytes) -> bool:
    """Whether an ES256 signature, 64 bytes, is the one of the two that has the smaller `s`."""
    return len(signature) == 64 and int.from_bytes(signature[32:], "big") <= _P256_ORDER // 2


def algorithm_of(key: PublicKey) -> str:
    """The JWS algorithm that goes with a key."""
    return "EdDSA" if isinstance(key, ed25519.Ed25519PublicKey) else "ES256"


def _jwk(key: PublicKey) -> dict[str, str]:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_bytes_raw())}
    if not isinstance(key.curve, ec.SECP256R1):
        raise InvalidRequest("the key is on another curve than P-256")
    numbers = key.public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": base64url(numbers.x.to_bytes(32)), "y": base64url(numbers.y.to_bytes(32))}


def _window(jwk: Mapping[str, object]) -> Window:
    window = Window(
        time(jwk["nbf"]) if "nbf" in jwk else ALWAYS.begins_at, time(jwk["exp"]) if "exp" in jwk else ALWAYS.ends_at
    )
    if window.ends_at <= window.begins_at:
        raise ValueError("a key that ends before it begins")
    return window


def _from_jwk(jwk: dict[str, object]) -> tuple[str, PublicKey]:
    """Read one public key; its `kid`, where given, must be its thumbprint, and its `alg` the one we would use."""
    key: PublicKey
    match jwk:
        case {"kty": "EC", "crv": "P-256", "x": x, "y": y}:
            numbers = (int.from_bytes(digest(x)), int.from_bytes(digest(y)))
            key = ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()
        case {"kty": "OKP", "crv": "Ed25519", "x": x}:
            key = ed25519.Ed25519PublicKey.from_public_bytes(digest(x))
        case _:
            raise ValueError("another kind of key")
    kid, algorithm = thumbprint(_jwk(key)), algorithm_of(key)
    if "d" in jwk or jwk.get("kid", kid) != kid or jwk.get("alg", algorithm) != algorithm:
        raise ValueError("a private key, or a name or algorithm that is not this key's")
    return kid, key
