"""An inference request of the protocol's REST form as the `ModelInferRequest` that its gRPC form would have been.

What is only REST's own, how contents come and are wanted, is read here and goes no further: `binary_data_size`,
`binary_data` and `binary_data_output` of the binary tensor extension. All else is carried over and held against the
model where that happens for gRPC too.
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloister.api.oip.inference_pb2 import InferParameter, ModelInferRequest
from cloister.contract import MAX_PARAMETERS, MAX_RANK
from cloister.errors import InvalidRequest
from cloister.gateway.rest.numbers import to_raw
from cloister.gateway.rest.strict_json import parse
from cloister.gateway.wire import MAX_FIELDS, varint

_RAW_CONTENTS: Final = b"\x3a"
_BINARY_SIZE, _BINARY, _BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"
_REQUEST: Final = frozenset({"id", "parameters", "inputs", "outputs", "model_name", "model_version"})
_INPUT: Final = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT: Final = frozenset({"name", "parameters"})


@dataclass(slots=True)
class Wanted:
    """Which outputs are wanted as bytes behind the answer's JSON.

    Attributes:
        binary: Those that the request says nothing about.
        by_name: Those that it does.
    """

    binary: bool = False
    by_name: dict[str, bool] = field(default_factory=dict)

    def as_bytes(self, output: str) -> bool:
        """Whether this one is."""
        return self.by_name.get(output, self.binary)


def read_infer(body: bytes, header_bytes: int | None, model: str, version: str) -> tuple[bytes, Wanted]:
    """Return the serialised `ModelInferRequest`, and how its answer is wanted.

    Args:
        body: Of the HTTP request.
        header_bytes: How much of it is JSON, of `Inference-Header-Content-Length`; None for all of it.
        model: Of the path.
        version: Of the path; empty for none.

    Raises:
        InvalidRequest: Something is not as the protocol has it.
    """
    binary = memoryview(body)[len(body) if header_bytes is None else header_bytes :]
    said = members(parse(body if header_bytes is None else body[:header_bytes]), _REQUEST, "the request")
    for name, asked in (("model_name", model), ("model_version", version)):
        if said.get(name) not in (None, "", asked):
            raise InvalidRequest(f"{name} is not the one that the path asks")
    parameters = object_of(said, "parameters", "the request")
    wanted = Wanted(binary=flag(parameters.pop(_BINARY_OUTPUT, False), _BINARY_OUTPUT))
    message = ModelInferRequest(model_name=model, model_version=version, id=text_of(said, "id", "the request", ""))
    set_parameters(message.parameters, parameters)
    contents = _read_inputs(message, list_of(said, "inputs"), binary, has_binary=header_bytes is not None)
    _read_outputs(message, list_of(said, "outputs") if "outputs" in said else [], wanted)
    return serialised(message, contents), wanted


def serialised(message: ModelInferRequest, contents: Iterable[bytes | memoryview]) -> bytes:
    """A request with these raw contents, each copied once."""
    pieces: list[bytes | memoryview] = [message.SerializeToString()]
    for each in contents:
        pieces += (_RAW_CONTENTS + varint(len(each)), each)
    return b"".join(pieces)


def _read_inputs(
    message: ModelInferRequest, inputs: list[Any], binary: memoryview, *, has_binary: bool
) -> list[bytes | memoryview]:
    contents: list[bytes | memoryview] = []
    at = 0
    for given in inputs:
        tensor = members(given, _INPUT, "an input")
        name = text_of(tensor, "name", "an input")
        shape, datatype = dimensions(tensor, name), text_of(tensor, "datatype", f"tensor '{name}'")
        parameters = object_of(tensor, "parameters", f"tensor '{name}'")
        size = parameters.pop(_BINARY_SIZE, None)
        if size is None and "data" not in tensor and not parameters:
            raise InvalidRequest(f"tensor '{name}': no data, and no {_BINARY_SIZE}")
        target = message.inputs.add(name=name, datatype=datatype, shape=shape)
        set_parameters(target.parameters, parameters)
        if size is None:
            if "data" in tensor:  # else it lies elsewhere, which is refused where the parameter is known
                contents.append(to_raw(tensor["data"], datatype, shape, name))
            continue
        if "data" in tensor or not has_binary:
            raise InvalidRequest(
                f"tensor '{name}': {_BINARY_SIZE} needs the header Inference-Header-Content-Length, and no data"
            )
        if type(size) is not int or not 0 <= size <= len(binary) - at:
            raise InvalidRequest(f"tensor '{name}': {_BINARY_SIZE} is not a number of bytes that follow the JSON")
        contents.append(binary[at : at + size])
        at += size
    if at != len(binary):
        raise InvalidRequest(f"{len(binary) - at} bytes behind the JSON belong to no input")
    return contents


def _read_outputs(message: ModelInferRequest, outputs: list[Any], wanted: Wanted) -> None:
    for given in outputs:
        output = members(given, _OUTPUT, "an output")
        name = text_of(output, "name", "an output")
        parameters = object_of(output, "parameters", f"output '{name}'")
        if _BINARY in parameters:
            wanted.by_name[name] = flag(parameters.pop(_BINARY), _BINARY)
        set_parameters(message.outputs.add(name=name).parameters, parameters)


def set_parameters(target: Any, given: Mapping[str, Any]) -> None:
    """Set parameters by the types that JSON gave them.

    Raises:
        InvalidRequest: One is no string, number or boolean, or there are too many.
    """
    if len(given) > MAX_PARAMETERS:
        raise InvalidRequest(f"more than {MAX_PARAMETERS} parameters")
    for name, value in given.items():
        parameter: InferParameter = target[name]
        if type(value) is bool:
            parameter.bool_param = value
        elif type(value) is str:
            parameter.string_param = value
        elif type(value) is int and -(1 << 63) <= value < 1 << 63:
            parameter.int64_param = value
        elif type(value) is int and 0 <= value < 1 << 64:
            parameter.uint64_param = value
        elif type(value) is float and math.isfinite(value):
            parameter.double_param = value
        else:
            raise InvalidRequest(f"parameter '{name[:64]}' is no string, boolean or number of 64 bits")


def members(value: Any, known: frozenset[str], what: str) -> Mapping[str, Any]:
    """A JSON object of these members and no others; raises InvalidRequest."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} is not a JSON object")
    unknown = value.keys() - known
    if unknown:
        raise InvalidRequest(f"{what} has a member '{min(unknown)[:64]}', which nothing knows")
    return value


