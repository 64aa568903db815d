"""Named inputs to the arrays of one request, and its answer to what Cluster Serving returned.

There every number became FP32, inputs were taken in any shape, and what was missing was filled up from memory. Here the
model says what it takes, and only what loses nothing is done to make inputs fit: a datatype that holds the same values
(FP64 to FP32 rounds, as it did), and a batch axis of one where an instance came without.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cloister.compat.zoo.values import Values, array_of
from cloister.contract import ANY_SIZE, ModelContract, TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.casting import cast
from cloister.oip.contents import Array

Result = Array | list[Array]
"""The model's output; a list where it has several, in the model's order."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Inputs that fit the model.

    Attributes:
        arrays: By the model's own names.
        unbatched: Whether they came without a batch axis; then the result goes without.
    """

    arrays: dict[str, Array] = field(repr=False)
    unbatched: bool

    def result(self, contract: ModelContract, outputs: dict[str, Array]) -> Result:
        """What `query` and `predict` return."""
        found = [self._bare(outputs[spec.name], spec) for spec in contract.outputs if spec.name in outputs]
        return found[0] if len(found) == 1 else found

    def _bare(self, array: Array, spec: TensorSpec) -> Array:
        batched = spec.shape is None or spec.shape[:1] == (ANY_SIZE,)
        return array[0] if self.unbatched and batched and array.shape[:1] == (1,) else array


def fitted(contract: ModelContract, values: Values) -> Instance:
    """Make an instance of named inputs.

    A model with one input takes it by any name: that was so for models which did not care for names.

    Raises:
        InvalidRequest: A name is unknown or missing, a value is no input (see `array_of`), or does not fit; the message
            names the tensor.
    """
    named = _named(contract, values)
    arrays = {spec.name: cast(array_of(named[spec.name], spec), spec) for spec in contract.inputs}
    unbatched = _all_unbatched(contract, arrays)
    if unbatched:
        arrays = {name: array[np.newaxis] for name, array in arrays.items()}
    for spec in contract.inputs:
        spec.check(spec.datatype, arrays[spec.name].shape)
    return Instance(arrays, unbatched)


def _named(contract: ModelContract, values: Values) -> Values:
    if len(contract.inputs) == len(values) == 1:
        return {contract.inputs[0].name: next(iter(values.values()))}
    known = [spec.name for spec in contract.inputs]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise InvalidRequest(f"the model has no input '{unknown[0][:64]}'; its inputs are {', '.join(known)}")
    missing = [name for name in known if name not in values]
    if missing:
        raise InvalidRequest(f"tensor '{missing[0]}' is missing; the model's inputs are {', '.join(known)}")
    return values


def _all_unbatched(contract: ModelContract, arrays: dict[str, Array]) -> bool:
    """Whether every input lacks exactly the batch axis; one that lacks it alone is told so by its shape."""
    return all(
        spec.shape is not None and spec.shape[:1] == (ANY_SIZE,) and arrays[spec.name].ndim == len(spec.shape) - 1
        for spec in contract.inputs
    )
