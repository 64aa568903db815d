"""An array in the datatype that a model takes, and only where that loses nothing."""

from __future__ import annotations

import numpy as np

from cloister.contract import TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.oip.datatypes import datatype_named


def cast(array: Array, spec: TensorSpec) -> Array:
    """The same values in the model's datatype: FP64 to FP32 rounds, and nothing else changes.

    Raises:
        InvalidRequest: A value does not fit; strings for numbers, or numbers for strings (reason `input.unsupported`).
    """
    wanted = datatype_named(spec.datatype, spec.name)
    textual = array.dtype.kind in "OSU"
    if spec.datatype == "BYTES" or textual:
        if textual and spec.datatype == "BYTES":
            return array
        raise InvalidRequest(
            f"tensor '{spec.name}': {'strings' if textual else array.dtype}, the model takes {spec.datatype}",
            reason="input.unsupported",
        )
    if array.dtype == wanted.dtype:
        return array
    if spec.datatype == "BF16" or array.dtype.kind not in "biuf":
        raise InvalidRequest(f"tensor '{spec.name}': {array.dtype}, the model takes {spec.datatype}")
    with np.errstate(all="ignore"):
        found: Array = array.astype(wanted.dtype)
        kept = (np.isfinite(found) == np.isfinite(array)).all() if found.dtype.kind == "f" else (found == array).all()
    if not kept:
        raise InvalidRequest(f"tensor '{spec.name}': a value of {array.dtype} does not fit {spec.datatype}")
    return found