def list_of(said: Mapping[str, Any], name: str) -> list[Any]:
    """A member that is an array; raises InvalidRequest."""
    value = said.get(name)
    if not isinstance(value, list):
        raise InvalidRequest(f"'{name}' is missing, or not an array")
    if len(value) > MAX_FIELDS:
        raise InvalidRequest(f"'{name}' has more than {MAX_FIELDS} entries")
    return value


def object_of(said: Mapping[str, Any], name: str, what: str) -> dict[str, Any]:
    """A member that is an object, to be changed; empty where there is none. Raises InvalidRequest."""
    value = said.get(name, {})
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what}: '{name}' is not a JSON object")
    return dict(value)


def text_of(said: Mapping[str, Any], name: str, what: str, missing: str | None = None) -> str:
    """A member that is a string; raises InvalidRequest."""
    value = said.get(name, missing)
    if not isinstance(value, str):
        raise InvalidRequest(f"{what}: '{name}' is missing, or not a string")
    return value


def flag(value: Any, name: str) -> bool:
    """A parameter that is a boolean; raises InvalidRequest."""
    if type(value) is not bool:
        raise InvalidRequest(f"parameter '{name}' is true or false")
    return value


def dimensions(tensor: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """The shape of an input; raises InvalidRequest."""
    shape = tensor.get("shape")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(map(_is_dimension, shape)):
        raise InvalidRequest(f"tensor '{name[:64]}': 'shape' is not an array of {MAX_RANK} sizes at most")
    return tuple(shape)


def _is_dimension(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63
