"""A gateway process's end of a link in simulated time: when a frame of quick calls leaves (`gateway/pace.py`)."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.scale.kernel import Kernel

from cloister.gateway.link import EXPIRY_STEP_S
from cloister.gateway.pace import BRISK, COMPANY, FEW, FULL, STEP_S, STEPS

Call = tuple[int, float]


class Outbox:
    """Calls that wait for their frame.

    Args:
        kernel: Simulated time.
        leave: Takes each frame.
    """

    def __init__(self, kernel: Kernel, leave: Callable[[list[Call]], None]) -> None:
        self._kernel = kernel
        self._leave = leave
        self._calls: list[Call] = []
        self._last: list[Call] | None = None  # the frame that is not answered yet
        self._gathering = self._brisk = False
        self._measured_s, self._measured = kernel.now_s, 0

    def put(self, call: Call, under_way: int) -> None:
        """One more, of so many on the link that are not answered, this one included."""
        self._measure()
        self._calls.append(call)
        if not self._gathering:
            self._gathering = True
            if under_way > 1 if self._brisk else self._last is not None and under_way >= FEW:
                self._step(0)
            else:
                self._go()

    def answered(self, frame: list[Call]) -> None:
        """A frame came back: the worker reads on, if it was the last."""
        if frame is self._last:
            self._last = None

    def _measure(self) -> None:
        passed_s = self._kernel.now_s - self._measured_s
        if passed_s >= EXPIRY_STEP_S:
            self._brisk = self._measured * EXPIRY_STEP_S / passed_s >= BRISK
            self._measured_s, self._measured = self._kernel.now_s, 0
        self._measured += 1

    def _step(self, step: int) -> None:
        if step == STEPS or len(self._calls) >= FULL:
            self._go()
        else:
            self._kernel.after(STEP_S, self._stepped, step, len(self._calls))

    def _stepped(self, step: int, before: int) -> None:
        if self._last is not None or len(self._calls) - before >= COMPANY:
            self._step(step + 1)
        else:
            self._go()

    def _go(self) -> None:
        self._last, self._calls, self._gathering = self._calls, [], False
        self._leave(self._last)
