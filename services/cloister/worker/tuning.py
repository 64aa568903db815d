"""What suits a model on this machine: measured shortly when it is loaded, and remembered until the worker ends.

Two things are measured. Whether rows of different requests may share an evaluation: `rows` has read off the graph that
no row can reach another, and here each batch that may be formed is held against single evaluations, bit for bit, since
an answer that depended on who else asks would tell one tenant of another, and would not be the answer that the model's
owner tested. And which way of using the cores answers most. Nothing is written anywhere: what a host could change on
disk, it could choose for us.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from cloister.contract import ModelContract
from cloister.oip.contents import Array
from cloister.oip.datatypes import DATATYPES
from cloister.worker.batches import Item, Outputs
from cloister.worker.infer_requests import InferSlot
from cloister.worker.shapes import smallest_shapes

MOST_ROWS: Final = 32
CHECK_S: Final = 0.12
"""For holding batches against single evaluations; sizes that were not reached are not used."""
RATE_S: Final = 0.03
TIMED_RUNS: Final = 5
LEAST_RUNS: Final = 20
GAIN: Final = 0.75
"""A row in a batch must take at most this much of what it takes alone, or there are no batches."""


@dataclass(slots=True)
class Tuning:
    """What was found for one model.

    Attributes:
        hints: How the pool's model is compiled; None until that was measured.
        most_rows: In one evaluation, by who evaluates: `loop` or `pool`.
        clock_s: What evaluations are timed by.
    """

    hints: Mapping[str, Any] | None = None
    most_rows: dict[str, int] = field(default_factory=dict)
    clock_s: Callable[[], float] = time.perf_counter

    def forbid_batches(self) -> None:
        """A batch has failed, and which of its requests did it is not known: from now on each goes alone."""
        self.most_rows = dict.fromkeys(("loop", "pool"), 1)


class Tunings:
    """Tunings by model digest. They live as long as this process, and so are of this machine's CPU only.

    Args:
        clock_s: What evaluations are timed by.
    """

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s = clock_s
        self._known: dict[bytes, Tuning] = {}

    def of(self, digest: bytes) -> Tuning:
        """What is known of this model; empty when it is new."""
        return self._known.setdefault(digest, Tuning(clock_s=self._clock_s))


def rows_alike(slot: InferSlot, contract: ModelContract, most: int, clock_s: Callable[[], float]) -> int:
    """Up to how many rows batches pay, and give each row the bits that it has alone.

    Every size is tried, since kernels are picked by size, and what is between two that agree need not.

    Args:
        slot: Evaluates; nobody else uses it meanwhile.
        contract: Of the model, whose graph keeps rows apart.
        most: To try.
        clock_s: What evaluations are timed by.

    Raises:
        RuntimeError: An evaluation failed.
    """
    if most < 2:
        return 1
    items, alone = _items(contract, most), list[bytes]()
    if not _pays(slot, items[:4], clock_s):
        return 1
    ends_s = clock_s() + CHECK_S
    for count in range(1, most + 1):
        if clock_s() > ends_s:
            return max(1, count - 1)
        batch = items[:count]
        alone.append(_bits(_evaluate(slot, batch[-1:])[0]))
        if [_bits(one) for one in _evaluate(slot, batch)] != alone or not _bears_poison(slot, batch, alone):
            return max(1, count - 1)
    return most


def rows_within(
    slot: InferSlot, contract: ModelContract, most: int, within_s: float, clock_s: Callable[[], float]
) -> int:
    """How many rows, at most `most`, take less than `within_s` together; found by halving.

    Raises:
        RuntimeError: An evaluation failed.
    """
    items = _items(contract, most)
    while most > 1 and _least_s(slot, items[:most], within_s, clock_s) >= within_s:
        most //= 2
    return most


def rate(slots: list[InferSlot], inputs: Mapping[str, Array], clock_s: Callable[[], float]) -> float:
    """Evaluations a second with all of these infer requests at work; no callback may be set on them yet.

    Raises:
        RuntimeError: An evaluation failed.
    """
    for slot in slots:
        slot.fill(inputs)
        slot.evaluate()
        slot.request.start_async()
    began_s, done = clock_s(), 0
    while clock_s() - began_s < RATE_S:
        slots[done % len(slots)].request.wait()
        slots[done % len(slots)].request.start_async()
        done += 1
    took_s = clock_s() - began_s
    for slot in slots:
        slot.request.wait()
    return done / took_s


def random_rows(contract: ModelContract, count: int) -> dict[str, Array]:
    """Inputs of that many rows that differ from one another; open dimensions taken as 1 otherwise.

    Numbers are spread evenly around 0 with variance 1. They are Python's own: for numpy's generators each enclave would
    carry almost three megabytes more of machine code.
    """
    generator = random.Random(count)  # noqa: S311 - not for secrets; the same rows every time
    found: dict[str, Array] = {}
    for spec, shape in zip(contract.inputs, smallest_shapes(contract), strict=True):
        dtype, full = DATATYPES[spec.datatype].dtype, (count, *shape[1:])
        words = np.frombuffer(generator.randbytes(4 * math.prod(full)), "<u4").reshape(full)
        spread = words * (2 * math.sqrt(3) / 2**32) - math.sqrt(3)
        if spec.datatype == "BF16":
            found[spec.name] = (spread.astype("<f4").view("<u4") >> 16).astype(dtype)
        elif dtype.kind == "f":
            found[spec.name] = spread.astype(dtype)
        else:
            found[spec.name] = (words & 1).astype(dtype)
    return found


def _least_s(slot: InferSlot, batch: list[Item], enough_s: float, clock_s: Callable[[], float]) -> float:
    """What an evaluation takes, the machine's other work aside: the least of a few, or the first that is enough."""
    least_s = math.inf
    for _ in range(LEAST_RUNS):
        began_s = clock_s()
        _evaluate(slot, batch)
        least_s = min(least_s, clock_s() - began_s)
        if least_s < enough_s:
            break
    return least_s


