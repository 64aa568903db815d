"""A token bucket, kept as the one moment at which it will be full again (GCRA, as in ITU-T I.371).

Times are those of a clock that never goes back. All arithmetic saturates: however long a pause, and whatever the clock
says, a bucket holds between none and all of its tokens, and nobody waits longer than for one of them.
"""

from __future__ import annotations


class Bucket:
    """Tokens that come back steadily.

    Args:
        rate: Tokens a second; above 0.
        burst: Most that it holds; 0 for what comes in a second, at least one.
    """

    __slots__ = ("_depth_s", "_full_at_s", "_token_s")

    def __init__(self, rate: float, burst: int = 0) -> None:
        self._token_s = 1.0 / rate
        self._depth_s = (burst or max(1, int(rate))) * self._token_s
        self._full_at_s = float("-inf")

    def take(self, now_s: float) -> float:
        """Take a token and return 0; when there is none, take nothing and return how many seconds it will be."""
        full_at_s = min(max(self._full_at_s, now_s), now_s + self._depth_s)
        wait_s = full_at_s + self._token_s - self._depth_s - now_s
        if wait_s > self._token_s * 1e-9:  # what rounding leaves is no time
            self._full_at_s = full_at_s
            return wait_s
        self._full_at_s = full_at_s + self._token_s
        return 0.0

    def full(self, now_s: float) -> bool:
        """Whether nothing would be lost if it were made anew."""
        return self._full_at_s <= now_s
