"""How far two models agree on examples that neither was fitted to: what a smaller one has cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import openvino as ov

from cloister.errors import InvalidRequest
from cloister.prepare.files import port_name
from cloister.prepare.inputs import Array
from cloister.prepare.samples import Samples

NEAR: Final = 0.05
"""Share of an output's own range within which two numbers are taken for the same answer."""
_TIMED_RUNS: Final = 20
_CONFIG: Final = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


@dataclass(frozen=True, slots=True)
class OutputAgreement:
    """One output of two models, over all examples.

    Attributes:
        share: Of the answers that are the same: the class with the highest score where the last axis holds scores of
            several; else numbers that differ by at most `NEAR` of the range that the first model's have.
        by_class: Whether classes were compared.
        largest: Difference of any two numbers.
        mean: Difference of two numbers.
        accuracy: Of each model by the labels; None where there are none, or where this output is no choice of class.
    """

    share: float
    by_class: bool
    largest: float
    mean: float
    accuracy: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two models on the same examples.

    Attributes:
        examples: How many.
        outputs: By name.
        latency_ms: The median of one evaluation, of each model, taken in turns.
    """

    examples: int
    outputs: Mapping[str, OutputAgreement]
    latency_ms: tuple[float, float]

    @property
    def share(self) -> float:
        """The lowest of all outputs."""
        return min(output.share for output in self.outputs.values())

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "share": self.share}


def agreement(
    first: ov.Model,
    second: ov.Model,
    samples: Samples,
    progress: Callable[[int], None],
    *,
    numbers: Collection[str] = (),
) -> Agreement:
    """Evaluate both on all samples.

    Args:
        first: The one that counts as right.
        second: Its outputs have the same names.
        samples: At least one evaluation's.
        progress: Told how many evaluations of the pair are done.
        numbers: Outputs whose last axis holds no scores of classes, whatever its length.

    Raises:
        InvalidRequest: An output cannot be compared, or `numbers` names none of them (`agreement.impossible`).
    """
    _check_named(numbers, [port_name(port) for port in first.outputs])
    requests = [ov.Core().compile_model(model, "CPU", _CONFIG).create_infer_request() for model in (first, second)]
    answers: list[dict[str, list[Array]]] = [{port_name(port): [] for port in first.outputs} for _ in requests]
    for done, inputs in enumerate(samples.batches(), 1):
        for request, kept in zip(requests, answers, strict=True):
            found = request.infer(inputs)
            for name, parts in kept.items():
                parts.append(found[name].copy())
        progress(done)
    stacked = [{name: _stacked(name, parts, samples.rows) for name, parts in kept.items()} for kept in answers]
    compared = {
        name: _compared(name, stacked[0][name], stacked[1][name], samples.labels, by_class=name not in numbers)
        for name in stacked[0]
    }
    return Agreement(len(samples) // max(1, samples.rows) * max(1, samples.rows), compared, _timed(requests, samples))


def _check_named(numbers: Collection[str], outputs: Sequence[str]) -> None:
    for name in numbers:
        if name not in outputs:
            raise _impossible(f"the model has no output '{name[:64]}': it gives {', '.join(outputs)}")


def _stacked(name: str, parts: list[Array], rows: int) -> Array:
    """All answers, examples along the first axis."""
    if len({part.shape for part in parts}) != 1:
        raise _impossible(f"output '{name}' has another size for one example than for the next")
    return np.concatenate(parts) if rows and parts[0].ndim else np.stack(parts)


def _compared(name: str, first: Array, second: Array, labels: Array | None, *, by_class: bool) -> OutputAgreement:
    if first.shape != second.shape:
        raise _impossible(f"output '{name}' has another shape in one model than in the other")
    with np.errstate(invalid="ignore"):  # the same infinity in both is no difference
        apart = np.where(first == second, 0.0, np.abs(first.astype(np.float64) - second.astype(np.float64)))
    if not np.isfinite(apart).all():
        raise _impossible(f"output '{name}' has values that are no numbers")
    by_class = by_class and first.ndim >= 2 and first.shape[-1] >= 2 and first.dtype.kind == "f"
    if by_class:
        same = first.argmax(-1) == second.argmax(-1)
    else:
        spread = float(first.max()) - float(first.min()) if first.size else 0.0
        same = apart <= NEAR * spread if first.dtype.kind == "f" else first == second
    return OutputAgreement(
        share=float(same.mean()) if same.size else 1.0,
        by_class=by_class,
        largest=float(apart.max()) if apart.size else 0.0,
        mean=float(apart.mean()) if apart.size else 0.0,
        accuracy=_accuracies(first, second, labels) if by_class or first.size == len(first) else None,
    )


def _impossible(why: str) -> InvalidRequest:
    return InvalidRequest(f"the models cannot be compared: {why}", reason="agreement.impossible")


def _accuracies(first: Array, second: Array, labels: Array | None) -> tuple[float, float] | None:
    if labels is None:
        return None
    chosen = [_chosen(scores) for scores in (first, second)]
    if chosen[0] is None or chosen[1] is None:
        return None
    truth = labels.reshape(len(labels), -1)[: len(first), 0]
    before, after = (float((classes == truth).mean()) for classes in chosen if classes is not None)
    return before, after


def _chosen(scores: Array) -> Array | None:
    """The class that each example is put in: the highest of several scores, or a probability above a half."""
    if scores.ndim == 2 and scores.shape[1] >= 2:
        return np.asarray(scores.argmax(1))
    if scores.ndim in (1, 2) and scores.dtype.kind == "f" and scores.min() >= 0 and scores.max() <= 1:
        return np.asarray((scores.reshape(len(scores)) > 0.5).astype(np.int64))
    return None


def _timed(requests: list[ov.InferRequest], samples: Samples) -> tuple[float, float]:
    """Medians in milliseconds, taken in turns so that what else the machine does disturbs both."""
    inputs = next(samples.batches(1))
    took: list[list[float]] = [[] for _ in requests]
    for _ in range(_TIMED_RUNS):
        for request, times in zip(requests, took, strict=True):
            began_s = time.perf_counter()
            request.infer(inputs)
            times.append(1000 * (time.perf_counter() - began_s))
    before, after = (float(np.median(times)) for times in took)
    return before, after