def _bears_poison(slot: InferSlot, batch: list[Item], alone: list[bytes]) -> bool:
    """Whether the rows before the last keep their bits when the last is as bad as can be."""
    if len(batch) not in (2, 3, 8):
        return True
    worst = {name: _worst(array) for name, array in batch[-1].inputs.items()}
    together = _evaluate(slot, [*batch[:-1], Item(worst, batch[-1].outputs)])
    return [_bits(one) for one in together[:-1]] == alone[:-1]


def _worst(array: Array) -> Array:
    if array.dtype.kind == "f":
        return np.full_like(array, np.nan)
    return np.full_like(array, True if array.dtype.kind == "b" else np.iinfo(array.dtype).max)


def _pays(slot: InferSlot, batch: list[Item], clock_s: Callable[[], float]) -> bool:
    took_s: dict[int, list[float]] = {1: [], len(batch): []}
    _evaluate(slot, batch)  # which also prepares for the shape
    ends_s = clock_s() + CHECK_S / 4
    for turn in range(TIMED_RUNS):  # in turns, so that what else the machine does disturbs both
        if turn > 1 and clock_s() > ends_s:
            break
        for count, took in took_s.items():
            began_s = clock_s()
            _evaluate(slot, batch[:count])
            took.append(clock_s() - began_s)
    return min(took_s[len(batch)]) / len(batch) <= GAIN * min(took_s[1])


def _evaluate(slot: InferSlot, batch: list[Item]) -> list[Outputs]:
    slot.fill_rows(batch)
    slot.evaluate()
    return slot.read_rows(batch)


def _items(contract: ModelContract, count: int) -> list[Item]:
    """Requests of one row each, for all outputs."""
    rows, outputs = random_rows(contract, count), [spec.name for spec in contract.outputs]
    return [Item({name: array[at : at + 1] for name, array in rows.items()}, outputs) for at in range(count)]


def _bits(outputs: Outputs) -> bytes:
    return b"".join(array.tobytes() for array in outputs.values())
