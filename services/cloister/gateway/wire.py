"""What a gateway reads of a request: the fields it routes by, straight from the wire bytes.

Tensors are neither parsed nor copied: their contents are stepped over by their length, and their headers handed on as
they lie (`headers` reads them). The reader is stricter than a protobuf parser
(https://protobuf.dev/programming-guides/encoding/), so that gateway and worker cannot understand the same bytes
differently: where a parser would let the last of two values win, or treat a wrong wire type as an unknown field, this
one raises `InvalidRequest`. Work is bounded by a number of fields, not by the size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from cloister.errors import InvalidRequest

MAX_FIELDS = 4096
"""Top-level fields of one request: inputs, outputs, raw contents and parameters together."""
MAX_NESTED_FIELDS = 8
SEAL_VERSION = b"v1"
JOB_SEAL_VERSION = b"job-v1"

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_PREFIX_BYTES = 5
"""Of a tag or a length: parsers refuse what takes more, even if it is zeros."""
_MODEL_NAME, _MODEL_VERSION, _ID, _PARAMETERS, _INPUTS, _OUTPUTS, _RAW_CONTENTS = 1, 2, 3, 4, 5, 6, 7
_KEY, _VALUE, _STRING_PARAM = 1, 2, 3
_WIRE_TYPES = {1: _VARINT, 2: _VARINT, _STRING_PARAM: _LEN, 4: _I64, 5: _VARINT}
_SEAL, _WORKERS = "cloister-seal", "cloister-workers"
_JOB = {_SEAL: JOB_SEAL_VERSION}
_WORKER_LIST = re.compile(rb"[0-9a-f]{32}(?:,[0-9a-f]{32}){0,63}")
_MAX_LIST_BYTES = 64 * 33 - 1
_CACHED_BYTES = _MAX_LIST_BYTES + 100
_BAD_LIST = "cloister-workers is not a list of worker instances"


_FINAL = b"\x22\x1b\x0a\x15triton_final_response\x12\x02\x08\x01"
"""`parameters["triton_final_response"].bool_param = true`, as a field of `ModelInferResponse`."""

MAX_COPIED_BYTES = 1024
"""Of a tensor's header: a larger one, which holds contents, is handed on as a view of the request."""

Part = bytes | memoryview
"""Bytes of a request, on which an index gives a number."""


class Route(NamedTuple):
    """Where a request wants to go.

    Attributes:
        workers: The instances that it is sealed to; None for a plain request, and for a job.
        job: It is a job, sealed to a key that every worker of the model may have.
    """

    model_name: str
    model_version: str
    request_id: str
    workers: frozenset[str] | None
    job: bool = False

    @property
    def sealed(self) -> bool:
        """Whether we cannot read what is in it."""
        return self.job or self.workers is not None


class Tensors(NamedTuple):
    """What a request brings: the headers of its inputs and outputs, not looked into, and the sizes of raw contents."""

    inputs: tuple[Part, ...]
    outputs: tuple[Part, ...]
    raw_sizes: tuple[int, ...]


def read_request(raw: bytes) -> tuple[Route, Tensors]:
    """Read the routing fields of a serialised `inference.ModelInferRequest`, and find its tensors.

    Raises:
        InvalidRequest: The bytes are not well-formed protobuf, a routing field is repeated or is not UTF-8, a field has
            another wire type than its own, or the parameters of a sealed request do not fit together.
    """
    texts: dict[int, str] = {}
    parameters: dict[str, bytes] = {}
    inputs: list[Part] = []
    outputs: list[Part] = []
    raw_sizes: list[int] = []
    for number, wire_type, start, stop in fields(raw, 0, len(raw), MAX_FIELDS):
        if number > _RAW_CONTENTS:
            continue
        if wire_type != _LEN:
            raise InvalidRequest("a field has the wrong wire type")
        if number == _RAW_CONTENTS:
            raw_sizes.append(stop - start)
        elif number >= _INPUTS:
            part = raw[start:stop] if stop - start <= MAX_COPIED_BYTES else memoryview(raw)[start:stop]
            (inputs if number == _INPUTS else outputs).append(part)
        elif number == _PARAMETERS:
            _read_parameter(raw, start, stop, parameters)
        elif number in texts:
            raise InvalidRequest("a routing field is repeated")
        else:
            texts[number] = text(raw[start:stop])
    name, version, identifier = texts.get(_MODEL_NAME, ""), texts.get(_MODEL_VERSION, ""), texts.get(_ID, "")
    job = parameters == _JOB
    route = Route(name, version, identifier, None if job else _recipients(parameters), job)
    return route, Tensors(tuple(inputs), tuple(outputs), tuple(raw_sizes))


