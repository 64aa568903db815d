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

    Attributes:
        holder: Who has it; empty for nobody.
        name: What that one calls itself; empty where it is not known.

    Args:
        holder: Who did when this process last knew; empty for nobody.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(self, holder: bytes, *, monotonic: Callable[[], float]) -> None:
        self.holder = holder
        self.name = ""
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
        if self.holder != writer and self.left_s > 0:
            named = f" ({self.name})" if self.name else ""
            raise NotReady(
                f"another provisioner{named} writes to this log, for {self.left_s:.0f} s more at least",
                reason="writer.other",
            )

    @property
    def left_s(self) -> float:
        """For how long nobody but the holder may have it; 0 where anybody may."""
        return max(0.0, self._ends_s - self._monotonic()) if self.holder else 0.0

    def renew(self, writer: bytes, name: str = "") -> None:
        """It has the lease from now on."""
        self.holder, self.name, self._ends_s = writer, name, self._monotonic() + LEASE_S

    def end(self) -> None:
        """Nobody has it."""
        self.holder, self.name = b"", ""
