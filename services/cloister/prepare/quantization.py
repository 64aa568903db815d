"""A model in 8-bit integers, after training, by NNCF; and what that costs, on examples that it was not calibrated on.

NNCF finds the range of every activation by evaluating the model on the calibration part. Both parts are the owner's
and stay here: the model that comes out holds ranges, no examples.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, Final

import openvino as ov

from cloister.errors import InvalidRequest
from cloister.prepare.agreement import Agreement, agreement
from cloister.prepare.files import written_bytes
from cloister.prepare.samples import Samples

MIN_AGREEMENT: Final = 0.98
HELD_OUT: Final = 0.25
MOST_CALIBRATED: Final = 300


@dataclass(frozen=True, slots=True)
class Quantized:
    """What came of it.

    Attributes:
        model: With its weights in int8 and its activations quantised.
        calibrated_on: How many evaluations.
        agreement: With the original, on the held-out part.
        size_bytes: Of the original and of this one, both in OpenVINO's format.
    """

    model: ov.Model
    calibrated_on: int
    agreement: Agreement
    size_bytes: tuple[int, int]


def quantize(
    model: ov.Model,
    samples: Samples,
    *,
    held_out: float = HELD_OUT,
    most: int = MOST_CALIBRATED,
    transformer: bool = False,
    numbers: Collection[str] = (),
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Quantized:
    """Quantise a model and hold it against the original.

    Args:
        model: Is left as it is.
        samples: Of what it takes; split into a part to calibrate on and one to judge by.
        held_out: Share of the second part.
        most: Evaluations to calibrate on.
        transformer: Whether attention is treated as NNCF does for transformers.
        numbers: As in `agreement`.
        progress: Told the stage, how many evaluations are done, and of how many.

    Raises:
        InvalidRequest: There are too few samples, NNCF cannot quantise this model (`quantization.failed`), or what
            comes of it cannot be compared (`agreement.impossible`).
        ImportError: NNCF is not installed.
    """
    import nncf

    calibration, judging = samples.split(held_out)
    total = min(most, len(calibration) // max(1, calibration.rows))
    counted = _Counted(list(calibration.batches(total)), lambda done: progress("calibrating", done, total))
    try:
        with _quiet():
            small = nncf.quantize(
                model.clone(),
                nncf.Dataset(counted),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=total,
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            )
    except (RuntimeError, ValueError, nncf.errors.InternalError) as error:
        raise InvalidRequest(
            f"NNCF cannot quantise it: {' '.join(str(error).split())[:300]}", reason="quantization.failed"
        ) from error
    judged = len(judging) // max(1, judging.rows)
    found = agreement(model, small, judging, lambda done: progress("comparing", done, judged), numbers=numbers)
    return Quantized(small, total, found, (written_bytes(model), written_bytes(small)))


class _Counted:
    """A list that says how far it has been read. NNCF reads it more than once."""

    def __init__(self, items: list[Any], progress: Callable[[int], None]) -> None:
        self._items = items
        self._progress = progress

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self._items, 1):
            self._progress(done)
            yield item


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF's own log and bars are not for whoever reads ours."""
    log = logging.getLogger("nncf")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(before)