def read_route(raw: bytes) -> Route:
    """The first half of what `read_request` reads."""
    return read_request(raw)[0]


def request_id(raw: bytes) -> str:
    """Return the id of a request that `read_route` refused, to tell its sender which one it was; empty if unclear."""
    try:
        for number, wire_type, start, stop in fields(raw, 0, len(raw), MAX_FIELDS):
            if (number, wire_type) == (_ID, _LEN):
                return text(raw[start:stop])
    except InvalidRequest:
        return ""
    return ""


def stream_answer(response: bytes, *, final: bool = False) -> bytes:
    """Wrap a serialised `ModelInferResponse` as `ModelStreamInferResponse.infer_response`.

    Args:
        response: Of a worker.
        final: Whether to say that no other answer to the same request follows, as Triton does: its clients wait for it.
    """
    said = _FINAL if final else b""
    return b"".join((b"\x12", varint(len(response) + len(said)), response, said))


def with_parameter(response: bytes, key: bytes, value: str) -> bytes:
    """Append a string parameter to a serialised `ModelInferResponse`; where it has one of that key, this one counts."""
    text = value.encode("utf-8")
    choice = b"\x1a" + varint(len(text)) + text
    entry = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(choice)) + choice
    return response + b"\x22" + varint(len(entry)) + entry


def encode_call(
    call_id: int, request: bytes, timeout_ms: int, tenant: str, version: str = "", trace_id: str = ""
) -> list[bytes]:
    """Return the pieces of `GatewayFrame.calls`, one call; the request is copied only when they are joined."""
    head = b"\x08" + varint(call_id) + b"\x12" + varint(len(request))
    tail = b"\x18" + varint(timeout_ms) + _tenant(tenant) + _version(version)
    if trace_id:
        tail += b"\x2a\x10" + bytes.fromhex(trace_id)
    return [b"\x0a" + varint(len(head) + len(request) + len(tail)) + head, request, tail]


def encode_cancelled(call_ids: Iterable[int]) -> list[bytes]:
    """Return the pieces of `GatewayFrame.cancelled`; none for no calls."""
    packed = b"".join(map(varint, call_ids))
    return [b"\x12" + varint(len(packed)) + packed] if packed else []


@lru_cache(maxsize=1024)
def _tenant(tenant: str) -> bytes:
    encoded = tenant.encode("utf-8")
    return b"\x22" + varint(len(encoded)) + encoded


@lru_cache(maxsize=1024)
def _version(version: str) -> bytes:
    return b"\x3a" + varint(len(version)) + version.encode("ascii") if version else b""


def varint(value: int) -> bytes:
    """Encode a non-negative integer as a base-128 varint."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def fields(raw: Part, position: int, end: int, limit: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, wire type, start, stop) of each field; `start:stop` is its content, without a length prefix."""
    for _ in range(limit):
        if position == end:
            return
        tag = raw[position]
        if tag < 0x80:  # nearly always: one byte
            position += 1
        else:
            tag, position = read_varint(raw, position, end, _PREFIX_BYTES)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise InvalidRequest("a field number is out of range")
        start = position
        if wire_type == _LEN:
            if position < end and raw[position] < 0x80:
                start = position + 1
                position = start + raw[position]
            else:
                length, start = read_varint(raw, position, end, _PREFIX_BYTES)
                position = start + length
        elif wire_type == _VARINT:
            _, position = read_varint(raw, position, end)
        elif wire_type == _I64:
            position += 8
        elif wire_type == _I32:
            position += 4
        else:
            raise InvalidRequest("a field has a wire type that is not used here")
        if position > end:
            raise InvalidRequest("a field is longer than its message")
        yield number, wire_type, start, position
    if position != end:
        raise InvalidRequest("the message has too many fields")


