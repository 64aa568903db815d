"""Inference requests: what the gateway reads of the bytes, held against what the worker's parser makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from google.protobuf.message import DecodeError

from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.errors import InvalidRequest
from cloister.gateway.headers import check_tensors, read_input, read_output
from cloister.gateway.wire import Route, Tensors, read_request, varint
from fakes.contracts import CONTRACT, raw_request, typed_request
from fakes.gateway_parts import A, infer_request
from fuzz.mutation import changed_bytes, changed_number
from fuzz.target import Violation

Field = tuple[int, int, bytes]
"""Number, wire type, and content without its length."""
_NESTED: Mapping[int, Any] = {4: {2: {}}, 5: {4: {2: {}}, 5: {}}, 6: {2: {2: {}}}}
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_DEEP = b"\x0b" * 64 + b"\x0c" * 64


class Requests:
    """`wire.read_request` and `headers.check_tensors`, as the gateway calls them."""

    name = "request"

    def __init__(self) -> None:
        more = raw_request(parameters={"a": True, "b": 3, "c": 0.5, "d": "text"})
        plain = [raw_request(), typed_request(), more]
        self.seeds = [request.SerializeToString() for request in plain]
        self.seeds.append(infer_request("everything", version="7", identifier="r-1", workers=[A]))

    def judge(self, raw: bytes) -> None:
        route, tensors = read_request(raw)
        if route.workers is None:
            check_tensors(CONTRACT, tensors)
        try:
            parsed = ModelInferRequest.FromString(raw)
        except DecodeError:
            if route.workers is None and tensors.raw_sizes:
                raise Violation("the gateway let pass what does not parse") from None
            raise InvalidRequest("the worker's parser refuses it") from None
        _compare(route, tensors, parsed)

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        return _changed(rng, raw, _NESTED) if rng.random() < 0.85 else changed_bytes(rng, raw)


def _compare(route: Route, tensors: Tensors, parsed: ModelInferRequest) -> None:
    if route[:3] != (parsed.model_name, parsed.model_version, parsed.id):
        raise Violation("model, version or id are not the same to both")
    if (route.workers is not None) != ("cloister-seal" in parsed.parameters):
        raise Violation("it is sealed to one of them only")
    if route.workers is not None:
        if route.workers != frozenset(parsed.parameters["cloister-workers"].string_param.split(",")):
            raise Violation("its workers are not the same to both")
        return
    headers = [read_input(part)[0] for part in tensors.inputs]
    if [header[:4] for header in headers] != [
        (tensor.name, tensor.datatype, tuple(tensor.shape), tensor.HasField("contents")) for tensor in parsed.inputs
    ]:
        raise Violation("inputs are not the same to both")
    if [read_output(part).name for part in tensors.outputs] != [output.name for output in parsed.outputs]:
        raise Violation("outputs are not the same to both")
    if list(tensors.raw_sizes) != [len(contents) for contents in parsed.raw_input_contents]:
        raise Violation("contents are not the same to both")


def _changed(rng: Random, raw: bytes, nested: Mapping[int, Any]) -> bytes:
    """A message with one field changed, or one inside it, and its lengths right again, or nearly."""
    fields = _taken_apart(raw)
    if not fields:
        return changed_bytes(rng, raw)
    at = rng.randrange(len(fields))
    number, kind, content = fields[at]
    match rng.randrange(12):
        case 0:
            del fields[at]
        case 1:
            fields.insert(rng.randrange(len(fields) + 1), fields[at])
        case 2:
            rng.shuffle(fields)
        case 3:
            fields[at] = (rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 16, 100, 1 << 28)), kind, content)
        case 4:
            other = rng.choice((_VARINT, _I64, _LEN, _I32))
            fields[at] = (number, other, {_VARINT: b"\x01", _I64: bytes(8), _LEN: content, _I32: bytes(4)}[other])
        case 5:
            return _joined(fields[:at]) + rng.choice((_DEEP, b"\x0b\x0c", b"\x07", b"\0\0")) + _joined(fields[at:])
        case 6:
            return _joined(fields, overlong=at, more=rng.randrange(10))
        case 7 if kind == _VARINT:
            value = int.from_bytes(content[:8], "little")
            fields[at] = (number, kind, varint(changed_number(rng, value) % (1 << 64)))
        case _ if kind == _LEN and number in nested:
            fields[at] = (number, kind, _changed(rng, content, nested[number]))
        case _:
            fields[at] = (number, kind, changed_bytes(rng, content))
    return _joined(fields)


def _taken_apart(raw: bytes) -> list[Field]:
    """The fields of a message; raises IndexError where it ends too soon, and reads what it is not of."""
    fields: list[Field] = []
    at = 0
    while at < len(raw):
        tag, at = _number(raw, at)
        number, kind = tag >> 3, tag & 7
        if kind == _LEN:
            size, at = _number(raw, at)
            content = raw[at : at + size]
        elif kind == _VARINT:
            content = raw[at : _number(raw, at)[1]]
        else:
            content = raw[at : at + {_I64: 8, _I32: 4}.get(kind, 1)]
        at += len(content)
        fields.append((number, kind, content))
    return fields


def _number(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while raw[at] & 0x80:
        value |= (raw[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | raw[at] << shift, at + 1


def _joined(fields: list[Field], *, overlong: int = -1, more: int = 0) -> bytes:
    """The message of these fields; one of them with a length, or a tag, in more bytes than it takes."""
    message = b""
    for at, (number, kind, content) in enumerate(fields):
        tag, size = varint(number << 3 | kind), varint(len(content)) if kind == _LEN else b""
        if at == overlong:
            tag, size = (tag, _stretched(size, more)) if size and len(content) % 2 else (_stretched(tag, more), size)
        message += tag + size + content
    return message


def _stretched(number: bytes, more: int) -> bytes:
    return number[:-1] + bytes([number[-1] | 0x80]) + b"\x80" * more + b"\0"
