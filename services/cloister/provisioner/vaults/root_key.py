"""A root key in this process's memory: what the key file, the passphrase and the enclave's sealing key come to.

Wraps with AES-256-GCM (NIST SP 800-38D) under a key derived from the root; a few microseconds each way.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloister.errors import SealBroken
from cloister.provisioner.vaults.vault import Record
from cloister.seal.keys import Secret, expand

ROOT_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_FORMAT: Final = b"\x01"


class RootKeyVault:
    """See `Vault`.

    Args:
        root: 32 bytes, uniformly random; raises ValueError for any other length.
    """

    def __init__(self, root: Secret) -> None:
        if len(root) != ROOT_KEY_BYTES:
            raise ValueError(f"a root key is {ROOT_KEY_BYTES} bytes")
        self._key_id = expand(root, b"cloister vault key id v1", 16).reveal().hex()
        self._aead = AESGCM(expand(root, b"cloister vault wrap v1").view)

    def key_id(self) -> str:
        """Name of the root key: derived from it."""
        return self._key_id

    def wrap(self, record: Record, secret: Secret) -> bytes:
        """See `Vault`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return _FORMAT + nonce + self._aead.encrypt(nonce, secret.view, record.aad())

    def unwrap(self, record: Record, wrapped: bytes) -> Secret:
        """See `Vault`."""
        start = len(_FORMAT) + NONCE_BYTES
        length = len(wrapped) - start - TAG_BYTES
        if not wrapped.startswith(_FORMAT) or length < 0:
            raise SealBroken
        opened = bytearray(length)
        sealed = memoryview(wrapped)
        try:
            self._aead.decrypt_into(sealed[len(_FORMAT) : start], sealed[start:], record.aad(), opened)
        except InvalidTag:
            raise SealBroken from None
        return Secret.taken(opened)
