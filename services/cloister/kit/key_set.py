"""The verifier's keys, as those vouch for them who may: a JSON Web Key Set in a signed envelope (decision 0012).

Who relies on Attestation Results pins the people who say which keys sign them (k of n Ed25519 keys, kept off-line), not
the keys themselves. Each key in the set has the times that it signs in, and each set has a number: of two sets the one
with the higher number counts, so an old one cannot be served again to who knows a newer. A key that was stolen after
it retired signs nothing that is believed: what it signs must be issued within its times, and has ended since. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.ear import KeySet
from cloister.errors import InvalidRequest

PAYLOAD_TYPE: Final = "application/vnd.cloister.verifier-keys+json"
MAX_KEY_SET_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 64
_MEMBERS: Final = {"issuer", "version", "keys"}
REASON: Final = "verifier_keys.refused"


@dataclass(frozen=True, slots=True)
class KeySigners:
    """Who may say which keys are the verifier's: Ed25519 public keys in hex, and how many of them must."""

    keys: frozenset[str]
    threshold: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(self.keys):
            raise InvalidRequest("key_threshold is at least 1, and at most the number of key_signers")
        if any(len(key) != 64 or not set(key) <= set("0123456789abcdef") for key in self.keys):
            raise InvalidRequest("key_signers: one is not 64 lower-case hex digits")


@dataclass(frozen=True, slots=True)
class SignedKeySet:
    """A set that was found signed.

    Attributes:
        version: 1, 2, 3, ...
        issuer: SPIFFE id of the verifier whose keys they are.
        jwks: The keys with their times, as JSON Web Keys.
        raw: The envelope.
    """

    version: int
    issuer: str
    jwks: Sequence[Mapping[str, Any]]
    keys: KeySet
    raw: bytes = field(repr=False)

    @classmethod
    def read(cls, envelope: bytes, signers: KeySigners, *, issuer: str) -> SignedKeySet:
        """Read a set, having found it signed by enough of `signers` for this verifier.

        Raises:
            InvalidRequest: It is not (`verifier_keys.refused`).
        """
        try:
            if len(envelope) > MAX_KEY_SET_BYTES:
                raise InvalidRequest("it is too large")
            payload = dsse.verified(envelope, PAYLOAD_TYPE, signers.keys, threshold=signers.threshold)
            found = cls._parsed(payload, envelope)
        except (InvalidRequest, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidRequest(f"not a key set that is to be believed: {error}", reason=REASON) from error
        if found.issuer != issuer:
            raise InvalidRequest("the key set is another verifier's", reason=REASON)
        return found

    @classmethod
    def _parsed(cls, payload: bytes, envelope: bytes) -> SignedKeySet:
        members = json.loads(payload)
        if not isinstance(members, dict) or members.keys() != _MEMBERS:
            raise ValueError("its members are not issuer, version and keys")
        version, jwks = members["version"], members["keys"]
        keys = KeySet.from_jwks(json.dumps({"keys": jwks}))
        if type(version) is not int or version < 1:
            raise ValueError("its version is not a number from 1 on")
        if len(jwks) > MAX_KEYS or not all({"nbf", "exp"} <= key.keys() for key in jwks):
            raise ValueError("it has too many keys, or one without the times that it signs in")
        return cls(version, str(members["issuer"]), tuple(jwks), keys, envelope)

    def published(self, since: datetime) -> str:
        """The plain JSON Web Key Set of the keys that sign after `since`: any JOSE library reads it."""
        return json.dumps({"keys": [jwk for jwk in self.jwks if self.keys.window(str(jwk["kid"])).ends_at > since]})


def signed(
    jwks: Sequence[Mapping[str, Any]], *, issuer: str, version: int, signers: Sequence[Ed25519PrivateKey]
) -> bytes:
    """Return the envelope of a set; each key has `kid`, `nbf` and `exp`."""
    payload = json.dumps({"issuer": issuer, "version": version, "keys": list(jwks)}, separators=(",", ":"))
    return dsse.sign(payload.encode(), PAYLOAD_TYPE, signers)


def timed(jwk: Mapping[str, str], begins_at: datetime, ends_at: datetime) -> dict[str, Any]:
    """A JSON Web Key with the times that it signs in, whole seconds."""
    return {**jwk, "nbf": int(begins_at.timestamp()), "exp": int(ends_at.timestamp())}
