"""Data of the owner's that a model is tried on: arrays by the names of its inputs, and labels if there are any.

A file of named arrays (.npz), or one array (.npy) for a model with one input. Along the first axis of each lie the
examples. Nothing in such a file is run: arrays of Python objects are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
import openvino as ov

from cloister.errors import InvalidRequest
from cloister.prepare.files import port_name
from cloister.prepare.inputs import Array

_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Samples:
    """Examples of what a model takes.

    Attributes:
        arrays: By input, in the model's order; the first axis counts the examples.
        rows: How many examples one evaluation takes; 0 where a model has no axis for them.
        labels: What is true of each example: a class number. None where nobody knows.
    """

    arrays: Mapping[str, Array] = field(repr=False)
    rows: int
    labels: Array | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return min(len(array) for array in self.arrays.values())

    def batches(self, most: int | None = None) -> Iterator[dict[str, Array]]:
        """What one evaluation after another takes, at most so many; examples that fill none are left out."""
        step = max(1, self.rows)
        for at in range(0, (len(self) // step if most is None else min(most, len(self) // step)) * step, step):
            cut = at if self.rows == 0 else slice(at, at + step)
            yield {name: array[cut] for name, array in self.arrays.items()}

    def split(self, held_out: float) -> tuple[Samples, Samples]:
        """Two parts that share no example, shuffled alike every time: to calibrate on, and to judge by.

        Args:
            held_out: The share of the second part.

        Raises:
            InvalidRequest: There are too few examples for two parts (`calibration.small`).
        """
        step = max(1, self.rows)
        order = np.random.default_rng(_SEED).permutation(len(self))
        kept = round(len(self) * (1 - held_out))
        if kept < step or len(self) - kept < step:
            raise InvalidRequest(
                f"{len(self)} examples are too few for a part to calibrate on and one to judge by",
                reason="calibration.small",
            )
        return self._taken(order[:kept]), self._taken(order[kept:])

    def _taken(self, at: Array) -> Samples:
        labels = None if self.labels is None else self.labels[at]
        return Samples({name: array[at] for name, array in self.arrays.items()}, self.rows, labels)


def read_samples(path: Path, model: ov.Model, labels: str = "") -> Samples:
    """Read examples for this model.

    Args:
        path: A .npz, or a .npy for a model with one input.
        model: What is to take them.
        labels: Name of the array in the .npz that holds what is true; none if empty.

    Raises:
        InvalidRequest: It is no such file, has other names than the model, or arrays that do not fit it.
        OSError: It cannot be read.
    """
    arrays = read_arrays(path)
    truth = arrays.pop(labels, None) if labels else None
    if labels and truth is None:
        raise _unfit(f"{path.name} has no array '{labels}' of labels")
    ports = {port_name(port): port for port in model.inputs}
    if set(arrays) == {""} and len(ports) == 1:
        arrays = {next(iter(ports)): arrays[""]}
    if set(arrays) != set(ports):
        raise _unfit(f"{path.name} has {_named(arrays)}, and the model takes {_named(ports)}")
    counts = {len(array) if array.ndim else 0 for array in (*arrays.values(), *([] if truth is None else [truth]))}
    if 0 in counts:
        raise _unfit(f"an array in {path.name} holds no examples along its first axis")
    if len(counts) != 1:
        raise _unfit(f"the arrays in {path.name} do not all hold the same number of examples along their first axis")
    rows = {_rows(name, port, arrays[name]) for name, port in ports.items()}
    if len(rows) != 1:
        raise _unfit("the model's inputs take different numbers of examples at a time")
    return Samples({name: _as_taken(arrays[name], port) for name, port in ports.items()}, rows.pop(), truth)


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a .npz by their names, or that of a .npy under an empty one.

    Raises:
        InvalidRequest: It is neither, or holds Python objects.
        OSError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            return {"": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (ValueError, EOFError, BadZipFile, KeyError) as error:
        # What numpy says here advises to read it unsafely.
        raise _unfit(
            f"{path.name} is no .npy or .npz of plain arrays, as numpy.save and numpy.savez write them"
        ) from error


def _rows(name: str, port: ov.Output, array: Array) -> int:
    """How many examples the model takes at a time through this input."""
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic or shape.rank.get_length() == 0:
        return 1 if array.ndim else 0
    rank = shape.rank.get_length()
    if array.ndim == rank:
        rows = 1 if shape[0].is_dynamic else shape[0].get_length()
        axes = [*shape][1:]
    elif array.ndim == rank + 1:
        rows, axes = 0, [*shape]
    else:
        raise _unfit(f"'{name}' has {array.ndim} axes, and the model takes {shape} of it")
    if any(axis.is_static and axis.get_length() != size for axis, size in zip(axes, array.shape[1:], strict=True)):
        raise _unfit(f"'{name}' holds examples of {list(array.shape[1:])}, and the model takes {shape} of it")
    return int(rows)


def _as_taken(array: Array, port: ov.Output) -> Array:
    """The array in the model's type, which must be of the same kind: no fraction is rounded away unseen."""
    wanted = np.dtype(port.get_element_type().to_dtype())
    if array.dtype.kind != wanted.kind and not np.can_cast(array.dtype, wanted):
        raise _unfit(f"'{port_name(port)}' is {array.dtype} in the file, and {wanted} in the model")
    with np.errstate(over="ignore"):  # as the next line says in its own words
        taken = array.astype(wanted)
    if taken.dtype.kind == "f" and not np.isfinite(taken).all():
        raise _unfit(f"'{port_name(port)}' has values that are no finite {wanted}: nothing can be calibrated on those")
    return taken


def _named(names: Mapping[str, object]) -> str:
    return ", ".join(f"'{name[:64]}'" if name else "an array without a name" for name in names) or "nothing"


def _unfit(why: str) -> InvalidRequest:
    return InvalidRequest(why, reason="calibration.unfit")
