"""What a worker remembers of sessions, in bounded memory, so that no request is ever opened twice.

Each session has a sliding window over its sequence numbers. The table holds the sessions used last; one that has to
make room leaves a record of its id, kept until the last deadline it accepted has passed. A recorded session is not
opened again, and once a record is dropped, its deadline is the *floor*: no request that ends at or before the floor is
opened in any session. So a replay meets the window, the record or the floor, whatever clock the host shows us and
however many sessions anybody opens. If the records fill up, new sessions are refused while known ones go on.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from cloister.errors import NotReady, Overloaded, SealBroken

WINDOW: Final = 1024
RECORDS_PER_SESSION: Final = 16

_MASK: Final = (1 << WINDOW) - 1


class Session:
    """The worker's half of one session.

    Attributes:
        wrapping: Cipher of its wrapped keys.
        last_deadline_ms: The latest deadline of a request opened in it, Unix time.
    """

    __slots__ = ("_highest", "_seen", "last_deadline_ms", "wrapping")

    def __init__(self, wrapping: AESGCMSIV) -> None:
        self.wrapping = wrapping
        self.last_deadline_ms = 0
        self._highest = -1
        self._seen = 0  # bit i: the number that is i below the highest

    def check(self, sequence: int) -> None:
        """Check that a sequence number is new.

        Raises:
            SealBroken: It was used, or is too far behind to tell (reason `request.replayed`).
        """
        behind = self._highest - sequence
        if behind >= 0 and (behind >= WINDOW or self._seen >> behind & 1):
            raise SealBroken(reason="request.replayed")

    def mark(self, sequence: int, deadline_ms: int) -> None:
        """Record that a request with this number and deadline was opened."""
        ahead = sequence - self._highest
        if ahead >= WINDOW:
            self._seen = 1
        elif ahead > 0:
            self._seen = (self._seen << ahead | 1) & _MASK
        else:
            self._seen |= 1 << -ahead
        self._highest = max(self._highest, sequence)
        self.last_deadline_ms = max(self.last_deadline_ms, deadline_ms)


class SessionTable:
    """The sessions of one worker.

    Args:
        capacity: How many are held; sixteen times as many records are kept of those that made room.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a session table holds at least one session")
        self._capacity = capacity
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._records: OrderedDict[bytes, int] = OrderedDict()
        self.floor_ms = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, session_id: bytes) -> Session | None:
        """Return a session that is held, and count it as used."""
        session = self._sessions.get(session_id)
        if session is not None:
            self._sessions.move_to_end(session_id)
        return session

    def check_room(self, session_id: bytes, now_ms: int) -> None:
        """Check that a session may be opened.

        Raises:
            NotReady: It was opened before, and has made room (reason `session.unknown`).
            Overloaded: Too many sessions were opened lately.
        """
        self._drop_records(now_ms)
        if session_id in self._records:
            raise NotReady("this session has ended; open another", reason="session.unknown")
        if len(self._sessions) >= self._capacity and len(self._records) >= RECORDS_PER_SESSION * self._capacity:
            raise Overloaded("too many sessions were opened lately")

    def add(self, session_id: bytes, session: Session) -> None:
        """Hold a session in which a request was opened; the one unused for longest makes room."""
        if len(self._sessions) >= self._capacity:
            oldest, ended = self._sessions.popitem(last=False)
            self._records[oldest] = ended.last_deadline_ms
        self._sessions[session_id] = session

    def _drop_records(self, now_ms: int) -> None:
        while self._records:
            session_id, deadline_ms = next(iter(self._records.items()))
            if deadline_ms >= now_ms:
                return
            del self._records[session_id]
            self.floor_ms = max(self.floor_ms, deadline_ms)
