"""The requests that a load asks, as bytes that are made once, and the answers as arrays.

Carried through a folder: `question-<n>.npz` are the inputs, `answers-<n>.npz` what came back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloister.oip.tensors import encode_request

Arrays = dict[str, NDArray[Any]]


def write(folder: Path, questions: Sequence[Arrays]) -> None:
    """Keep the inputs where a load finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, inputs in enumerate(questions):
        save(folder / f"question-{number}.npz", inputs)


def read(folder: Path) -> list[Arrays]:
    """What `write` kept."""
    count = len(list(folder.glob("question-*.npz")))
    return [load(folder / f"question-{number}.npz") for number in range(count)]


def save(path: Path, arrays: Arrays) -> None:
    """One set of named arrays."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(path: Path) -> Arrays:
    """What `save` kept."""
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def oip(model: str, inputs: Arrays) -> bytes:
    """A serialised ModelInferRequest."""
    return encode_request(model, inputs).SerializeToString()


def difference(answer: Arrays, expected: Arrays) -> float:
    """The largest difference from what was expected, as a share of the largest number expected.

    Raises:
        ValueError: Other outputs, or of other shapes.
    """
    if {name: array.shape for name, array in answer.items()} != {name: a.shape for name, a in expected.items()}:
        raise ValueError(f"answered {sorted(answer)} in place of {sorted(expected)}, or in other shapes")
    return max(
        float(np.max(np.abs(answer[name] - array)) / max(float(np.max(np.abs(array))), 1e-30))
        for name, array in expected.items()
    )
