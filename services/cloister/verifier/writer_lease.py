"""The writer's lease: of all provisioners that hold one state, one writes at a time (attack F10).

A writer is 16 random bytes of one start of a process. It holds the lease for ten seconds from when it was last heard,
by our monotonic clock; it counts its own ten seconds from before it asked, so it stops before another may begin. After
a restart of this verifier nobody but the writer that was on record may have it for as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cloister.errors import InvalidRequest, NotReady

LEASE_S: Final = 10.0
WRITER_BYTES: Final = 16


class WriterLease:
    """Who writes. Not thread safe.

    Args:
        holder: Who did when this process last knew; empty for nobody.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(self, holder: bytes, *, monotonic: Callable[[], float]) -> None:
        self.holder = holder
        self._monotonic = monotonic
        self._ends_s = monotonic() + LEASE_S

    def check(self, writer: bytes) -> None:
        """Raise unless this writer may have the lease now.

        Raises:
            InvalidRequest: It is no writer.
            NotReady: Another has it (`writer.other`).
        """
        if len(writer) != WRITER_BYTES:
            raise InvalidRequest(f"a writer is {WRITER_BYTES} random bytes", reason="writer.invalid")
        left_s = self._ends_s - self._monotonic()
        if self.holder not in (b"", writer) and left_s > 0:
            raise NotReady(
                f"another provisioner writes to this log, for {left_s:.0f} s more at least", reason="writer.other"
            )

    def renew(self, writer: bytes) -> None:
        """It has the lease from now on."""
        self.holder, self._ends_s = writer, self._monotonic() + LEASE_S

    def end(self) -> None:
        """Nobody has it."""
        self.holder = b""
