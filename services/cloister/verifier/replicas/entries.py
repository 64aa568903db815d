"""Entries of the stream that replicas follow: who wrote it, the how-manieth of theirs, and what happened.

CBOR inside the seal, so what is parsed here was written by one of us; it is checked for shape all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import cbor2

from cloister.errors import SealBroken
from cloister.verifier.replicas.sealing import RecordSeal

PLACE: Final = "stream"


class Kind(Enum):
    """What happened."""

    HELLO = "hello"  # a session begins
    VOID = "void"  # a session begins because Redis had gone back: nobody trusts what was issued before
    TICK = "tick"  # nothing
    USED = "used"  # a challenge, `about` is its id
    CHANGED = "changed"  # a member, `about` is its instance
    AGES = "ages"  # somebody knows how new collateral was, `about` says it
    RULED = "ruled"  # revocations and lifts, `about` has them
    KNOWN = "known"  # somebody has told all rulings that it knows, `about` is the digest of all


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry."""

    session: bytes
    number: int
    kind: Kind
    about: bytes = b""

    def sealed(self, seal: RecordSeal) -> bytes:
        """As it goes into the stream."""
        return seal.seal(PLACE, cbor2.dumps([self.session, self.number, self.kind.value, self.about]))

    @classmethod
    def opened(cls, seal: RecordSeal, sealed: bytes) -> Entry:
        """As it comes from there; raises SealBroken."""
        try:
            session, number, kind, about = cbor2.loads(seal.open(PLACE, sealed))
            made = cls(session, number, Kind(kind), about)
        except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
            raise SealBroken(reason="state.forged") from error
        if not (isinstance(session, bytes) and isinstance(number, int) and isinstance(about, bytes)):
            raise SealBroken(reason="state.forged")
        return made
