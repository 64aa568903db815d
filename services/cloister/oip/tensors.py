"""`ModelInferRequest` and `ModelInferResponse` to named arrays, and back.

Keeps the Open Inference Protocol v2 (gRPC): contents are raw for every tensor or typed for every tensor, never both;
raw contents come in the order of the tensors. Decoding is strict: whatever does not parse to exactly one meaning is
`InvalidRequest`, and the message names the tensor. Encoding always writes raw contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from cloister.api.oip import inference_pb2
from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.contract import check_raw_count, check_shape, refuse_both
from cloister.errors import InvalidRequest
from cloister.oip.contents import Array, from_raw, from_typed, to_raw
from cloister.oip.datatypes import Datatype, datatype_named, datatype_of

MAX_TENSORS: Final = 256
MAX_NAME: Final = 256

Parameter = bool | int | float | str
_Message = TypeVar("_Message", ModelInferRequest, ModelInferResponse)


class _Tensor(Protocol):
    """What `InferInputTensor` and `InferOutputTensor` have in common."""

    name: str
    datatype: str

    @property
    def shape(self) -> Iterable[int]: ...
    @property
    def contents(self) -> inference_pb2.InferTensorContents: ...
    def HasField(self, field_name: Any) -> bool: ...


def encode_request(
    model_name: str,
    inputs: Mapping[str, Array],
    *,
    version: str = "",
    id: str = "",  # the protocol's own word
    outputs: Iterable[str] = (),
    parameters: Mapping[str, Parameter] | None = None,
    datatypes: Mapping[str, str] | None = None,
) -> ModelInferRequest:
    """Make a request with raw contents.

    Args:
        model_name: Which model.
        inputs: Array by tensor name.
        version: Model version; empty for the server's choice.
        id: Comes back with the response.
        outputs: Names of the outputs that are wanted; none asks for all.
        parameters: Request parameters.
        datatypes: Datatype by tensor name where the array's dtype does not say it: `BF16` for a uint16 array.
    """
    if not isinstance(inputs, Mapping):
        raise InvalidRequest(f"the inputs are of type {type(inputs).__name__}; give a dict, a NumPy array by name")
    request = ModelInferRequest(model_name=model_name, model_version=version, id=id)
    for name, value in (parameters or {}).items():
        _set_parameter(request.parameters[name], value)
    for name, array in inputs.items():
        if not isinstance(array, np.ndarray):
            raise InvalidRequest(f"the input '{name}' is a {type(array).__name__}; give a NumPy array of its datatype")
        datatype = _declared(name, array, datatypes)
        request.inputs.add(name=name, datatype=datatype.name, shape=array.shape)
        request.raw_input_contents.append(to_raw(array, datatype, name))
    for name in outputs:
        request.outputs.add(name=name)
    return request


def decode_request(request: ModelInferRequest) -> dict[str, Array]:
    """The inputs by name, in the order of the request. Arrays over raw contents are read-only views, not copies.

    Raises:
        InvalidRequest: Anything ambiguous, contradictory or absurd; the message names the tensor.
    """
    return _decode(request.inputs, request.raw_input_contents)


def encode_response(
    model_name: str,
    outputs: Mapping[str, Array],
    *,
    version: str = "",
    id: str = "",  # the protocol's own word
    datatypes: Mapping[str, str] | None = None,
) -> ModelInferResponse:
    """Make a response with raw contents; the arguments are those of `encode_request`."""
    response = ModelInferResponse(model_name=model_name, model_version=version, id=id)
    for name, array in outputs.items():
        datatype = _declared(name, array, datatypes)
        response.outputs.add(name=name, datatype=datatype.name, shape=array.shape)
        response.raw_output_contents.append(to_raw(array, datatype, name))
    return response


def decode_response(response: ModelInferResponse) -> dict[str, Array]:
    """The outputs by name; as strict as `decode_request`."""
    return _decode(response.outputs, response.raw_output_contents)


def parse_request(serialised: bytes) -> ModelInferRequest:
    """Parse the protobuf of a request."""
    return _parse(ModelInferRequest(), serialised)


def parse_response(serialised: bytes) -> ModelInferResponse:
    """Parse the protobuf of a response."""
    return _parse(ModelInferResponse(), serialised)


def _parse(message: _Message, serialised: bytes) -> _Message:
    try:
        message.ParseFromString(serialised)
    except DecodeError:
        raise InvalidRequest(f"not a {type(message).__name__}") from None
    return message


def _decode(tensors: Sequence[_Tensor], raw: Sequence[bytes]) -> dict[str, Array]:
    if len(tensors) > MAX_TENSORS:
        raise InvalidRequest(f"more than {MAX_TENSORS} tensors")
    check_raw_count(len(raw), len(tensors))
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(tensors):
        name = tensor.name
        if not name or len(name) > MAX_NAME:
            raise InvalidRequest(f"tensor number {index} has no name, or one of more than {MAX_NAME} characters")
        if name in arrays:
            raise InvalidRequest(f"tensor '{name}' comes twice")
        datatype = datatype_named(tensor.datatype, name)
        shape = tuple(tensor.shape)
        check_shape(shape, name)
        if not raw:
            arrays[name] = from_typed(tensor.contents, datatype, shape, name)
        else:
            refuse_both(tensor.HasField("contents"), name)
            arrays[name] = from_raw(raw[index], datatype, shape, name)
    return arrays


def _declared(name: str, array: Array, datatypes: Mapping[str, str] | None) -> Datatype:
    """The datatype to write, which must be able to hold what the array holds without changing a value."""
    natural = datatype_of(array, name)
    if datatypes is None or name not in datatypes:
        return natural
    declared = datatype_named(datatypes[name], name)
    if declared.dtype != natural.dtype:
        raise InvalidRequest(f"tensor '{name}': an array of {array.dtype} is not {declared.name}")
    return declared


def _set_parameter(target: inference_pb2.InferParameter, value: Parameter) -> None:
    match value:
        case bool():
            target.bool_param = value
        case int():
            target.int64_param = value
        case float():
            target.double_param = value
        case str():
            target.string_param = value
