"""What the end of a call means for the job in it."""

from __future__ import annotations

from enum import Enum
from typing import Final

from cloister.errors import (
    CloisterError,
    InvalidRequest,
    NotAllowed,
    NotReady,
    Overloaded,
    SealBroken,
    Unauthenticated,
)

_FINAL: Final = (InvalidRequest, SealBroken, NotAllowed, Unauthenticated)
"""What no second attempt changes: a worker has looked at the job and found it wrong."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.25, 15.0
UNCOUNTED_S: Final = 0.5
"""Until a job that no worker has looked at is taken again."""


class Next(Enum):
    """What is done with a job whose call has ended with an error.

    END: It ends with this error.
    ELSEWHERE: This worker cannot answer it; another may, and nothing of it has been looked at.
    RETURN: No worker has had it, or one had no room: it is let go, and the attempt does not count.
    AGAIN: A worker may have had it: it is tried again after a while, unless this was the last attempt.
    """

    END = "end"
    ELSEWHERE = "elsewhere"
    RETURN = "return"
    AGAIN = "again"


def after(error: CloisterError | TimeoutError, *, left: bool) -> Next:
    """What follows an error; `left` says whether the call had left for a worker."""
    if isinstance(error, _FINAL):
        return Next.END
    if isinstance(error, Overloaded) or not left:
        return Next.RETURN
    return Next.ELSEWHERE if isinstance(error, NotReady) else Next.AGAIN


def pause_s(attempt: int) -> float:
    """How long a job waits after its so-many-th attempt: 0.25, 1, 4 s, 15 at most."""
    return min(FIRST_PAUSE_S * 4.0 ** min(attempt - 1, 8), LAST_PAUSE_S)
