"""Which requests share an evaluation, and whose rows are whose.

Nothing waits for a batch to fill: what is there when an infer request is free goes together. Requests of different
models never meet, since each engine has its own; those of different parties do not where the worker's settings keep
tenants apart. Rows lie one request under another, and an answer is cut out by the same numbers that put them there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeVar

from cloister.oip.contents import Array
from cloister.worker.timings import Evaluation

Outputs = dict[str, Array]
_T = TypeVar("_T")


@dataclass(slots=True)
class Item:
    """One request, as an engine takes it.

    Attributes:
        inputs: All inputs by name, as the contract wants them.
        outputs: Which outputs, in which order.
        party: Requests of different parties never share an evaluation.
        ends_at_s: When nobody waits for the answer any more, on the event loop's clock.
        rows: Size of the first axis, where all inputs agree on it and it is not 0; else 0, and this one goes alone.
        evaluation: The one that it was part of, once that has begun.
    """

    inputs: Mapping[str, Array] = field(repr=False)
    outputs: Sequence[str]
    party: bytes = field(default=b"", repr=False)
    ends_at_s: float = math.inf
    rows: int = field(init=False)
    evaluation: Evaluation | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        counts = {array.shape[0] if array.ndim else 0 for array in self.inputs.values()}
        self.rows = counts.pop() if len(counts) == 1 else 0


def take(waiting: deque[_T], item_of: Callable[[_T], Item], *, most_rows: int, most: int) -> list[_T]:
    """Take the oldest off, and whatever may share its evaluation; the others keep their order.

    Args:
        waiting: In order of arrival, at least one.
        item_of: The request of one that waits.
        most_rows: In all; the oldest may have more, and then goes alone.
        most: Requests.
    """
    batch = [waiting.popleft()]
    oldest = item_of(batch[0])
    filled, passed = oldest.rows or most_rows, []
    while waiting and filled < most_rows and len(batch) < most:
        one = waiting.popleft()
        item = item_of(one)
        if 0 < item.rows <= most_rows - filled and item.party == oldest.party:
            batch.append(one)
            filled += item.rows
        else:
            passed.append(one)
    waiting.extendleft(reversed(passed))
    return batch


def bounds(batch: Sequence[Item]) -> list[tuple[int, int]]:
    """Where each request's rows begin and end."""
    ends = list(accumulate(item.rows for item in batch))
    return list(zip([0, *ends], ends, strict=False))
