"""PCK chains that were verified once under some collateral, so that the next quote of the same platform need not wait.

A platform attests with the same certificates for months. What was found holds for exactly the same bytes, under exactly
the same collateral, for as long as each certificate is valid: so an entry is found by the SHA-256 of its bytes (white
space in PEM is the attester's to choose: whole chains as keys would let one platform fill the memory), lives in the
`VerifiedCollateral` that it was verified under and dies with it, and its dates are compared at every use. A chain that
was refused is never kept, so nobody without a certificate from the anchor can fill the memory.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from cloister.appraisal.certs import Certificate
from cloister.appraisal.pck import Platform

CAPACITY: Final = 1024


@dataclass(frozen=True, slots=True)
class VerifiedChain:
    """A chain that leads to the anchor and of which nothing was revoked; whether it is in date is the caller's to ask.

    Attributes:
        pck: The platform's own certificate.
        ca: The one that issued it.
        platform: What `pck` says of its platform.
    """

    pck: Certificate = field(repr=False)
    ca: Certificate = field(repr=False)
    platform: Platform


class VerifiedChains:
    """The chains last used, by the SHA-256 of their bytes as quotes carry them. Thread safe."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._held: OrderedDict[bytes, VerifiedChain] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def find(self, pck_chain: bytes) -> VerifiedChain | None:
        """The chain with these bytes, if it is known."""
        digest = hashlib.sha256(pck_chain).digest()
        with self._lock:
            chain = self._held.get(digest)
            if chain is not None:
                self._held.move_to_end(digest)
            return chain

    def keep(self, pck_chain: bytes, chain: VerifiedChain) -> None:
        """Know this chain from now on; the one not used for longest makes room."""
        digest = hashlib.sha256(pck_chain).digest()
        with self._lock:
            self._held[digest] = chain
            self._held.move_to_end(digest)
            if len(self._held) > self._capacity:
                self._held.popitem(last=False)
