"""What a program of Cluster Serving gives as an input, to an array.

    ndarray                                a dense tensor
    ["one", "two"]                         a tensor of strings
    [indices, values, shape], ndarrays     a sparse tensor in coordinates, which is made dense
    "cat.jpg", {"path": "cat.jpg"}         an image's file
    {"b64": "..."}                         an image, base64

In JSON (`predict`) also numbers, nested lists, {"indices", "data", "shape"} for a sparse tensor, and a string for an
image in base64. Nothing is guessed of a value that is none of these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from cloister.compat.zoo.images import pixels_of
from cloister.contract import TensorSpec, check_shape
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array

MAX_DENSE_BYTES: Final = 64 << 20
"""Of a sparse tensor made dense: what a request may hold."""
Values = Mapping[str, object]
"""Named inputs, as `enqueue` is given them."""
_SPARSE_KEYS: Final = frozenset({"indices", "data", "shape"})


def array_of(value: object, spec: TensorSpec) -> Array:
    """The array that `value` stands for; its datatype and shape are yet to be held against the model.

    Args:
        value: As `enqueue` is given it; see the module.
        spec: The input that it is for, by which an image knows its layout.

    Raises:
        InvalidRequest: It is none of those, or contradicts itself.
    """
    match value:
        case np.ndarray():
            return value
        case str():
            return pixels_of({"path": value}, spec)
        case dict() if value.keys() == _SPARSE_KEYS:
            return _dense(_numbers(value["indices"], spec), _numbers(value["data"], spec), value["shape"], spec)
        case dict():
            return pixels_of(value, spec)
        case [np.ndarray() as indices, np.ndarray() as values, shape]:
            return _dense(indices, values, shape, spec)
        case [str(), *_]:
            return _strings(value, spec)
    raise InvalidRequest(
        f"the input '{spec.name}' is a {type(value).__name__}: give an ndarray, a list of strings, [indices, values, "
        "shape] of a sparse tensor, or an image's path or {'b64': ...}",
        reason="input.unsupported",
    )


def _strings(value: Sequence[object], spec: TensorSpec) -> Array:
    elements = [each.encode() for each in value if isinstance(each, str)]
    if len(elements) != len(value):
        raise InvalidRequest(
            f"the input '{spec.name}' is a list of strings and other things", reason="input.unsupported"
        )
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


def read_instance(text: str) -> dict[str, object]:
    """The only instance of `{"instances": [{name: value}]}`, values as `array_of` takes them.

    Raises:
        InvalidRequest: It is not that; more than one instance is more than `predict` answers.
    """
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("predict was given a text that is not JSON", reason="json.malformed") from error
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list) or not all(isinstance(each, dict) for each in instances):
        raise InvalidRequest('predict wants {"instances": [{name: value}]}', reason="json.malformed")
    if len(instances) != 1:
        raise InvalidRequest(
            f"predict answers one instance and was given {len(instances)}; call it, or enqueue, for each",
            reason="instances.several",
        )
    return {name: _from_json(value, name) for name, value in instances[0].items()}


def _from_json(value: object, name: str) -> object:
    if isinstance(value, str):
        return {"b64": value}
    if isinstance(value, dict):
        return value
    array = _array(value, name)
    return array.ravel().tolist() if array.dtype.kind == "U" and array.ndim == 1 else array


def _array(value: object, name: str) -> Array:
    try:
        array = np.array(value)
    except ValueError:  # NumPy's word for rows of several lengths
        array = np.array(None)
    if array.dtype.kind not in "biufU":
        raise InvalidRequest(f"the input '{name}' is no tensor of numbers or of strings", reason="input.unsupported")
    return array


def _numbers(value: object, spec: TensorSpec) -> Array:
    array = _array(value, spec.name)
    if array.dtype.kind == "U":
        raise InvalidRequest(f"the sparse tensor '{spec.name}' holds text", reason="sparse.malformed")
    return array


def _dense(indices: Array, values: Array, shape: object, spec: TensorSpec) -> Array:
    """Zeros, and each value in its place; `indices` has a row for each value."""
    dims = _dims(shape, spec)
    if indices.shape != (values.size, len(dims)) or indices.dtype.kind not in "iuf" or values.dtype.kind not in "biuf":
        raise _malformed(spec, f"{values.size} values of {len(dims)} dimensions have indices of {indices.shape}")
    places = indices.astype(np.int64)
    if (places != indices).any() or (places < 0).any() or (places >= np.array(dims, np.int64)).any():
        raise _malformed(spec, "an index lies outside of its shape")
    if np.unique(places, axis=0).shape != places.shape:
        raise _malformed(spec, "two values have the same place")
    if np.prod(dims, dtype=np.int64) * values.itemsize > MAX_DENSE_BYTES:
        raise _malformed(spec, f"made dense it takes more than {MAX_DENSE_BYTES >> 20} MiB")
    dense = np.zeros(dims, values.dtype)
    dense[tuple(places.T)] = values.ravel()
    return dense


def _dims(shape: object, spec: TensorSpec) -> tuple[int, ...]:
    given: Sequence[Any] = np.asarray(shape).ravel().tolist()
    if not all(isinstance(each, (int, float)) and each == int(each) for each in given):
        raise _malformed(spec, "its shape is not whole numbers")
    dims = tuple(map(int, given))
    check_shape(dims, spec.name)
    return dims


def _malformed(spec: TensorSpec, what: str) -> InvalidRequest:
    return InvalidRequest(f"the sparse tensor '{spec.name}': {what}", reason="sparse.malformed")
