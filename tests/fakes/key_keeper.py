"""A root key that is elsewhere: wraps as a back end does, until it is down, slow, or answers what is no answer."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloister.errors import SealBroken, Unavailable
from cloister.seal.keys import Secret

WAIT_S = 30.0


@dataclass
class KeyKeeperElsewhere:
    """See `KeyKeeper`.

    Attributes:
        down: Whether it cannot be reached.
        answering: Unset while it does not answer.
        said: What is done to each key that it unwraps.
        asked: How many calls came.
        told: The additional data of each.
    """

    down: bool = False
    answering: threading.Event = field(default_factory=threading.Event)
    said: Callable[[bytes], bytes] = bytes
    asked: int = 0
    told: list[bytes] = field(default_factory=list)
    root: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def __post_init__(self) -> None:
        self.answering.set()

    def key_id(self) -> str:
        """See `KeyKeeper`."""
        return f"elsewhere:{self.root[:4].hex()}"

    def wrap_key(self, key: Secret, aad: bytes) -> bytes:
        """See `KeyKeeper`."""
        self._asked(aad)
        nonce = secrets.token_bytes(12)
        return nonce + AESGCM(self.root).encrypt(nonce, key.reveal(), aad)

    def unwrap_key(self, wrapped: bytes, aad: bytes) -> Secret:
        """See `KeyKeeper`."""
        self._asked(aad)
        try:
            return Secret(self.said(AESGCM(self.root).decrypt(wrapped[:12], wrapped[12:], aad)))
        except (InvalidTag, ValueError):
            raise SealBroken from None

    def _asked(self, aad: bytes) -> None:
        self.asked += 1
        self.told.append(aad)
        assert self.answering.wait(WAIT_S)
        if self.down:
            raise Unavailable("it cannot be reached", reason="vault.unavailable")
