"""The verifier's public keys, from the file that the measured settings name; its content is in the settings' digest.

Read once: inside the enclave it is a trusted file. A worker that shall believe other keys is started anew, and measures
or claims otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from cloister.ear import KeySet
from cloister.errors import InvalidRequest, NotReady

_MAX_BYTES: Final = 256 * 1024


class VerifierKeys(NamedTuple):
    """A JSON Web Key Set, and the bytes it was read from."""

    raw: bytes
    keys: KeySet

    @classmethod
    def read(cls, path: Path) -> VerifierKeys:
        """Read the key set in a file.

        Raises:
            NotReady: The file cannot be read or holds no key.
        """
        try:
            with path.open("rb") as file:
                raw = file.read(_MAX_BYTES + 1)
            if len(raw) > _MAX_BYTES:
                raise InvalidRequest("the key set is too large")
            return cls(raw, KeySet.from_jwks(raw))
        except (OSError, InvalidRequest) as error:
            raise NotReady(f"verifier_keys {path} is not usable: {error}", reason="verifier_keys.unusable") from error
