"""What a start must know of the log without reading it. It stands beside the log's head, and is bound to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from cloister.kit.record_line import time_of

RELEASED: Final = "key.released"
FIRST_GENERATION: Final = 1
_TOLD: Final = f'"event":"{RELEASED}"'.encode()  # in most lines it is not, and they need not be read
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Marks(NamedTuple):
    """As of one head.

    Attributes:
        generation: In the name of the log, from 1.
        resumed: The number of the line that began it; 0 for the first.
        released_ms: When a key was released last, in Unix time rounded up; 0 for never.
    """

    generation: int = FIRST_GENERATION
    resumed: int = 0
    released_ms: int = 0

    def after(self, record: bytes) -> Marks:
        """With one more line."""
        if _TOLD not in record or json.loads(record)["event"] != RELEASED:
            return self
        released_ms = -((_EPOCH - time_of(record)) // _MILLISECOND)
        return self._replace(released_ms=max(self.released_ms, released_ms))

    @property
    def released_at(self) -> datetime | None:
        """The same, aware; None for never."""
        return _EPOCH + self.released_ms * _MILLISECOND if self.released_ms else None
