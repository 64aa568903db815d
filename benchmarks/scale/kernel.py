"""Simulated time: what is to happen, in order. A heap and nothing else: large meshes make millions of events."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class Kernel:
    """A clock that jumps from one event to the next.

    Attributes:
        now_s: The time.
        events: How many have happened.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events = 0
        self._number = count().__next__
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def after(self, delay_s: float, happen: Callable[..., None], *arguments: Any) -> None:
        """Let something happen later; of two at the same time the first that was asked for."""
        heapq.heappush(self._heap, (self.now_s + delay_s, self._number(), happen, arguments))

    def run(self, until_s: float) -> None:
        """Let everything happen that is due by then."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until_s:
            self.now_s, _, happen, arguments = pop(heap)
            self.events += 1
            happen(*arguments)
        self.now_s = until_s
