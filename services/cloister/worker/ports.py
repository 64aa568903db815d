"""The tensors of an OpenVINO model, in the words of the protocol."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import openvino as ov

from cloister.contract import ModelContract, TensorSpec
from cloister.errors import InvalidRequest

_DATATYPES: Final = MappingProxyType(
    {
        "boolean": "BOOL",
        "u8": "UINT8",
        "u16": "UINT16",
        "u32": "UINT32",
        "u64": "UINT64",
        "i8": "INT8",
        "i16": "INT16",
        "i32": "INT32",
        "i64": "INT64",
        "f16": "FP16",
        "bf16": "BF16",
        "f32": "FP32",
        "f64": "FP64",
    }
)


def contract_of(model: ov.Model) -> ModelContract:
    """The tensors of a model as the protocol names them.

    Raises:
        InvalidRequest: A tensor has an element type that the protocol has no word for.
    """
    return ModelContract(
        inputs=tuple(_spec(port, "input") for port in model.inputs),
        outputs=tuple(_spec(port, "output") for port in model.outputs),
    )


def _spec(port: ov.Output, side: str) -> TensorSpec:
    names = sorted(port.get_names())
    name = names[0] if names else port.get_node().get_friendly_name()
    datatype = _DATATYPES.get(port.get_element_type().get_type_name())
    if datatype is None:
        raise InvalidRequest(f"{side} '{name}': element type {port.get_element_type()} is not served")
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return TensorSpec(name, datatype, None)
    return TensorSpec(name, datatype, tuple(-1 if size.is_dynamic else size.get_length() for size in partial))
