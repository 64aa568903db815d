"""How long the link to a worker has brought nothing, and when that is too long.

gRPC would find out half a minute later that a host is gone, where it waits for an answer only.
"""

from __future__ import annotations

from typing import Final

from cloister.errors import Unavailable
from cloister.rpc.channel import MAX_MESSAGE_BYTES

FIRST_FRAME_S: Final = 10.0
SILENCE_S: Final = 6.0
"""A worker reports every two seconds: a link that has brought nothing for so long brings nothing any more, and what was
asked over it may be asked elsewhere."""
SLOWEST_BYTES_PER_S: Final = 1e6
"""A frame is heard once it is whole. A worker says beforehand that a large one follows, and it has so much longer."""
LOOK_S: Final = 1.0
"""Longer than this between two looks, and it was we who did not listen."""


class Silence:
    """What is counted of one link.

    Args:
        now_s: When it began, by the clock of all looks.
    """

    def __init__(self, now_s: float) -> None:
        self._born_s = self._looked_s = now_s
        self._silent_s = 0.0
        self._allowed_s = 0.0  # by the frame that came last; none has

    def end(self, next_frame_bytes: int = 0) -> None:
        """A frame has come.

        Args:
            next_frame_bytes: How large it says that the next one is; 0 for no larger than most.
        """
        self._silent_s = 0.0
        self._allowed_s = SILENCE_S + min(next_frame_bytes, MAX_MESSAGE_BYTES) / SLOWEST_BYTES_PER_S

    def look(self, now_s: float) -> None:
        """Count the time since the last look.

        Raises:
            Unavailable: The next frame is so long overdue that the worker must be hanging, or cannot be reached.
        """
        self._silent_s += min(max(0.0, now_s - self._looked_s), LOOK_S)
        self._looked_s = now_s
        if self._silent_s >= self._allowed_s if self._allowed_s else now_s >= self._born_s + FIRST_FRAME_S:
            raise Unavailable("a worker is silent", reason="link.overdue")
