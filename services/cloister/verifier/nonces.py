"""Challenges: 32 random bytes that make one piece of evidence fresh (RFC 9334, section 10).

A challenge is bound to what it was asked for: purpose, the caller's SPIFFE id, and the TLS key that the evidence will
speak for. It is removed before anything about it is checked, so of any number of concurrent uses exactly one goes on.
A store is bounded, in all and for each peer; whoever asks for too many crowds out their own oldest, not a neighbour's.

`Nonces` lives in memory only: a restart makes every earlier challenge void. Time is monotonic, so setting the clock of
the machine neither revives a challenge nor ends one. Called on the event loop only: no method awaits anything, so none
is interrupted half way. Several verifiers share theirs: `replicas/challenges.py`.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from cloister.errors import ChallengeExpired, InvalidRequest

CHALLENGE_ID_BYTES = 16
NONCE_BYTES = 32


class Purpose(Enum):
    """What an Attestation Result is for. The audience is that of the result (RFC 9711, `aud`)."""

    MESH = "mesh"
    KEY_RELEASE = "provisioner"

    @property
    def audience(self) -> str:
        """The `aud` of a result issued for this purpose."""
        return self.value


@dataclass(frozen=True, slots=True)
class Challenge:
    """One nonce and all that it is bound to."""

    challenge_id: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    purpose: Purpose
    peer: str
    tls_spki_sha256: bytes


class Challenges(Protocol):
    """A bounded store of challenges that were issued and not yet used."""

    @property
    def ttl_s(self) -> float:
        """How long a challenge may be used, in seconds."""

    async def issue(self, purpose: Purpose, *, peer: str, tls_spki_sha256: bytes) -> Challenge:
        """Make a challenge for `peer` and the TLS key with this hash.

        Raises:
            InvalidRequest: The hash is not 32 bytes.
        """

    async def consume(self, challenge_id: bytes, *, peer: str, tls_spki_sha256: bytes) -> Challenge:
        """Take a challenge out, then see whether it was this caller's, for this key, and still in time.

        Raises:
            ChallengeExpired: Unknown, used, too old, or issued to another peer or for another key. Which of them is
                not told.
        """


class Nonces:
    """The `Challenges` of one verifier, in memory.

    Args:
        ttl_s: How long a challenge may be used.
        monotonic: A clock that never goes back, in seconds.
        capacity: Most challenges held in all.
        per_peer: Most challenges held for one SPIFFE id.
    """

    def __init__(
        self, *, ttl_s: float, monotonic: Callable[[], float], capacity: int = 65_536, per_peer: int = 1024
    ) -> None:
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._capacity = capacity
        self._per_peer = per_peer
        self._held: OrderedDict[bytes, tuple[Challenge, float]] = OrderedDict()
        self._by_peer: dict[str, OrderedDict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def ttl_s(self) -> float:
        """How long a challenge may be used, in seconds."""
        return self._ttl_s

    async def issue(self, purpose: Purpose, *, peer: str, tls_spki_sha256: bytes) -> Challenge:
        """See `Challenges`."""
        check_spki_sha256(tls_spki_sha256)
        now = self._monotonic()
        self._drop_expired(now)
        self._make_room(peer)
        challenge = Challenge(
            challenge_id=secrets.token_bytes(CHALLENGE_ID_BYTES),
            nonce=secrets.token_bytes(NONCE_BYTES),
            purpose=purpose,
            peer=peer,
            tls_spki_sha256=tls_spki_sha256,
        )
        self._held[challenge.challenge_id] = (challenge, now + self._ttl_s)
        self._by_peer.setdefault(peer, OrderedDict())[challenge.challenge_id] = None
        return challenge

    async def consume(self, challenge_id: bytes, *, peer: str, tls_spki_sha256: bytes) -> Challenge:
        """See `Challenges`."""
        challenge, ends_at = self._take(challenge_id) or (None, 0.0)
        usable = (
            challenge is not None
            and ends_at > self._monotonic()
            and challenge.peer == peer
            and challenge.tls_spki_sha256 == tls_spki_sha256
        )
        if challenge is None or not usable:
            raise expired()
        return challenge

    def _take(self, challenge_id: bytes) -> tuple[Challenge, float] | None:
        held = self._held.pop(challenge_id, None)
        if held is not None:
            peer = held[0].peer
            theirs = self._by_peer[peer]
            del theirs[challenge_id]
            if not theirs:
                del self._by_peer[peer]
        return held

    def _drop_expired(self, now: float) -> None:
        while self._held:
            oldest, ends_at = next(iter(self._held.values()))
            if ends_at > now:
                return
            self._take(oldest.challenge_id)

    def _make_room(self, peer: str) -> None:
        if len(self._by_peer.get(peer, ())) >= self._per_peer:
            self._take(next(iter(self._by_peer[peer])))
        if len(self._held) >= self._capacity:
            heaviest = max(self._by_peer.values(), key=len)
            self._take(next(iter(heaviest)))


def check_spki_sha256(tls_spki_sha256: bytes) -> None:
    """Raise InvalidRequest unless this can be the hash of a key."""
    if len(tls_spki_sha256) != 32:
        raise InvalidRequest("tls_spki_sha256 must be 32 bytes", reason="challenge.invalid")


def expired() -> ChallengeExpired:
    """The one refusal for all reasons."""
    return ChallengeExpired("the challenge is unknown, used or too old; begin again")
