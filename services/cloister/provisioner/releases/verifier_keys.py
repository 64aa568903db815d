"""The verifier's public keys: from a file that is read again when it changes, and from the verifier itself.

Where the settings name key signers, the file holds a signed key set: only sets that enough of them have signed count,
and of those the newest that was seen, wherever it came from. Where they name thumbprints, it holds a plain JSON Web Key
Set, and only keys with these thumbprints count. Either way whoever can write the file, and not the settings, can have
no key of their own believed. A file that cannot be read, or holds nothing that counts, changes nothing and is logged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

from cloister.ear import KeySet
from cloister.errors import InvalidRequest, NotReady, Unavailable
from cloister.kit.key_set import MAX_KEY_SET_BYTES
from cloister.kit.log import get_logger
from cloister.kit.verifier_keys import LearnedKeys
from cloister.kit.watched_file import WatchedFile
from cloister.rpc.files import read_private, read_public, replace_private

LOOK_S: Final = 0.1
"""A look takes three calls of the system, each of which lets another thread go first: dear with each release."""
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
        look_every_s: So long what the file held last is believed without another look.
    """

    def __init__(self, path: Path, thumbprints: Collection[str], *, look_every_s: float = LOOK_S) -> None:
        self._thumbprints = frozenset(thumbprints)
        self._file = _KeyFile(path, look_every_s)
        self._keys = opened(path, lambda: self._read(self._file.first()))

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
    """The newest signed set that was ever seen here, from a file or from the verifier. Blocking and thread safe.

    It is kept on disk before anything is judged by it, so that whoever restarts this service beside an older file has
    no key believed again that was disowned since (attacks I04, E09).

    Args:
        path: The file.
        learn: Makes the first of it known, and then takes over newer ones.
        kept: Where the newest set is kept, in the service's own folder.
        look_every_s: As for `PinnedKeys`.

    Raises:
        NotReady: The file is not usable, or what was kept is not.
    """

    def __init__(
        self, path: Path, learn: Callable[[bytes], LearnedKeys], kept: Path, *, look_every_s: float = LOOK_S
    ) -> None:
        self._file = _KeyFile(path, look_every_s)
        self.learned = opened(path, lambda: learn(self._file.first()))
        self._kept, self._kept_version = kept, 0
        self._lock = threading.Lock()
        if kept.exists():
            opened(kept, lambda: self.learned.learn(read_private(kept)), advice="; if key_signers changed, remove it")
        self._keep()

    def current(self) -> KeySet:
        """The keys of the newest set that was seen.

        Raises:
            Unavailable: It is newer than what is kept, and cannot be kept.
        """
        self._file.take(self.learned.learn)
        return self._keep()

    def _keep(self) -> KeySet:
        with self._lock:
            newest = self.learned.newest
            if newest.version > self._kept_version:
                try:
                    replace_private(self._kept, newest.raw)
                except OSError as error:
                    raise Unavailable("the verifier's keys cannot be kept", reason="state.unavailable") from error
                self._kept_version = newest.version
            return newest.keys


def opened(path: Path, first: Callable[[], T], *, advice: str = "") -> T:
    """What a file gives at the start; raises NotReady when it gives nothing, with advice."""
    try:
        return first()
    except (NotReady, InvalidRequest) as error:
        reason = "verifier_keys.unusable"
        raise NotReady(f"verifier_keys {path} is not usable: {error}{advice}", reason=reason) from error


class _KeyFile:
    def __init__(self, path: Path, look_every_s: float) -> None:
        self._path = path
        self._look_every_s = look_every_s
        self._looked_at = time.monotonic()
        self._file = WatchedFile(partial(read_public, path, most_bytes=MAX_KEY_SET_BYTES))
        self._lock = threading.Lock()

    def first(self) -> bytes:
        """The content at the start; raises NotReady."""
        return self._file.changed() or b""

    def take(self, adopt: Callable[[bytes], object]) -> None:
        """Hand over what has changed, if it is time to look; what is refused is tried again next time."""
        if time.monotonic() < self._looked_at + self._look_every_s:
            return
        with self._lock:
            self._looked_at = time.monotonic()
            try:
                raw = self._file.changed()
                if raw is not None:
                    adopt(raw)
            except (NotReady, InvalidRequest) as error:
                self._file.unread()
                _log.error("verifier_keys.unusable", path=str(self._path), error=error)
