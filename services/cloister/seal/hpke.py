"""Sealing to a public key: HPKE base mode (RFC 9180), one message per encapsulation, HKDF-SHA256 and AES-256-GCM.

Two suites:

| name     | KEM                             | public key                        | enc                                |
|----------|---------------------------------|-----------------------------------|------------------------------------|
| `xwing`  | 0x647a, ML-KEM-768 with X25519  | 1184 bytes ML-KEM, 32 bytes X25519 | 1088 bytes ML-KEM, 32 bytes X25519 |
| `x25519` | 0x0020                          | 32 bytes                          | 32 bytes                           |

On the wire a sealed message is `enc`, then the ciphertext with its 16-byte tag. A private key is made from 32 random
bytes; for `xwing` these are the X-Wing seed, which SHAKE256 expands to the ML-KEM seed and the X25519 key.
What a message is for goes into `info`, built by `context`, never into the plaintext alone.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from cloister.errors import InvalidRequest, SealBroken

XWING: Final = "xwing"
X25519: Final = "x25519"
SUITES: Final = frozenset({XWING, X25519})
PUBLIC_BYTES: Final = {XWING: 1216, X25519: 32}
ENC_BYTES: Final = {XWING: 1120, X25519: 32}
TAG_BYTES: Final = 16
KEY_ID_BYTES: Final = 8
SEED_BYTES: Final = 32

_MLKEM_PUBLIC_BYTES: Final = 1184
_MLKEM_SEED_BYTES: Final = 64
_PrivateKey: TypeAlias = hpke.MLKEM768X25519PrivateKey | X25519PrivateKey
_PublicKey: TypeAlias = hpke.MLKEM768X25519PublicKey | X25519PublicKey
_HPKE: Final = {
    XWING: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
    X25519: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
}


class KeyPair:
    """A private key of one suite, held in this process only, and its public half.

    Attributes:
        suite: `xwing` or `x25519`.
        public: The public key as it travels.
        key_id: What it is called for short; see `key_id`.
    """

    __slots__ = ("_private", "key_id", "public", "suite")

    def __init__(self, suite: str, private: _PrivateKey, public: bytes) -> None:
        self.suite = suite
        self.public = public
        self.key_id = key_id(suite, public)
        self._private = private

    @classmethod
    def generate(cls, suite: str = XWING) -> KeyPair:
        """Make a fresh key pair: no seed of it is ever in Python's memory, whose bytes nothing wipes.

        The private halves are OpenSSL's own objects, which it overwrites when the pair is dropped.

        Raises:
            InvalidRequest: Unknown suite.
        """
        if suite not in SUITES:
            raise InvalidRequest("not a known HPKE suite")
        x25519 = X25519PrivateKey.generate()
        if suite == X25519:
            return cls(suite, x25519, x25519.public_key().public_bytes_raw())
        return cls._xwing(MLKEM768PrivateKey.generate(), x25519)

    @classmethod
    def from_seed(cls, suite: str, seed: bytes | memoryview) -> KeyPair:
        """Make the key pair of a 32-byte seed: the same seed gives the same keys.

        Raises:
            InvalidRequest: Unknown suite, or a seed of another length.
        """
        if suite not in SUITES or len(seed) != SEED_BYTES:
            raise InvalidRequest("not a seed of a known HPKE suite")
        if suite == X25519:
            private = X25519PrivateKey.from_private_bytes(seed)
            return cls(suite, private, private.public_key().public_bytes_raw())
        expanded = hashlib.shake_256(seed).digest(_MLKEM_SEED_BYTES + SEED_BYTES)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
        return cls._xwing(mlkem, X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:]))

    @classmethod
    def _xwing(cls, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> KeyPair:
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        return cls(XWING, hpke.MLKEM768X25519PrivateKey(mlkem, x25519), public)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return what was sealed to this key for this purpose.

        Raises:
            SealBroken: Sealed to another key, for another purpose, or altered.
        """
        try:
            return _HPKE[self.suite].decrypt(sealed, self._private, info)
        except (InvalidTag, ValueError):
            raise SealBroken from None

    def __repr__(self) -> str:
        return f"KeyPair(suite={self.suite!r})"


def key_id(suite: str, public: bytes) -> bytes:
    """Return the short name of a public key, 8 bytes: which of a worker's keys a message is for, and no secret."""
    return hashlib.sha256(context("cloister hpke key v1", suite, public)).digest()[:KEY_ID_BYTES]


def seal(suite: str, public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal `plaintext` to a public key for the purpose `info`.

    Raises:
        InvalidRequest: The suite or the public key is not one.
    """
    key = _public_key(suite, public)
    try:
        return _HPKE[suite].encrypt(plaintext, key, info)
    except ValueError as error:
        raise InvalidRequest("the HPKE public key is not usable") from error


def context(label: str, *fields: bytes | str | int) -> bytes:
    """Return an `info` or `aad` from a label and fields, so that different fields never give the same bytes.

    Each item is a type letter, its length as four bytes, and its bytes; an integer is unsigned with eight bytes.
    """
    return b"".join(_item(field) for field in (label, *fields))


def _item(field: bytes | str | int) -> bytes:
    match field:
        case str():
            kind, raw = b"s", field.encode()
        case int():
            kind, raw = b"i", field.to_bytes(8, "big")
        case _:
            kind, raw = b"b", bytes(field)
    return kind + len(raw).to_bytes(4, "big") + raw


def _public_key(suite: str, public: bytes) -> _PublicKey:
    if suite not in SUITES or len(public) != PUBLIC_BYTES[suite]:
        raise InvalidRequest("not a public key of a known HPKE suite")
    try:
        x25519 = X25519PublicKey.from_public_bytes(public[-32:])
        if suite == X25519:
            return x25519
        mlkem = MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_BYTES])
        return hpke.MLKEM768X25519PublicKey(mlkem, x25519)
    except ValueError as error:
        raise InvalidRequest("the HPKE public key is not well formed") from error
