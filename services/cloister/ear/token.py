"""Tokens: issue one, check one.

A token is three segments of canonical base64url, at most 16 KiB. Its header holds `alg`, `kid` and `typ` and nothing
else, so no key ever comes with the token. Times are compared with the `now` that is handed in.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from jwt import get_algorithm_by_name

from cloister.ear.keys import TOKEN_TYPE, KeySet, SigningKey, algorithm_of, has_low_s
from cloister.ear.members import exact_object, from_base64url, parse_json, text
from cloister.ear.result import AttestationResult, from_claims, to_claims
from cloister.errors import EvidenceRejected

MAX_TOKEN_BYTES: Final = 16 * 1024
LEEWAY: Final = timedelta(seconds=30)


def issue(result: AttestationResult, key: SigningKey) -> str:
    """Return `result` as a signed token.

    Raises:
        ValueError: The result contradicts itself, or a field has not its form.
    """
    payload = to_claims(result)
    if from_claims(payload) != result:
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
            `.audience`, `.key_retired`, `.not_yet`, `.expired` or `.too_long`.
    """
    kid, payload = _verified_payload(token, keys)
    try:
        result = from_claims(parse_json(payload))
    except (ValueError, RecursionError) as error:
        raise _rejected("malformed") from error
    if result.issuer != issuer:
        raise _rejected("issuer")
    if result.audience != audience:
        raise _rejected("audience")
    if not keys.signs_at(kid, result.issued_at):
        raise _rejected("key_retired")
    if now is not None and result.issued_at > now + LEEWAY:
        raise _rejected("not_yet")
    if now is not None and result.expires_at <= now - LEEWAY:
        raise _rejected("expired")
    if result.expires_at - result.issued_at > max_life:
        raise _rejected("too_long")
    return result


def unverified(token: str) -> AttestationResult:
    """Return what a token says, believed by nobody: to show it, or to find out whether to distrust it all the more.

    Raises:
        EvidenceRejected: It is no token of this profile (`token.malformed`).
    """
    read = _read(token)
    try:
        return from_claims(parse_json(read.payload))
    except (ValueError, RecursionError) as error:
        raise _rejected("malformed") from error


def _rejected(why: str) -> EvidenceRejected:
    return EvidenceRejected(f"the Attestation Result is not accepted: {why}", reason=f"token.{why}")


def key_named(token: str) -> str:
    """Return the thumbprint of the key that a token says it is signed with; nothing about it is checked yet.

    Raises:
        EvidenceRejected: It is no token of this profile (`token.malformed`).
    """
    return _read(token).kid


class _Read(NamedTuple):
    """A token's parts, of the right form and believed by nobody yet."""

    kid: str
    algorithm: str
    payload: bytes
    signature: bytes


def _verified_payload(token: str, keys: KeySet) -> tuple[str, bytes]:
    read = _read(token)
    key = keys.named(read.kid)
    if key is None:
        raise _rejected("key_unknown")
    if read.algorithm != algorithm_of(key) or (read.algorithm == "ES256" and not has_low_s(read.signature)):
        raise _rejected("signature")
    # Its parts are read above, once; PyJWT would go through all of them again, a character at a time.
    signed = token.rpartition(".")[0].encode()
    if not get_algorithm_by_name(read.algorithm).verify(signed, key, read.signature):
        raise _rejected("signature")
    return read.kid, read.payload


def _read(token: str) -> _Read:
    """Check the token's form, and return its parts."""
    try:
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError("too long")
        segments = [from_base64url(segment) for segment in token.split(".", 3)]
        if len(segments) != 3:
            raise ValueError("not three segments")
        header = exact_object(parse_json(segments[0]), {"alg", "kid", "typ"})
        if header["typ"] != TOKEN_TYPE:
            raise ValueError("another type")
        return _Read(text(header["kid"]), text(header["alg"]), segments[1], segments[2])
    except (ValueError, RecursionError) as error:
        raise _rejected("malformed") from error
