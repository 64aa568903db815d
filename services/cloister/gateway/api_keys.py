"""API keys: `clk_<id>_<secret>`. The id says which key it is; the secret is 256 random bits, in base64url.

What is kept is the SHA-256 of the whole text. A slow hash is for passwords, which people choose and others can guess;
nobody guesses 256 random bits, however quickly a guess is checked, and a slow one would let anybody make us work.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "clk_"
KEY_ID: Final = re.compile(r"[0-9a-f]{10}")
_KEY: Final = re.compile(r"clk_([0-9a-f]{10})_[A-Za-z0-9_-]{43}")
_NOBODYS: Final = hashlib.sha256(b"nobody's key").digest()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is handed out, once."""

    id: str
    text: str = field(repr=False)

    @property
    def sha256(self) -> str:
        """What is kept of it, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def new_key() -> ApiKey:
    """Make a key."""
    identifier = secrets.token_hex(5)
    return ApiKey(identifier, f"{PREFIX}{identifier}_{secrets.token_urlsafe(32)}")


def key_id(text: str) -> str:
    """Which key a text says it is; empty where it has not the form of one."""
    found = _KEY.fullmatch(text)
    return found[1] if found is not None else ""


def matches(text: str, digest: bytes | None) -> bool:
    """Whether a text is the key of which this SHA-256 is kept; takes as long where none is kept."""
    told = hashlib.sha256(text.encode()).digest()
    return hmac.compare_digest(told, digest if digest is not None else _NOBODYS) and digest is not None
