"""Who has come in by the one-time link: a cookie for the browser, a digest of it here.

A link is worth one visit. Whoever uses it gets a cookie, and a new link takes its place, so that a link that is left in
a history, a log or over somebody's shoulder opens nothing. Only digests of cookies are kept.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Final

MAX_SESSIONS: Final = 32
SESSION_S: Final = 12 * 3600.0


class Sessions:
    """Links and cookies of one console.

    Args:
        on_link: Told each new link's secret.
        clock: Seconds, of a clock that only goes forward.
    """

    def __init__(self, on_link: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._on_link = on_link
        self._clock = clock
        self._ends: dict[bytes, float] = {}
        self._link = b""
        self._renew()

    def enter(self, link: str) -> str | None:
        """A cookie for whoever knows the link, which is worth nothing from then on; None for anybody else."""
        if not secrets.compare_digest(_digest(link), self._link):
            return None
        self._renew()
        cookie = secrets.token_urlsafe(32)
        if len(self._ends) >= MAX_SESSIONS:
            del self._ends[min(self._ends, key=lambda each: self._ends[each])]
        self._ends[_digest(cookie)] = self._clock() + SESSION_S
        return cookie

    def knows(self, cookie: str) -> bool:
        """Whether a cookie is one of ours and has not ended."""
        ends = self._ends.get(_digest(cookie))
        if ends is None:
            return False
        if ends <= self._clock():
            del self._ends[_digest(cookie)]
            return False
        return True

    def _renew(self) -> None:
        link = secrets.token_urlsafe(32)
        self._link = _digest(link)
        self._on_link(link)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
