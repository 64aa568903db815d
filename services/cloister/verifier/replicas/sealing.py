"""Records sealed by one replica for all: who has Redis in his power forges none, and learns ids, sizes and times.

AES-256-GCM. Each process derives a key of its own from the shared one and a random salt, which begins every record, so
its counter can be the nonce and never comes twice under one key. The place where a record belongs is authenticated
with it: a record that is moved to another place does not open.
"""

from __future__ import annotations

import itertools
import secrets
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cloister.errors import SealBroken

SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
_LABEL: Final = b"cloister verifier state v1\0"


class RecordSeal:
    """Seals and opens for one cluster. Called on the event loop only.

    Args:
        shared_key: 32 bytes that every replica has and Redis has not.
        cluster: Trust domain; another one's records do not open.
    """

    def __init__(self, shared_key: bytes, cluster: str) -> None:
        def derived(salt: bytes) -> AESGCM:
            info = _LABEL + cluster.encode()
            return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(shared_key))

        self._keys = lru_cache(maxsize=1024)(derived)
        self._salt = secrets.token_bytes(SALT_BYTES)
        self._counter = itertools.count()

    def seal(self, place: str, plain: bytes) -> bytes:
        """`plain`, for `place` and nowhere else."""
        nonce = next(self._counter).to_bytes(NONCE_BYTES, "big")
        return self._salt + nonce + self._keys(self._salt).encrypt(nonce, plain, place.encode())

    def open(self, place: str, sealed: bytes) -> bytes:
        """What was sealed for `place`.

        Raises:
            SealBroken: By none of us, changed, or moved from another place (`state.forged`).
        """
        salt, nonce = sealed[:SALT_BYTES], sealed[SALT_BYTES : SALT_BYTES + NONCE_BYTES]
        try:
            return self._keys(salt).decrypt(nonce, sealed[SALT_BYTES + NONCE_BYTES :], place.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBroken(reason="state.forged") from error
