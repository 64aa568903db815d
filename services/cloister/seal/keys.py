"""Secrets that do not show themselves, and the one way to derive a key from another (HKDF-SHA256, RFC 5869)."""

from __future__ import annotations

import secrets
from typing import Final, NewType, NoReturn

from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

KEY_BYTES: Final = 32


class Secret:
    """Bytes that no log, error, repr or pickle will hold by accident."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = bytes(raw)

    @classmethod
    def random(cls, length: int = KEY_BYTES) -> Secret:
        """Return `length` fresh random bytes."""
        return cls(secrets.token_bytes(length))

    def reveal(self) -> bytes:
        """Return the bytes themselves; keep what is returned out of messages."""
        return self._raw

    def __len__(self) -> int:
        return len(self._raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and constant_time.bytes_eq(self._raw, other._raw)

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret says something about it

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not serialised")


ModelKey = NewType("ModelKey", Secret)
"""What a model is sealed with; 32 bytes, from the owner through the provisioner to an attested worker."""


def derive(secret: Secret, *, salt: bytes, info: bytes, length: int = KEY_BYTES) -> Secret:
    """Return a key from `secret` by HKDF-SHA256, extract and expand."""
    return Secret(HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret.reveal()))


def expand(secret: Secret, info: bytes, length: int = KEY_BYTES) -> Secret:
    """Return a key from a `secret` that is already uniformly random, by HKDF-SHA256's expand step alone."""
    return Secret(HKDFExpand(algorithm=hashes.SHA256(), length=length, info=info).derive(secret.reveal()))
