"""Secrets under a root key that is elsewhere: in a token, or with another service.

Each secret is sealed here, under a key made for it alone, with AES-256-GCM and its record as additional data; that key
alone goes out to be wrapped. So who keeps the root key sees no secret of ours, and who sees our store sees no key. A
back end that hands out another key, half of one or none has handed out nothing: nothing authenticates under it. What
it wraps is unwrapped once before anything is kept under it.

    0x02 | length of the wrapped key, 2 bytes | wrapped key | nonce, 12 bytes | ciphertext and tag
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloister.errors import NotReady, SealBroken
from cloister.provisioner.vaults.guard import Guard
from cloister.provisioner.vaults.root_key import NONCE_BYTES, TAG_BYTES
from cloister.provisioner.vaults.vault import REFUSED, Record
from cloister.seal.keys import KEY_BYTES, Secret

_FORMAT: Final = b"\x02"
_HEAD_BYTES: Final = 3
MOST_WRAPPED_BYTES: Final = 4096


class KeyKeeper(Protocol):
    """Wraps keys under a root key of its own. Blocking; raises as `Vault` does."""

    def key_id(self) -> str:
        """See `Vault`; asks nobody."""

    def wrap_key(self, key: Secret, aad: bytes) -> bytes:
        """Wrap a key of 32 bytes, bound to 32 bytes of additional data."""

    def unwrap_key(self, wrapped: bytes, aad: bytes) -> Secret:
        """What comes back for it, whatever that is; raises SealBroken where it was not wrapped so."""


class EnvelopedVault:
    """See `Vault`; its root key is with a `KeyKeeper`, which is called behind a guard."""

    def __init__(self, keeper: KeyKeeper, guard: Guard) -> None:
        self._keeper = keeper
        self._guard = guard

    def key_id(self) -> str:
        """See `Vault`."""
        return self._keeper.key_id()

    def wrap(self, record: Record, secret: Secret) -> bytes:
        """See `Vault`."""
        aad = record.aad()
        key = Secret.random(KEY_BYTES)
        try:
            nonce = secrets.token_bytes(NONCE_BYTES)
            sealed = AESGCM(key.view).encrypt(nonce, secret.view, aad)
            wrapped = self._guard.call(lambda: self._wrapped(key, _bound_to(aad)))
        finally:
            key.wipe()
        return _FORMAT + len(wrapped).to_bytes(2, "big") + wrapped + nonce + sealed

    def unwrap(self, record: Record, wrapped: bytes) -> Secret:
        """See `Vault`."""
        wrapped_key, nonce, sealed = _parts(wrapped)
        aad = record.aad()
        key = self._guard.call(lambda: self._keeper.unwrap_key(wrapped_key, _bound_to(aad)))
        try:
            if len(key) != KEY_BYTES:
                raise NotReady(f"the vault gave back no key of {KEY_BYTES} bytes", reason=REFUSED)
            opened = bytearray(len(sealed) - TAG_BYTES)
            AESGCM(key.view).decrypt_into(nonce, sealed, aad, opened)
        except InvalidTag:
            raise SealBroken from None
        finally:
            key.wipe()
        return Secret.taken(opened)

    def _wrapped(self, key: Secret, aad: bytes) -> bytes:
        """The key, wrapped; what does not come back as it was is not kept."""
        wrapped = self._keeper.wrap_key(key, aad)
        try:
            comes_back = 0 < len(wrapped) <= MOST_WRAPPED_BYTES and self._keeper.unwrap_key(wrapped, aad) == key
        except SealBroken:
            comes_back = False
        if not comes_back:
            raise NotReady("the vault wrapped a key so that it does not come back", reason=REFUSED)
        return wrapped


def _bound_to(aad: bytes) -> bytes:
    """What the back end is told of the record: nothing, but whether it is the same."""
    return hashlib.sha256(aad).digest()


def _parts(wrapped: bytes) -> tuple[bytes, bytes, bytes]:
    length = int.from_bytes(wrapped[1:_HEAD_BYTES], "big")
    nonce_at = _HEAD_BYTES + length
    sealed_at = nonce_at + NONCE_BYTES
    if not wrapped.startswith(_FORMAT) or not length or len(wrapped) < sealed_at + TAG_BYTES:
        raise SealBroken
    return wrapped[_HEAD_BYTES:nonce_at], wrapped[nonce_at:sealed_at], wrapped[sealed_at:]
