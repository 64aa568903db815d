"""What one replica knows by itself of challenges that all replicas share. Pure; the argument is in decision 0011.

Each replica numbers what it writes to the common stream, from 1, under the random name of its session. A challenge
carries how far its issuer had come in everybody's numbers, its *sight*. Whoever consumes it looks for itself there:

- not named: the challenge is older than this session, so a restart voids it;
- named with a number from before the floor: it is too old, or older than the last time that something was amiss.

The floor follows our own ticks at a distance of the challenge's life, in our own monotonic time. So no clock but ours
says how old a challenge is, and no record in Redis makes it younger. Uses are remembered for longer than that: what is
above the floor and was used, by us or by a peer we hear, is in here.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cloister.errors import NotReady
from cloister.verifier.nonces import expired

SESSION_BYTES: Final = 16
# A peer that wrote nothing for so long is gone; if it comes back, it is met anew.
SILENCE_S: Final = 10.0

Sight = Mapping[bytes, int]


@dataclass(slots=True)
class _Peer:
    number: int
    heard_at: float


class Journal:
    """One session's knowledge, from its beginning.

    Args:
        ttl_s: How long a challenge may be used.
        monotonic: A clock that never goes back, in seconds.

    Attributes:
        session: Random name of this session.
        number: Of the last entry that we wrote; the first says hello.
    """

    def __init__(self, *, ttl_s: float, monotonic: Callable[[], float]) -> None:
        self.session = secrets.token_bytes(SESSION_BYTES)
        self.number = 1
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._floor = 1
        self._ticks: deque[tuple[float, int]] = deque()
        self._ticked_at = monotonic()
        self._peers = {self.session: _Peer(1, self._ticked_at)}
        self._used: OrderedDict[bytes, tuple[tuple[bytes, int], float]] = OrderedDict()

    def next_number(self) -> int:
        """The number of the entry that we write now."""
        self.number += 1
        return self.number

    def tick(self, began_at: float) -> None:
        """Note that all numbers so far were written since `began_at`; move the floor, and forget what is below it.

        After a pause in which the floor stood still, everything issued before is void.
        """
        now = self._monotonic()
        if began_at - self._ticked_at > SILENCE_S:
            self.void()
        self._ticked_at = began_at
        self._ticks.append((began_at, self.number))
        while self._ticks and self._ticks[0][0] <= now - self._ttl_s:
            # What names this number may have been issued as soon as it was written: that is a whole life ago.
            self._floor = max(self._floor, self._ticks.popleft()[1] + 1)
        while self._used and next(iter(self._used.values()))[1] <= now - 2 * self._ttl_s - SILENCE_S:
            self._used.popitem(last=False)
        for session in [name for name, peer in self._peers.items() if peer.heard_at <= now - SILENCE_S]:
            del self._peers[session]

    def hear(self, session: bytes, number: int) -> None:
        """Note an entry of the stream, ours or a peer's.

        Raises:
            NotReady: It does not follow the one heard before (`sequence.broken`); what was issued until now is void.
        """
        peer = self._peers.get(session)
        expected = peer.number + 1 if peer is not None else 1
        self._peers[session] = _Peer(number, self._monotonic())
        if number == expected:
            return
        self.void()
        if peer is not None:
            raise NotReady(f"entry {expected} of a replica is missing", reason="sequence.broken")

    def void(self) -> None:
        """Refuse every challenge issued until now: all that do not name the next entry that we write."""
        self._floor = self.number + 1

    @property
    def must_write(self) -> bool:
        """Whether no challenge can be fresh before we have written again."""
        return self._floor > self.number

    @property
    def hears_itself(self) -> bool:
        """Whether what we write still comes back to us."""
        own = self._peers.get(self.session)
        return own is not None and self._monotonic() - own.heard_at <= SILENCE_S

    def sight(self) -> dict[bytes, int]:
        """How far everybody has come that we hear of, ourselves included: what a challenge issued now carries."""
        return {name: peer.number for name, peer in self._peers.items()} | {self.session: self.number}

    def use(self, challenge_id: bytes, session: bytes, number: int) -> None:
        """Note that a challenge was used by the entry of this session and number.

        Raises:
            ChallengeExpired: Another entry had used it before.
        """
        user, _ = self._used.setdefault(challenge_id, ((session, number), self._monotonic()))
        if user != (session, number):
            raise expired()

    def check_unused(self, challenge_id: bytes) -> None:
        """Raise ChallengeExpired if a use of it is known."""
        if challenge_id in self._used:
            raise expired()

    def check_fresh(self, sight: Sight) -> None:
        """Raise ChallengeExpired unless a challenge with this sight was issued lately, and after we began."""
        if sight.get(self.session, 0) < self._floor:
            raise expired()
