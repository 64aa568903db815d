"""What stands between the provisioner's threads and a back end that may be slow, or never answer (attack F11).

Each call runs in a thread of its own, of which there are few, and whoever waits for one does so until the deadline and
no longer. After a call that came to nothing all others are refused at once for a moment: a crowd does not wait for what
is down, and what is back is found out within that moment. A thread that is stuck in a library stays stuck; it is a
daemon, and keeps nobody from ending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from cloister.errors import Unavailable
from cloister.kit.log import get_logger
from cloister.provisioner.vaults.vault import UNAVAILABLE

PAUSE_S: Final = 1.0
MOST_CALLS: Final = 4
"""Fewer than the threads that serve calls: others go on being served."""

T = TypeVar("T")
_log = get_logger()


class Guard:
    """Calls of one back end.

    Args:
        back_end: Its name, for errors and the log.
        deadline_s: For each call.
        most_calls: At a time.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(
        self,
        back_end: str,
        *,
        deadline_s: float,
        most_calls: int = MOST_CALLS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._back_end = back_end
        self._deadline_s = deadline_s
        self._monotonic = monotonic
        self._free = threading.BoundedSemaphore(most_calls)
        self._refused_until = float("-inf")

    def call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, within the deadline.

        Raises:
            Unavailable: It did not come to an end in time, or the call before it came to nothing just now
                (`vault.unavailable`).
        """
        ends_at = self._monotonic() + self._deadline_s
        self._check_not_down()
        if not self._free.acquire(timeout=self._deadline_s):
            raise self._pausing(self._slow())
        future: Future[T] = Future()
        threading.Thread(target=self._run, args=(work, future), name=f"vault-{self._back_end}", daemon=True).start()
        try:
            return future.result(timeout=max(0.0, ends_at - self._monotonic()))
        except TimeoutError:
            raise self._pausing(self._slow()) from None
        except Unavailable as error:
            raise self._pausing(error) from None

    def _check_not_down(self) -> None:
        if self._monotonic() < self._refused_until:
            raise Unavailable(f"the vault ({self._back_end}) did not answer a moment ago", reason=UNAVAILABLE)

    def _run(self, work: Callable[[], T], future: Future[T]) -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        finally:
            self._free.release()

    def _slow(self) -> Unavailable:
        return Unavailable(
            f"the vault ({self._back_end}) did not answer within {self._deadline_s:g} s", reason=UNAVAILABLE
        )

    def _pausing(self, error: Unavailable) -> Unavailable:
        self._refused_until = self._monotonic() + PAUSE_S
        _log.warning("vault.unavailable", back_end=self._back_end, error=error)
        return error
