"""The forms in which a request travels: protobuf for gRPC, path and JSON for REST."""

from __future__ import annotations

import json
import struct
from typing import Any
from urllib.parse import quote

import numpy as np

from cloister.api.oip.inference_pb2 import ModelInferRequest
from differential.asks import Ask, Tensor

NUMPY = {"BOOL": "?", "UINT8": "u1", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
TYPED = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def grpc_form(ask: Ask) -> bytes:
    """A serialised `ModelInferRequest`, or what is to be taken for one."""
    message = ModelInferRequest(model_name=ask.model, model_version=ask.version, id=ask.id)
    for name, content in ask.parameters.items():
        _set(message.parameters[name], content)
    for tensor in ask.inputs:
        made = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        for name, content in tensor.parameters.items():
            _set(made.parameters[name], content)
        if not ask.raw and tensor.datatype in TYPED:
            getattr(made.contents, TYPED[tensor.datatype]).extend(tensor.values)
        else:
            message.raw_input_contents.append(raw(tensor))
    for name, parameters in ask.outputs:
        output = message.outputs.add(name=name)
        for key, content in parameters.items():
            _set(output.parameters[key], content)
    return bytes(message.SerializeToString()) if ask.damage is None else ask.damage(message)


def raw(tensor: Tensor) -> bytes:
    """Raw contents; of a datatype that there is none of, as FP32."""
    if tensor.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(each)) + each for each in tensor.values)
    return np.array(tensor.values, NUMPY.get(tensor.datatype, "<f4")).tobytes()


def rest_form(ask: Ask) -> tuple[str, bytes]:
    """Path and body of a POST."""
    version = f"/versions/{quote(ask.version, safe='')}" if ask.version else ""
    content: Any = {"inputs": [_json(ask, tensor) for tensor in ask.inputs]}
    if ask.id:
        content["id"] = ask.id
    if ask.parameters:
        content["parameters"] = ask.parameters
    if ask.outputs:
        content["outputs"] = [{"name": name, "parameters": given} for name, given in ask.outputs]
    if ask.damage is not None:
        content = ask.damage(content)
    body = content if isinstance(content, str) else json.dumps(content)
    return f"/v2/models/{quote(ask.model, safe='')}{version}/infer", body.encode()


def _json(ask: Ask, tensor: Tensor) -> dict[str, Any]:
    values = [each.decode() if isinstance(each, bytes) else each for each in tensor.values]
    nested: Any = values
    if ask.nested and len(tensor.shape) == 2 and len(values) == tensor.shape[0] * tensor.shape[1]:
        width = tensor.shape[1]
        nested = [values[at : at + width] for at in range(0, len(values), width)] if width else values
    made = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, "data": nested}
    return made | ({"parameters": tensor.parameters} if tensor.parameters else {})


def _set(parameter: Any, content: Any) -> None:
    match content:
        case bool():
            parameter.bool_param = content
        case int():
            parameter.int64_param = content
        case float():
            parameter.double_param = content
        case str():
            parameter.string_param = content
