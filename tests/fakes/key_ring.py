"""A verifier's signed keys: good until a test breaks one thing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.ear import SigningKey
from cloister.kit.key_set import KeySigners, signed, timed
from fakes.results import NOW, VERIFIER

YEAR = timedelta(days=365)


def public(key: Ed25519PrivateKey) -> str:
    """Its public half, as settings name it."""
    return key.public_key().public_bytes_raw().hex()


@dataclass
class SignedKeys:
    """One signer, and sets that it signs.

    Attributes:
        old: Signs until `turns_at`; `new` signs from then on.
    """

    signer: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    old: SigningKey = field(default_factory=SigningKey.generate)
    new: SigningKey = field(default_factory=SigningKey.generate)
    turns_at: datetime = NOW + timedelta(minutes=10)
    issuer: str = VERIFIER

    @property
    def signers(self) -> KeySigners:
        """Who is trusted."""
        return KeySigners(frozenset({public(self.signer)}))

    def first(self, **changes: Any) -> bytes:
        """Version 1: the old key alone, for a year."""
        began = self.turns_at - YEAR / 2
        return self.write([timed(self.old.jwk(), began, began + YEAR)], **{"version": 1, **changes})

    def second(self, **changes: Any) -> bytes:
        """Version 2: the new key takes over."""
        began = self.turns_at - YEAR / 2
        rows = [
            timed(self.old.jwk(), began, self.turns_at),
            timed(self.new.jwk(), self.turns_at, self.turns_at + YEAR),
        ]
        return self.write(rows, **{"version": 2, **changes})

    def write(self, rows: list[dict[str, Any]], **changes: Any) -> bytes:
        """A set with these keys."""
        said: dict[str, Any] = {"issuer": self.issuer, "signers": [self.signer], **changes}
        return signed(rows, **said)
