"""How much memory the models of one worker may take, held against what each is expected to take.

A model is estimated at `BASE_BYTES`, `FACTOR` times its sealed file, and its activations. Measured with OpenVINO 2026.4
on two cores: ResNet-50 in f32 took 265 MiB with 97 MiB of weights, BERT-base 844 with 416, a perceptron 59. The weights
lie in memory as they were opened and once more as the CPU plugin arranges them, which from f16 is twice their size.
Activations count for each infer request as twice the largest tensor between two operations, in a request of one row.
What requests bring along is bounded elsewhere, by slots and message sizes. The process may take more than is estimated,
so leave room: this is admission by declared cost, not an allocator.
"""

from __future__ import annotations

import math
import threading
from typing import Final

import openvino as ov

from cloister.errors import NotReady

BASE_BYTES: Final = 64 << 20
FACTOR: Final = 3
_MIB: Final = 1 << 20


def estimated_bytes(sealed_bytes: int) -> int:
    """What a model of so many sealed bytes is expected to take, its activations aside."""
    return BASE_BYTES + FACTOR * sealed_bytes


def activation_bytes(model: ov.Model, requests: int) -> int:
    """What so many infer requests are expected to take between them; open dimensions count as 1."""
    between = (output for node in model.get_ops() if node.get_type_name() != "Constant" for output in node.outputs())
    return 2 * requests * max(map(_size_bytes, between), default=0)


def _size_bytes(output: ov.Output) -> int:
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return 0
    lengths = [max(1, shape[axis].get_min_length()) for axis in range(shape.rank.get_length())]
    size_bytes: int = math.prod(lengths) * output.get_element_type().bitwidth // 8
    return size_bytes


class Room:
    """What one model has been given; thread safe."""

    def __init__(self, budget: MemoryBudget, model: str) -> None:
        self._budget = budget
        self._model = model
        self._held_bytes = 0
        self._freed = False

    def take(self, size_bytes: int) -> None:
        """Take so much more.

        Raises:
            NotReady: There is not so much (`memory.full`), or whoever loads this was told meanwhile to stop.
        """
        with self._budget.lock:
            if self._freed:
                raise NotReady("the model is not wanted any more", reason="model.gone")
            self._budget.check(self._model, size_bytes)
            self._budget.used_bytes += size_bytes
            self._held_bytes += size_bytes

    def free(self) -> None:
        """Give all of it back, for good."""
        with self._budget.lock:
            self._budget.used_bytes -= self._held_bytes
            self._held_bytes, self._freed = 0, True


class MemoryBudget:
    """The memory of all models together.

    Args:
        limit_bytes: 0 for no limit of ours.

    Attributes:
        used_bytes: What those that are here are expected to take; changed by rooms only.
        lock: Held meanwhile: models are loaded by threads.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.used_bytes = 0
        self.lock = threading.Lock()
        self._limit_bytes = limit_bytes

    def check(self, model: str, size_bytes: int) -> None:
        """See whether there is room for so much now.

        Raises:
            NotReady: There is not (`memory.full`).
        """
        left_bytes = self._limit_bytes - self.used_bytes
        if self._limit_bytes and size_bytes > left_bytes:
            raise NotReady(
                f"{model} is estimated to need {-(-size_bytes // _MIB)} MiB more, and {max(0, left_bytes) // _MIB} of "
                f"{self._limit_bytes // _MIB} MiB are free; unload another model, or raise memory_bytes",
                reason="memory.full",
            )

    def room(self, model: str) -> Room:
        """An empty room for one model."""
        return Room(self, model)
