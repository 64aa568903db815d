"""How long the parts of a request took, as plain numbers. All that the enclave tells of it goes through here.

Whatever was evaluated together is told one set of numbers, and each is rounded to few bits, so that they say nothing of
one request beside another (attacks I10; docs/decisions/0024-speed.md says what they do say to a host).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, NamedTuple

from cloister.api.v1.worker_pb2 import Evaluation as EvaluationMessage

SIGNIFICANT_BITS: Final = 5
"""Of a duration: steps of three to six percent."""
_MOST_US: Final = 31 << 27

clock_s: Final = time.perf_counter
"""What everything here is measured by. The event loop's own clock has whole milliseconds."""


@dataclass(slots=True, eq=False)
class Evaluation:
    """One run of a model, and how many shared it.

    Attributes:
        requests: How many.
        rows: Of all of them; 0 where they have no axis in common.
        began_s: When their inputs were copied in.
        ended_s: When their outputs were copied out; 0 until then.
    """

    requests: int
    rows: int
    began_s: float
    ended_s: float = 0.0


class Arrival(NamedTuple):
    """When a frame came, and when all of its calls were open."""

    came_s: float
    opened_s: float


def told(model_version: str, arrival: Arrival, evaluation: Evaluation, encode_s: float) -> EvaluationMessage:
    """What is told of one evaluation, to the calls of one frame."""
    return EvaluationMessage(
        model_version=model_version,
        requests=evaluation.requests,
        rows=evaluation.rows,
        open_us=rounded_us(arrival.opened_s - arrival.came_s),
        wait_us=rounded_us(evaluation.began_s - arrival.opened_s),
        compute_us=rounded_us(evaluation.ended_s - evaluation.began_s),
        encode_us=rounded_us(encode_s),
    )


def rounded_us(seconds: float) -> int:
    """Whole microseconds with `SIGNIFICANT_BITS`; not negative, and at most what the field holds, 71 minutes."""
    number = min(int(seconds * 1e6 + 0.5), _MOST_US)
    shift = number.bit_length() - SIGNIFICANT_BITS
    if number < 0 or shift <= 0:
        return max(0, number)
    return (number + (1 << shift - 1)) >> shift << shift
