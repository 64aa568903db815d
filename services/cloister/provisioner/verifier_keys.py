"""The verifier's public keys, from a file that is read again when it changes.

Only keys whose thumbprints the settings pin count: whoever can write the file, and not the settings, can have no key
of their own believed. A pinned key that was taken out of the file is not believed from the next release on, one that
was put in is. A file that cannot be read, or holds no pinned key, changes nothing and is logged. Blocking and thread
safe.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path

from cloister.ear import KeySet
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.log import get_logger

_MAX_BYTES = 256 * 1024
_log = get_logger()


class VerifierKeys:
    """The pinned keys in a JWKS file.

    Args:
        path: The file.
        thumbprints: Of the keys that count (RFC 7638).
    """

    def __init__(self, path: Path, thumbprints: Collection[str]) -> None:
        self._path = path
        self._thumbprints = frozenset(thumbprints)
        self._lock = threading.Lock()
        try:
            self._stamp = _stamp(path)
            self._keys = self._read()
        except (OSError, InvalidRequest) as error:
            raise NotReady(f"verifier_keys {path} is not usable: {error}", reason="verifier_keys.unusable") from error

    def current(self) -> KeySet:
        """The keys as the file has them now."""
        with self._lock:
            try:
                stamp = _stamp(self._path)
                if stamp != self._stamp:
                    self._keys = self._read()
                    self._stamp = stamp  # only now: what could not be read is tried again
                    _log.info("verifier_keys.reloaded", kids=sorted(self._keys.thumbprints))
            except (OSError, InvalidRequest) as error:
                _log.error("verifier_keys.unusable", path=str(self._path), error=error)
            return self._keys

    def _read(self) -> KeySet:
        with self._path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise InvalidRequest("the key set is too large")
        return KeySet.from_jwks(raw, pinned_thumbprints=self._thumbprints)


def _stamp(path: Path) -> tuple[int, int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
