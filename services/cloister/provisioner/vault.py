"""Keys at rest: each wrapped under a root key, and bound to the record that it belongs to.

The file back end wraps with AES-256-GCM (NIST SP 800-38D) under a key derived from 32 bytes in a file. The additional
data holds all that the record says, and the owner's key: a wrapped key that was moved to another record, or whose
record was given another owner, manifest, policy or time, does not unwrap. What it does not stop is the whole store put
back to an older state.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloister.errors import NotReady, SealBroken
from cloister.rpc.files import read_private
from cloister.seal.hpke import context
from cloister.seal.keys import Secret, expand

ROOT_KEY_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = b"\x01"


class Record(Protocol):
    """What a wrapped key is bound to; all of it is stored beside the key in clear."""

    def aad(self) -> bytes:
        """All of it, unambiguously: no two records have the same."""


@dataclass(frozen=True, slots=True)
class RecordId:
    """What the key of a model is bound to."""

    model_name: str
    model_version: int
    manifest_sha256: bytes
    owner_key: bytes

    def aad(self) -> bytes:
        """These fields, unambiguously, as the wrap's additional data."""
        return context(
            "cloister vault record v1", self.model_name, self.model_version, self.manifest_sha256, self.owner_key
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochId:
    """What the seed of an epoch's key is bound to; times are Unix time in milliseconds."""

    model_name: str
    epoch: int
    suite: str
    began_ms: int
    seal_until_ms: int
    open_until_ms: int
    policy_sha256: bytes
    owner_key: bytes

    def aad(self) -> bytes:
        """These fields, unambiguously, as the wrap's additional data."""
        times = (self.began_ms, self.seal_until_ms, self.open_until_ms)
        named = (self.model_name, self.epoch, self.suite)
        return context("cloister vault epoch v1", *named, *times, self.policy_sha256, self.owner_key)


@dataclass(frozen=True, slots=True)
class LogKeyId:
    """What the seed of the key that signs a cluster's log is bound to."""

    cluster: str
    public: bytes

    def aad(self) -> bytes:
        """These fields, unambiguously, as the wrap's additional data."""
        return context("cloister vault log key v1", self.cluster, self.public)


class Vault(Protocol):
    """Keeps keys from whoever reads the store. Blocking: called off the event loop."""

    def key_id(self) -> str:
        """Name of the root key in use; a record remembers the one that wrapped it."""

    def wrap(self, record: Record, key: Secret) -> bytes:
        """Wrap `key` for `record`; raises Unavailable when the back end does not answer."""

    def unwrap(self, record: Record, wrapped: bytes) -> Secret:
        """Return the key; raises SealBroken when it was not wrapped for exactly this record, or Unavailable."""


class FileVault:
    """The root key is a file on this machine."""

    def __init__(self, root: Secret) -> None:
        if len(root) != ROOT_KEY_BYTES:
            raise NotReady(f"it is not {ROOT_KEY_BYTES} bytes", reason="root_key.unusable")
        self._key_id = expand(root, b"cloister vault key id v1", 16).reveal().hex()
        self._aead = AESGCM(expand(root, b"cloister vault wrap v1").view)

    @classmethod
    def opened(cls, path: Path) -> FileVault:
        """Read the root key.

        Raises:
            NotReady: The file is not a regular one of 32 bytes that nobody but its owner can read.
        """
        try:
            return cls(Secret(read_private(path)))
        except NotReady as error:
            raise NotReady(f"the root key is not usable: {error}", reason="root_key.unusable") from error

    def key_id(self) -> str:
        """Name of the root key: derived from it, tells nothing about it."""
        return self._key_id

    def wrap(self, record: Record, key: Secret) -> bytes:
        """Wrap `key` so that it opens for `record` only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._aead.encrypt(nonce, key.view, record.aad())

    def unwrap(self, record: Record, wrapped: bytes) -> Secret:
        """Return what was wrapped for exactly this record under this root key; else raises SealBroken."""
        start = len(_FORMAT) + _NONCE_BYTES
        if not wrapped.startswith(_FORMAT) or len(wrapped) < start:
            raise SealBroken
        try:
            return Secret(self._aead.decrypt(wrapped[len(_FORMAT) : start], wrapped[start:], record.aad()))
        except InvalidTag:
            raise SealBroken from None
