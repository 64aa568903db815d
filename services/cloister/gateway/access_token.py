"""Tokens of an issuer that an operator trusts: read one, verify its signature, hold it against what it must be. Pure.

A JWT in its compact form (RFC 7519, 7515), signed with a private key: a secret that both sides share would let this
gateway, and whoever reads its settings, issue tokens. The key is the one of the issuer's set that `kid` names; nothing
that comes with the token says where keys are. Members that are checked have the one JSON type that they may have, none
is given twice, and the times that every token must state are those of RFC 9068.

Other than Attestation Results (`ear`), these come from programs that we do not choose: their headers may say more than
we ask for, and of an ECDSA signature both forms are taken. Nobody gains by a second spelling of a token: it is shown
again and again until it ends, and is not what we count by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeAlias, cast

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from cloister.ear.members import from_base64url
from cloister.errors import Unauthenticated

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

MAX_TOKEN_BYTES: Final = 8 * 1024
LEEWAY_S: Final = 30
_MAX_TEXT: Final = 1024
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_REFUSED_HEADERS: Final = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"})


def _on(curve: type[ec.EllipticCurve]) -> Callable[[PublicKey], bool]:
    return lambda key: isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, curve)


def _is_rsa(key: PublicKey) -> bool:
    return isinstance(key, rsa.RSAPublicKey)


ALGORITHMS: Final[Mapping[str, Callable[[PublicKey], bool]]] = {
    "ES256": _on(ec.SECP256R1),
    "ES384": _on(ec.SECP384R1),
    "ES512": _on(ec.SECP521R1),
    "EdDSA": lambda key: isinstance(key, ed25519.Ed25519PublicKey),
    "PS256": _is_rsa,
    "PS384": _is_rsa,
    "PS512": _is_rsa,
    "RS256": _is_rsa,
    "RS384": _is_rsa,
    "RS512": _is_rsa,
}
"""What may be allowed at all, and the keys that go with each; nothing else is ever verified."""
DEFAULT_ALGORITHMS: Final = ("ES256", "ES384", "EdDSA", "PS256", "RS256")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A token as it was read; believed by nobody until its signature is verified.

    Attributes:
        algorithm: It says it is signed with.
        kid: Of the key that it says it is signed with.
        issuer: `iss`.
        subject: `sub`.
        audience: `aud`, one or several.
        issued_at: `iat`, Unix time in seconds, as are the next two.
        expires_at: `exp`.
        not_before: `nbf`; 0 where there is none.
        members: All of the payload.
    """

    algorithm: str
    kid: str
    issuer: str
    subject: str
    audience: Sequence[str]
    issued_at: int
    expires_at: int
    not_before: int
    members: Mapping[str, Any] = field(repr=False)

    def holds(self, claim: str, value: str) -> bool:
        """Whether a claim is this text, or a list of texts that holds it."""
        found = self.members.get(claim)
        texts = found if isinstance(found, list) else [found]
        return all(isinstance(each, str) for each in texts) and value in texts


def read(token: str) -> AccessToken:
    """Take a token apart.

    Raises:
        Unauthenticated: It is none (`token.malformed`).
    """
    try:
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError("too long")
        segments = [from_base64url(segment) for segment in token.split(".", 3)]
        if len(segments) != 3:
            raise ValueError("not three segments")
        header, payload = _object(segments[0]), _object(segments[1])
        if _REFUSED_HEADERS & header.keys() or str(header.get("typ", "JWT")).lower() not in _TYPES:
            raise ValueError("a header that says where keys are, what is critical, or another type")
        return AccessToken(
            algorithm=_text(header["alg"]),
            kid=_text(header["kid"]),
            issuer=_text(payload["iss"]),
            subject=_text(payload["sub"]),
            audience=_audience(payload["aud"]),
            issued_at=_time(payload["iat"]),
            expires_at=_time(payload["exp"]),
            not_before=_time(payload.get("nbf", 0)),
            members=payload,
        )
    except (ValueError, KeyError, RecursionError) as error:
        raise refused("malformed") from error


def verify_signature(token: str, algorithm: str, key: PublicKey) -> None:
    """Hold a token's signature against a key.

    Raises:
        Unauthenticated: It is not by this key, or the algorithm is not one of the key's (`token.signature`).
    """
    if not ALGORITHMS.get(algorithm, _no_key)(key):
        raise refused("signature")
    try:
        PyJWS(algorithms=[algorithm]).decode(token, key, algorithms=[algorithm])
    except (PyJWTError, ValueError) as error:
        raise refused("signature") from error


def check_terms(token: AccessToken, *, audience: str, max_life_s: float, now_s: float) -> None:
    """Hold what a token says against what it must.

    Raises:
        Unauthenticated: `token.audience`, `.not_yet`, `.expired` or `.too_long`.
    """
    if list(token.audience) != [audience]:
        raise refused("audience")
    if max(token.issued_at, token.not_before) > now_s + LEEWAY_S:
        raise refused("not_yet")
    if token.expires_at <= now_s - LEEWAY_S:
        raise refused("expired")
    if not 0 < token.expires_at - token.issued_at <= max_life_s:
        raise refused("too_long")


def refused(why: str) -> Unauthenticated:
    """The error for a token that is not accepted."""
    return Unauthenticated(f"the token is not accepted: {why}", reason=f"token.{why}")


def _no_key(_: PublicKey) -> bool:
    return False


def _object(raw: bytes) -> dict[str, Any]:
    found = json.loads(raw, object_pairs_hook=_unique, parse_constant=_not_json)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return cast(dict[str, Any], found)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _not_json(_: str) -> NoReturn:
    raise ValueError("a number that JSON does not have")


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        raise ValueError("not a text")
    return value


def _audience(value: object) -> Sequence[str]:
    return tuple(_text(each) for each in value) if isinstance(value, list) else (_text(value),)


def _time(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ValueError("not a time")
    return value
