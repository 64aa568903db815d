"""Nonces for proofs of possession: 32 random bytes, used once, by the worker they were made for.

A nonce is bound to the caller's SPIFFE id and TLS key and is removed before anything about it is checked, so of any
number of concurrent uses exactly one goes on. In memory only, so a restart voids all of them; bounded in all and for
each peer, where the oldest gives way; monotonic time. Called on the event loop only: no method awaits.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cloister.errors import ChallengeExpired

NONCE_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Issued:
    peer: str
    tls_spki_sha256: bytes
    ends_at: float


class Nonces:
    """A bounded store of nonces that were issued and not yet used.

    Args:
        ttl_s: How long a nonce may be used.
        monotonic: A clock that never goes back, in seconds.
        capacity: Most nonces held in all.
        per_peer: Most nonces held for one SPIFFE id.
    """

    def __init__(
        self, *, ttl_s: float, monotonic: Callable[[], float], capacity: int = 65_536, per_peer: int = 256
    ) -> None:
        self.ttl_s = ttl_s
        self._monotonic = monotonic
        self._capacity = capacity
        self._per_peer = per_peer
        self._held: OrderedDict[bytes, _Issued] = OrderedDict()
        self._by_peer: dict[str, OrderedDict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def issue(self, *, peer: str, tls_spki_sha256: bytes) -> bytes:
        """Make a nonce that only `peer`, speaking with this TLS key, can use."""
        now = self._monotonic()
        while self._held and next(iter(self._held.values())).ends_at <= now:
            self._take(next(iter(self._held)))
        if len(self._by_peer.get(peer, ())) >= self._per_peer:
            self._take(next(iter(self._by_peer[peer])))
        if len(self._held) >= self._capacity:
            heaviest = max(self._by_peer.values(), key=len)
            self._take(next(iter(heaviest)))
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._held[nonce] = _Issued(peer, tls_spki_sha256, now + self.ttl_s)
        self._by_peer.setdefault(peer, OrderedDict())[nonce] = None
        return nonce

    def consume(self, nonce: bytes, *, peer: str, tls_spki_sha256: bytes) -> None:
        """Take a nonce out, then see whether it was this caller's and still in time.

        Raises:
            ChallengeExpired: Unknown, used, too old or another's. Which of them is not told.
        """
        issued = self._take(nonce)
        if (
            issued is None
            or issued.ends_at <= self._monotonic()
            or issued.peer != peer
            or issued.tls_spki_sha256 != tls_spki_sha256
        ):
            raise ChallengeExpired("the nonce is unknown, used or too old; begin again")

    def _take(self, nonce: bytes) -> _Issued | None:
        issued = self._held.pop(nonce, None)
        if issued is not None:
            theirs = self._by_peer[issued.peer]
            del theirs[nonce]
            if not theirs:
                del self._by_peer[issued.peer]
        return issued
