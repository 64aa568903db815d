"""What a gateway reads of a request: the fields it routes by, straight from the wire bytes.

Tensors are neither parsed nor copied: a field that is not for routing is stepped over by its length. The reader is
stricter than a protobuf parser (https://protobuf.dev/programming-guides/encoding/), so that gateway and worker cannot
understand the same bytes differently: where a parser would let the last of two values win, or treat a wrong wire type
as an unknown field, this one raises `InvalidRequest`. Work is bounded by a number of fields, not by the size.
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

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_MODEL_NAME, _MODEL_VERSION, _ID, _PARAMETERS = 1, 2, 3, 4
_KEY, _VALUE, _STRING_PARAM = 1, 2, 3
_SEAL, _WORKERS = b"cloister-seal", b"cloister-workers"
_WORKER_LIST = re.compile(rb"[0-9a-f]{32}(?:,[0-9a-f]{32}){0,63}")
_MAX_LIST_BYTES = 64 * 33 - 1
_CACHED_BYTES = _MAX_LIST_BYTES + 100
_BAD_LIST = "cloister-workers is not a list of worker instances"


class Route(NamedTuple):
    """Where a request wants to go. `workers` is None for a plain request, else the instances it is sealed to."""

    model_name: str
    model_version: str
    request_id: str
    workers: frozenset[str] | None


def read_route(raw: bytes) -> Route:
    """Read the routing fields of a serialised `inference.ModelInferRequest`.

    Raises:
        InvalidRequest: The bytes are not well-formed protobuf, a routing field is repeated, has another wire type or
            is not UTF-8, or the parameters of a sealed request do not fit together.
    """
    texts: dict[int, str] = {}
    parameters: dict[bytes, bytes] = {}
    for number, wire_type, start, stop in _fields(raw, 0, len(raw), MAX_FIELDS):
        if number > _PARAMETERS:
            continue
        if wire_type != _LEN:
            raise InvalidRequest("a routing field has the wrong wire type")
        if number == _PARAMETERS:
            _read_parameter(raw, start, stop, parameters)
            continue
        if number in texts:
            raise InvalidRequest("a routing field is repeated")
        texts[number] = _text(raw[start:stop])
    name, version, request_id = texts.get(_MODEL_NAME, ""), texts.get(_MODEL_VERSION, ""), texts.get(_ID, "")
    return Route(name, version, request_id, _recipients(parameters))


def request_id(raw: bytes) -> str:
    """Return the id of a request that `read_route` refused, to tell its sender which one it was; empty if unclear."""
    try:
        for number, wire_type, start, stop in _fields(raw, 0, len(raw), MAX_FIELDS):
            if (number, wire_type) == (_ID, _LEN):
                return _text(raw[start:stop])
    except InvalidRequest:
        return ""
    return ""


def stream_answer(response: bytes) -> bytes:
    """Wrap a serialised `ModelInferResponse` as `ModelStreamInferResponse.infer_response`."""
    return b"\x12" + varint(len(response)) + response


def encode_call(call_id: int, request: bytes, timeout_ms: int, tenant: str) -> list[bytes]:
    """Return the pieces of `GatewayFrame.calls`, one call; the request is copied only when they are joined."""
    head = b"\x08" + varint(call_id) + b"\x12" + varint(len(request))
    tail = b"\x18" + varint(timeout_ms) + _tenant(tenant)
    return [b"\x0a" + varint(len(head) + len(request) + len(tail)) + head, request, tail]


def encode_cancelled(call_ids: Iterable[int]) -> list[bytes]:
    """Return the pieces of `GatewayFrame.cancelled`; none for no calls."""
    packed = b"".join(map(varint, call_ids))
    return [b"\x12" + varint(len(packed)) + packed] if packed else []


@lru_cache(maxsize=1024)
def _tenant(tenant: str) -> bytes:
    encoded = tenant.encode("utf-8")
    return b"\x22" + varint(len(encoded)) + encoded


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


def _fields(raw: bytes, position: int, end: int, limit: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (number, wire type, start, stop) of each field; `start:stop` is its content, without a length prefix."""
    for _ in range(limit):
        if position == end:
            return
        tag = raw[position]
        if tag < 0x80:  # nearly always: one byte
            position += 1
        else:
            tag, position = _varint(raw, position, end)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise InvalidRequest("a field number is out of range")
        start = position
        if wire_type == _LEN:
            if position < end and raw[position] < 0x80:
                start = position + 1
                position = start + raw[position]
            else:
                length, start = _varint(raw, position, end)
                position = start + length
        elif wire_type == _VARINT:
            _, position = _varint(raw, position, end)
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


def _varint(raw: bytes, position: int, end: int) -> tuple[int, int]:
    """Decode one varint of at most 64 bits; return it and the position after it."""
    value = shift = 0
    while position < end and shift < 70:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, position
        shift += 7
    raise InvalidRequest("a varint is truncated or too long")


def _read_parameter(raw: bytes, start: int, stop: int, into: dict[bytes, bytes]) -> None:
    """Read one entry of the parameters map; keep it when it is one of ours."""
    read = _entry if stop - start <= _CACHED_BYTES else _entry.__wrapped__
    key, value = read(raw[start:stop])
    if value is None:
        return
    if key in into:
        raise InvalidRequest("a parameter for routing is repeated")
    into[key] = value


@lru_cache(maxsize=1024)  # a client sends the same entries with every request
def _entry(entry: bytes) -> tuple[bytes, bytes | None]:
    """Return the key of an entry of the parameters map, and its string value when the key is one of ours."""
    parts: dict[int, bytes] = {}
    for number, wire_type, start, stop in _fields(entry, 0, len(entry), MAX_NESTED_FIELDS):
        if number > _VALUE or wire_type != _LEN or number in parts:
            raise InvalidRequest("a parameter is not one key and one value")
        parts[number] = entry[start:stop]
    key, value = parts.get(_KEY, b""), parts.get(_VALUE, b"")
    if key not in (_SEAL, _WORKERS):
        return key, None
    values = list(_fields(value, 0, len(value), MAX_NESTED_FIELDS))
    if len(values) != 1 or values[0][:2] != (_STRING_PARAM, _LEN):
        raise InvalidRequest("a parameter for routing is not one string")
    return key, value[values[0][2] : values[0][3]]


def _recipients(parameters: dict[bytes, bytes]) -> frozenset[str] | None:
    if not parameters:
        return None
    seal, workers = parameters.get(_SEAL), parameters.get(_WORKERS)
    if seal != SEAL_VERSION or workers is None:
        raise InvalidRequest("a sealed request says cloister-seal=v1 and names its cloister-workers")
    if len(workers) > _MAX_LIST_BYTES:
        raise InvalidRequest(_BAD_LIST)
    return _instances(workers)


@lru_cache(maxsize=1024)  # a client sends the same list with every request
def _instances(workers: bytes) -> frozenset[str]:
    if _WORKER_LIST.fullmatch(workers) is None:
        raise InvalidRequest(_BAD_LIST)
    return frozenset(workers.decode("ascii").split(","))


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("a routing field is not UTF-8") from None