def read_varint(raw: Part, position: int, end: int, most: int = 10) -> tuple[int, int]:
    """Decode one varint of at most 64 bits and `most` bytes; return it and the position after it."""
    value = shift = 0
    while position < end and shift < 7 * most:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, position
        shift += 7
    raise InvalidRequest("a varint is truncated or too long")


def parameter_key(entry: Part) -> str:
    """Return the key of one entry of a map of parameters.

    Raises:
        InvalidRequest: It is not one key and one value, or the value is not one of the kinds that there are.
    """
    return _entry(bytes(entry))[0] if len(entry) <= _CACHED_BYTES else _entry.__wrapped__(bytes(entry))[0]


def _read_parameter(raw: bytes, start: int, stop: int, into: dict[str, bytes]) -> None:
    """Read one entry of the parameters map; keep it when it is one of ours."""
    read = _entry if stop - start <= _CACHED_BYTES else _entry.__wrapped__
    key, value = read(raw[start:stop])
    if value is None:
        return
    if key in into:
        raise InvalidRequest("a parameter for routing is repeated")
    into[key] = value


@lru_cache(maxsize=1024)  # a client sends the same entries with every request
def _entry(entry: bytes) -> tuple[str, bytes | None]:
    """Return the key of an entry of a parameters map, and its string value when the key is one of ours."""
    parts: dict[int, bytes] = {}
    for number, wire_type, start, stop in fields(entry, 0, len(entry), MAX_NESTED_FIELDS):
        if number > _VALUE or wire_type != _LEN or number in parts:
            raise InvalidRequest("a parameter is not one key and one value")
        parts[number] = entry[start:stop]
    key, value = text(parts.get(_KEY, b"")), parts.get(_VALUE, b"")
    values = list(fields(value, 0, len(value), MAX_NESTED_FIELDS))
    ours = key in (_SEAL, _WORKERS)
    if ours and (len(values) != 1 or values[0][:2] != (_STRING_PARAM, _LEN)):
        raise InvalidRequest("a parameter for routing is not one string")
    if not values:
        raise InvalidRequest(f"parameter '{key[:64]}' has no value")
    number, wire_type, start, stop = values[0]
    if len(values) > 1 or _WIRE_TYPES.get(number) != wire_type:
        raise InvalidRequest("a parameter has not one value of a kind that there is")
    if number == _STRING_PARAM:
        text(value[start:stop])
    return key, value[start:stop] if ours else None


def _recipients(parameters: dict[str, bytes]) -> frozenset[str] | None:
    if not parameters:
        return None
    seal, workers = parameters.get(_SEAL), parameters.get(_WORKERS)
    if seal != SEAL_VERSION or workers is None:
        raise InvalidRequest("a sealed request says cloister-seal=v1 and names its cloister-workers; a job says job-v1")
    if len(workers) > _MAX_LIST_BYTES:
        raise InvalidRequest(_BAD_LIST)
    return _instances(workers)


@lru_cache(maxsize=1024)  # a client sends the same list with every request
def _instances(workers: bytes) -> frozenset[str]:
    if _WORKER_LIST.fullmatch(workers) is None:
        raise InvalidRequest(_BAD_LIST)
    return frozenset(workers.decode("ascii").split(","))


def text(raw: Part) -> str:
    """Decode a string field."""
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("a text field is not UTF-8") from None
