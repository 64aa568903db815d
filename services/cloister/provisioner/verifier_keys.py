"""The verifier's public keys: from a file that is read again when it changes, and from the verifier itself.

Where the settings name key signers, the file holds a signed key set: only sets that enough of them have signed count,
and of those the newest that was seen, wherever it came from. Where they name thumbprints, it holds a plain JSON Web Key
Set, and only keys with these thumbprints count. Either way whoever can write the file, and not the settings, can have
no key of their own believed. A file that cannot be read, or holds nothing that counts, changes nothing and is logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Protocol, TypeVar

from cloister.ear import KeySet
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.log import get_logger
from cloister.kit.verifier_keys import LearnedKeys

_MAX_BYTES: Final = 256 * 1024
_log = get_logger()
T = TypeVar("T")


class VerifierKeys(Protocol):
    """The verifier's keys that count now."""

    def current(self) -> KeySet:
        """Return them; blocking, and for any thread."""


class PinnedKeys:
    """The pinned keys in a JWKS file. Blocking and thread safe.

    Args:
        path: The file.
        thumbprints: Of the keys that count (RFC 7638).
    """

    def __init__(self, path: Path, thumbprints: Collection[str]) -> None:
        self._thumbprints = frozenset(thumbprints)
        self._file = _WatchedFile(path)
        self._keys = opened(path, lambda: self._read(self._file.changed() or b""))

    def current(self) -> KeySet:
        """The keys as the file has them now."""
        self._file.take(self._adopt)
        return self._keys

    def _adopt(self, raw: bytes) -> None:
        self._keys = self._read(raw)
        _log.info("verifier_keys.reloaded", kids=sorted(self._keys.thumbprints))

    def _read(self, raw: bytes) -> KeySet:
        return KeySet.from_jwks(raw, pinned_thumbprints=self._thumbprints)


class SignedKeys:
    """The newest signed set, from a file or from the verifier. Blocking and thread safe.

    Args:
        path: The file.
        learn: Makes the first of it known, and then takes over newer ones.
    """

    def __init__(self, path: Path, learn: Callable[[bytes], LearnedKeys]) -> None:
        self._file = _WatchedFile(path)
        self.learned = opened(path, lambda: learn(self._file.changed() or b""))

    def current(self) -> KeySet:
        """The keys of the newest set that was seen."""
        self._file.take(self.learned.learn)
        return self.learned.keys


def opened(path: Path, first: Callable[[], T]) -> T:
    """What a file gives at the start; raises NotReady when it gives nothing."""
    try:
        return first()
    except (OSError, InvalidRequest) as error:
        raise NotReady(f"verifier_keys {path} is not usable: {error}", reason="verifier_keys.unusable") from error


class _WatchedFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None

    def changed(self) -> bytes | None:
        """The content, if it is another than was read last; raises OSError and InvalidRequest."""
        facts = self._path.stat()
        stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        if stamp == self._stamp:
            return None
        with self._path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise InvalidRequest("the key set is too large")
        self._stamp = stamp
        return raw

    def take(self, adopt: Callable[[bytes], object]) -> None:
        """Hand over what has changed; what is refused is tried again next time."""
        with self._lock:
            before = self._stamp
            try:
                raw = self.changed()
                if raw is not None:
                    adopt(raw)
            except (OSError, InvalidRequest) as error:
                self._stamp = before
                _log.error("verifier_keys.unusable", path=str(self._path), error=error)
