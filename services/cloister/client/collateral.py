"""Collateral that was led back to the anchor already.

It is the same for all workers of a platform family, and most of the work of judging one: kept while it is valid, it
makes another worker cost its own quote only.
"""

from __future__ import annotations

import threading
from datetime import datetime
from hashlib import sha256
from typing import Final

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import Collateral, VerifiedCollateral

MAX_KEPT: Final = 8

_Key = tuple[bytes, TrustAnchor]


class KnownCollateral:
    """Verified collateral by its bytes and its anchor; what is not believed is not kept. Thread safe.

    Args:
        limit: How many to keep; the oldest goes first.
    """

    def __init__(self, limit: int = MAX_KEPT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: dict[_Key, VerifiedCollateral] = {}

    def verified(self, raw: bytes, anchor: TrustAnchor, now: datetime) -> VerifiedCollateral:
        """These bytes, led back to `anchor` at `now`.

        Raises:
            InvalidRequest: They are not collateral.
            EvidenceRejected: Step 2; they do not lead back to the anchor, or not at this time.
        """
        key = (sha256(raw).digest(), anchor)
        with self._lock:
            known = self._kept.get(key)
        if known is not None and known.valid_from <= now < known.valid_until:
            return known
        found = Collateral.parse(raw).verified(anchor, now)  # outside the lock: two at once cost time, nothing else
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > self._limit:
                del self._kept[next(iter(self._kept))]
        return found
