"""The verifier's public keys, as the measured settings pin them: one by one, or by who may say which they are.

With key signers in the settings, the file holds a signed key set to begin with, and newer sets that the same people
signed are learned from the verifier; what evidence speaks for is then the signers, so a rotation changes no
measurement. Without, the file holds a plain JSON Web Key Set that is read once and is itself part of what evidence
speaks for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cloister.ear import KeySet
from cloister.errors import InvalidRequest, NotReady, Unavailable
from cloister.kit.key_set import MAX_KEY_SET_BYTES, KeySigners
from cloister.kit.verifier_keys import LearnedKeys
from cloister.rpc.files import read_public


@dataclass(frozen=True, slots=True)
class VerifierKeys:
    """The keys that our Attestation Results are signed with.

    Attributes:
        pinned: What the configuration's digest covers: the file's bytes, or none where signers are pinned.
    """

    pinned: bytes = field(repr=False)
    _keys: KeySet | LearnedKeys

    @classmethod
    def read(
        cls, path: Path, signers: KeySigners | None, *, issuer: str, monotonic: Callable[[], float]
    ) -> VerifierKeys:
        """Read the keys in a file.

        Raises:
            NotReady: The file cannot be read, holds no key, or is not signed as it must be.
        """
        try:
            raw = read_public(path, most_bytes=MAX_KEY_SET_BYTES)
            if signers is None:
                return cls(raw, KeySet.from_jwks(raw))
            return cls(b"", LearnedKeys(signers, issuer, raw, monotonic=monotonic))
        except (NotReady, InvalidRequest) as error:
            raise NotReady(f"verifier_keys {path} is not usable: {error}", reason="verifier_keys.unusable") from error

    @property
    def keys(self) -> KeySet:
        """Those that count now."""
        return self._keys.keys if isinstance(self._keys, LearnedKeys) else self._keys

    def learn(self, key_set: bytes) -> None:
        """Take over a newer signed set; raises InvalidRequest when it is not signed as it must be."""
        if isinstance(self._keys, LearnedKeys):
            self._keys.learn(key_set)

    def knows(self, token: str) -> bool:
        """Whether the key that a token says it is signed with is one of these."""
        return not isinstance(self._keys, LearnedKeys) or self._keys.knows(token)

    async def look_for(self, token: str, fetch: Callable[[], Awaitable[bytes]]) -> None:
        """Ask for a newer set if a token is by a key that is not known; see `LearnedKeys.look_for`.

        Raises:
            Unavailable: It is not known still (`token.key_unknown`). The set that names it may be on its way, so a
                worker goes on as it is, asks again, and ends with its membership if none comes.
        """
        if not isinstance(self._keys, LearnedKeys):
            return
        await self._keys.look_for(token, fetch)
        if not self.knows(token):
            raise Unavailable("the result is signed with a key that is not known here yet", reason="token.key_unknown")
