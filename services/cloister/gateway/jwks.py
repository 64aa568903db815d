"""The keys of an issuer of tokens: a JSON Web Key Set (RFC 7517), read strictly.

Keys that cannot verify a token of ours are passed over: of kinds that we do not take, for encryption, without an id.
What no set should hold, a private or shared key or one id twice, is refused as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import algorithms
from jwt.exceptions import PyJWTError

from cloister.errors import InvalidRequest
from cloister.gateway.access_token import PublicKey

MAX_SET_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 64
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
REASON: Final = "jwks.invalid"
_KINDS: Final[Mapping[str, Callable[[Any], object]]] = {
    "EC": algorithms.ECAlgorithm.from_jwk,
    "OKP": algorithms.OKPAlgorithm.from_jwk,
    "RSA": algorithms.RSAAlgorithm.from_jwk,
}
_SECRET: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
Jwks = Mapping[str, PublicKey]
"""Public keys by their ids."""


def parse_jwks(raw: bytes) -> Jwks:
    """Read a set.

    Raises:
        InvalidRequest: It is none, holds what it should not, or no key that verifies tokens (`jwks.invalid`).
    """
    try:
        if len(raw) > MAX_SET_BYTES:
            raise ValueError("it is too large")
        members = json.loads(raw)
        rows = members["keys"] if isinstance(members, dict) else None
        if not isinstance(rows, list) or len(rows) > MAX_KEYS or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"it has no list of at most {MAX_KEYS} keys")
        return _keys(rows)
    except (ValueError, KeyError, RecursionError) as error:
        said = f": {error}" if type(error) is ValueError else ""
        raise InvalidRequest(f"not a JSON Web Key Set to verify tokens with{said}", reason=REASON) from error


def _keys(rows: list[dict[str, Any]]) -> Jwks:
    keys: dict[str, PublicKey] = {}
    for row in rows:
        if _SECRET & row.keys():
            raise ValueError("it holds a key that is not public")
        kid, kind = row.get("kid"), row.get("kty")
        if not isinstance(kid, str) or not kid or not isinstance(kind, str):
            continue
        if kind not in _KINDS or row.get("use", "sig") != "sig":
            continue
        if kid in keys:
            raise ValueError("it has two keys of one id")
        key = _key(row)
        if key is not None:
            keys[kid] = key
    if not keys:
        raise ValueError("it has no key of a kind and with an id that tokens can be verified by")
    return keys


def _key(row: dict[str, Any]) -> PublicKey | None:
    try:
        key: object = _KINDS[row["kty"]](row)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, rsa.RSAPublicKey):
        return key if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS else None
    return key if isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) else None
