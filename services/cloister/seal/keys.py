"""Secrets that do not show themselves, and the one way to derive a key from another (HKDF-SHA256, RFC 5869).

A secret lies in memory that can be overwritten, and is used where it lies. What hands it in or takes it out as `bytes`
makes a copy that nothing can overwrite: Python frees it, and its place is used again, sooner or later.
"""

from __future__ import annotations

import secrets
from typing import Final, NewType, NoReturn

from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

KEY_BYTES: Final = 32


class Secret:
    """Bytes that no log, error, repr or pickle will hold by accident."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes | bytearray | memoryview) -> None:
        self._raw = bytearray(raw)

    @classmethod
    def random(cls, length: int = KEY_BYTES) -> Secret:
        """Return `length` fresh random bytes."""
        return cls(secrets.token_bytes(length))

    @classmethod
    def taken(cls, raw: bytearray) -> Secret:
        """Take this memory over, rather than to copy it."""
        secret = cls(b"")
        secret._raw = raw
        return secret

    @property
    def view(self) -> memoryview:
        """The bytes where they lie, read-only: for ciphers and derivations."""
        return memoryview(self._raw).toreadonly()

    def reveal(self) -> bytes:
        """Return a copy of the bytes, for files and wires; keep what is returned out of messages."""
        return bytes(self._raw)

    def wipe(self) -> None:
        """Overwrite the bytes; whoever used them before this keeps what was made of them, and nobody can again."""
        self._raw[:] = bytes(len(self._raw))

    def __len__(self) -> int:
        return len(self._raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and constant_time.bytes_eq(self.reveal(), other.reveal())

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret says something about it

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not serialised")


ModelKey = NewType("ModelKey", Secret)
"""What a model is sealed with; 32 bytes, from the owner through the provisioner to an attested worker."""


def derive(secret: Secret, *, salt: bytes, info: bytes, length: int = KEY_BYTES) -> Secret:
    """Return a key from `secret` by HKDF-SHA256, extract and expand."""
    derived = bytearray(length)
    HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive_into(secret.view, derived)
    return Secret.taken(derived)


def expand(secret: Secret, info: bytes, length: int = KEY_BYTES) -> Secret:
    """Return a key from a `secret` that is already uniformly random, by HKDF-SHA256's expand step alone."""
    derived = bytearray(length)
    HKDFExpand(algorithm=hashes.SHA256(), length=length, info=info).derive_into(secret.view, derived)
    return Secret.taken(derived)
