"""What a model file may hold, looked at before OpenVINO's own parsers see it (attacks F08).

The key and the digest already say that the model's owner made these bytes. The worker still does not let an owner
reach out of the enclave: no document type or entity, no operation from outside OpenVINO's own sets (which is what an
extension library brings), no data in another file, no size that the bytes do not bear out. Everything is
`InvalidRequest` with the reason `model.refused`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from xml.parsers import expat

from cloister.worker.protobuf import MAX_COUNT, fields
from cloister.worker.refusals import refused

MAX_IR_BYTES: Final = 64 << 20
MAX_DEPTH: Final = 64
MAX_ELEMENTS: Final = 4_000_000
MAX_TENSOR_ELEMENTS: Final = 1 << 32

_OPSET = re.compile(r"opset(1[0-9]|[1-9])")
_NUMBER = re.compile(r"[0-9]{1,18}")
_FREE = frozenset({"rt_info", "meta_data", "quantization_parameters"})
_STRUCTURE = _FREE | {
    *("net", "layers", "layer", "data", "input", "output", "port", "dim", "edges", "edge", "statistics", "pre-process"),
    *("port_map", "back_edges", "body", "then_body", "else_body", "then_port_map", "else_port_map"),
}
_OUTSIDE = frozenset(
    {"path", "file", "filename", "library", "lib", "location", "url", "uri", "external", "external_data"}
)
_BITS: Final[Mapping[str, int]] = {
    "boolean": 8,
    "u1": 1,
    "u2": 2,
    "u4": 4,
    "u8": 8,
    "u16": 16,
    "u32": 32,
    "u64": 64,
    "nf4": 4,
    "i4": 4,
    "i8": 8,
    "i16": 16,
    "i32": 32,
    "i64": 64,
    "f4e2m1": 4,
    "f8e4m3": 8,
    "f8e5m2": 8,
    "f8e8m0": 8,
    "f16": 16,
    "bf16": 16,
    "f32": 32,
    "f64": 64,
}


def scan_ir(xml: bytes, weights_bytes: int) -> None:
    """Look through an OpenVINO IR.

    Args:
        xml: The topology.
        weights_bytes: Size of the weights that come with it.

    Raises:
        InvalidRequest: It holds, or asks for, what the worker does not serve.
    """
    if len(xml) > MAX_IR_BYTES:
        raise refused("the topology is too large")
    scanner = _IrScanner(weights_bytes)
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = scanner.start
    parser.EndElementHandler = scanner.end
    parser.CharacterDataHandler = scanner.text
    parser.StartDoctypeDeclHandler = _no_doctype
    parser.ProcessingInstructionHandler = _no_instruction
    try:
        parser.Parse(xml, True)
    except expat.ExpatError:
        raise refused("the topology is not well-formed XML") from None
    if not scanner.seen_layers:
        raise refused("the topology has no layers")


class _IrScanner:
    """Handlers of one pass over the XML."""

    def __init__(self, weights_bytes: int) -> None:
        self.seen_layers = False
        self._weights_bytes = weights_bytes
        self._path: list[str] = []
        self._free_depth = 0
        self._elements = 0
        self._dim_text: list[str] | None = None
        self._port_elements = 1
        self._layer_type = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS or len(self._path) >= MAX_DEPTH:
            raise refused("the topology has too many elements, or nests too deeply")
        if not self._path and name != "net":
            raise refused("the topology does not begin with <net>")
        self._path.append(name)
        if self._free_depth:
            self._free_depth += 1
            return
        if name not in _STRUCTURE:
            raise refused(f"unknown element <{name[:32]}>")
        if name in _FREE:
            self._free_depth = 1
        elif name == "layer":
            self._layer(attributes)
        elif name == "data":
            self._data(attributes)
        elif name == "port":
            self._port_elements = 1
        elif name == "dim":
            self._dim_text = []

    def end(self, name: str) -> None:
        self._path.pop()
        if self._free_depth:
            self._free_depth -= 1
        elif name == "dim" and self._dim_text is not None:
            self._dim("".join(self._dim_text).strip())
            self._dim_text = None

    def text(self, text: str) -> None:
        if self._dim_text is not None:
            self._dim_text.append(text)

    def _layer(self, attributes: dict[str, str]) -> None:
        self.seen_layers = True
        self._layer_type = attributes.get("type", "")
        if self._layer_type != "Const" and self._layer_type.lower() in ("const", "constant"):
            raise refused("a constant is not called Const")  # OpenVINO makes one of it that has no elements
        if _OPSET.fullmatch(attributes.get("version", "")) is None:
            raise refused(f"operation '{self._layer_type[:64]}' is not from one of OpenVINO's operation sets")

    def _data(self, attributes: dict[str, str]) -> None:
        for key in attributes:
            if key.lower() in _OUTSIDE:
                raise refused(f"attribute '{key[:32]}' points outside the model")
        if self._layer_type == "Const":
            self._constant(attributes)

    def _constant(self, attributes: dict[str, str]) -> None:
        offset, size = _number(attributes, "offset"), _number(attributes, "size")
        if offset + size > self._weights_bytes:
            raise refused("a constant lies outside the weights")
        bits = _BITS.get(attributes.get("element_type", ""))
        if bits is None:  # "dynamic" has no size to OpenVINO either, and its elements would be whatever lies there
            raise refused("a constant has no known type of element")
        elements = 1
        for dim in filter(None, attributes.get("shape", "").split(",")):
            if _NUMBER.fullmatch(dim.strip()) is None:
                raise refused("a constant has no fixed shape")
            elements *= int(dim)
            if elements > MAX_COUNT:
                raise refused("a constant is too large")
        if (elements * bits + 7) // 8 != size:
            raise refused("a constant's shape and size differ")

    def _dim(self, text: str) -> None:
        if text == "-1":
            return
        if _NUMBER.fullmatch(text) is None:
            raise refused("a dimension is not a number")
        self._port_elements *= int(text) or 1
        if self._port_elements > MAX_TENSOR_ELEMENTS:
            raise refused("a tensor is too large")


def scan_onnx(raw: memoryview) -> None:
    """Look through an ONNX model for data kept in other files.

    Raises:
        InvalidRequest: It does not parse, or a tensor's data lies elsewhere.
    """
    _walk(raw, _MODEL, 0)


# Message types of onnx.proto that can lead to a TensorProto, as {field number: type below}; field 14 of a tensor is
# data_location (1: EXTERNAL), field 13 external_data.
_TENSOR: Final = "tensor"
_MODEL: Final = "model"
_ONNX: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


def _walk(message: memoryview, kind: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise refused("the model nests too deeply")
    below = _ONNX[kind]
    for number, value in fields(message):
        if kind == _TENSOR and (number == 13 or (number == 14 and value != 0)):
            raise refused("a tensor's data lies in another file")
        if number in below:
            if not isinstance(value, memoryview):
                raise refused("not an ONNX model")
            _walk(value, below[number], depth + 1)


def _number(attributes: dict[str, str], name: str) -> int:
    text = attributes.get(name, "")
    if _NUMBER.fullmatch(text) is None:
        raise refused(f"a constant has no {name}")
    return int(text)


def _no_doctype(*_: object) -> None:
    raise refused("a document type or entity in the topology")


def _no_instruction(*_: object) -> None:
    raise refused("a processing instruction in the topology")
