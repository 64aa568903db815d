"""The tensors of an OpenVINO model, in the words of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import openvino as ov

from cloister.contract import ModelContract, TensorSpec
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array
from cloister.worker.refusals import refused

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

_WIDE: Final = frozenset({"i64", "u64", "u32"})
_LEAST, _GREATEST = -(1 << 31), (1 << 31) - 1


def contract_of(model: ov.Model) -> ModelContract:
    """The tensors of a model as the protocol names them.

    Raises:
        ModelRefused: A tensor has an element type that the protocol has no word for, or an input any number of axes.
    """
    return ModelContract(
        inputs=tuple(_spec(port, "input") for port in model.inputs),
        outputs=tuple(_spec(port, "output") for port in model.outputs),
    )


def narrow_inputs(model: ov.Model) -> frozenset[str]:
    """Inputs of integers that OpenVINO's CPU plugin evaluates in 32 bits, with a sign.

    It drops the other bits without a word, wherever it does not turn the numbers into floating-point ones first.
    """
    return frozenset(
        _name(port)
        for port in model.inputs
        if port.get_element_type().get_type_name() in _WIDE
        and not all(_spares(reader.get_node()) for reader in port.get_target_inputs())
    )


def _spares(node: ov.Node) -> bool:
    """Whether an operation takes integers in all their bits, or does not look at them."""
    kind = node.get_type_name()
    return kind == "ShapeOf" or (kind == "Convert" and bool(node.get_output_element_type(0).is_real()))


def check_narrow(inputs: Mapping[str, Array], narrow: frozenset[str]) -> None:
    """Raise `InvalidRequest` if one of the narrow inputs holds a number that would be cut."""
    for name in narrow:
        array = inputs[name]
        if array.size and (int(array.max()) > _GREATEST or int(array.min()) < _LEAST):
            raise InvalidRequest(f"tensor '{name}': an element is beyond the 32 bits that are evaluated")


def _name(port: ov.Output) -> str:
    names: list[str] = sorted(port.get_names())
    return names[0] if names else str(port.get_node().get_friendly_name())


def _spec(port: ov.Output, side: str) -> TensorSpec:
    name = _name(port)
    kind = port.get_element_type().get_type_name()
    datatype = _DATATYPES.get(kind)
    if datatype is None:
        raise refused(f"{side} '{name}': element type {kind} is not served")
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic and side == "input":
        raise refused(f"{side} '{name}': an open number of dimensions is not served")
    if partial.rank.is_dynamic:
        return TensorSpec(name, datatype, None)
    return TensorSpec(name, datatype, tuple(-1 if size.is_dynamic else size.get_length() for size in partial))
