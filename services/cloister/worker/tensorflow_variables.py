"""The weights beside a SavedModel's graph, looked at before OpenVINO's reader follows what they say (attacks F08).

`variables.index` is a sorted table (LevelDB's table format, without compression) of what lies where in the
`variables.data-…` files: tensors (tensor_bundle.proto), and one string that says which object of the program has which
(trackable_object_graph.proto). OpenVINO's reader of it believes every offset, and with a wrong one ends the process.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final

from cloister.worker.protobuf import messages, numbers, text, varint
from cloister.worker.refusals import refused

MAX_ENTRIES: Final = 1_000_000
INDEX: Final = "variables/variables.index"
OBJECTS: Final = b"_CHECKPOINTABLE_OBJECT_GRAPH"

_FOOTER_BYTES: Final = 48
_MAGIC: Final = struct.pack("<Q", 0xDB4775248B80FB57)
_TRAILER_BYTES: Final = 5  # compression, checksum
_LONGEST_KEY: Final = 4096


def scan_variables(files: Mapping[str, memoryview]) -> None:
    """Look through the weights of a SavedModel.

    Args:
        files: By their names in the SavedModel's folder.

    Raises:
        InvalidRequest: Something is said to lie where it does not.
    """
    index = files.get(INDEX)
    if index is None:
        return
    entries = dict(_entries(index))
    shards = _shards(files, entries.pop(b"", memoryview(b"")))
    for key, entry in entries.items():
        content = _content(entry, shards)
        if key == OBJECTS:
            _scan_objects(content)


def scan_objects(nodes: list[memoryview]) -> None:
    """Look whether the objects of a graph refer to none but each other: field 1 of each are its children.

    Raises:
        InvalidRequest: One refers to an object that is not there.
    """
    for node in nodes:
        for child in messages(node, 1):
            if not all(0 <= at < len(nodes) for at in numbers(child, 1)):
                raise refused("an object of the model refers to one that is not there")


def _scan_objects(content: memoryview) -> None:
    """A list of one string: its length, a checksum of that, and the string."""
    size, begin = varint(content, 0)
    if begin + 4 + size != len(content):
        raise refused("the weights are not what their index says")
    nodes = list(messages(content[begin + 4 :], 1))
    scan_objects(nodes)
    for node in nodes:
        for slot in messages(node, 3):
            if not all(0 <= at < len(nodes) for at in numbers(slot, 1) + numbers(slot, 3)):
                raise refused("an object of the model refers to one that is not there")
        for attribute in messages(node, 2):
            for field in (1, 2, 3):
                text(attribute, field)


def _shards(files: Mapping[str, memoryview], head: memoryview) -> list[memoryview]:
    count = (numbers(head, 1) or [0])[-1]
    names = (
        [f"variables/variables.data-{at:05}-of-{count:05}" for at in range(count)] if 0 < count <= len(files) else []
    )
    if not names or not all(name in files for name in names):
        raise refused("a file of the weights is missing")
    return [files[name] for name in names]


def _content(entry: memoryview, shards: list[memoryview]) -> memoryview:
    shard, begin, size = ((numbers(entry, field) or [0])[-1] for field in (3, 4, 5))
    if not 0 <= shard < len(shards) or min(begin, size) < 0 or begin + size > len(shards[shard]):
        raise refused("a weight lies outside the files of the weights")
    return shards[shard][begin : begin + size]


def _entries(index: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    footer = index[-_FOOTER_BYTES:]
    if len(index) < _FOOTER_BYTES or footer[-8:] != _MAGIC:
        raise refused("the index of the weights is cut short, or none")
    _, at = _handle(footer, 0, index)
    blocks, _ = _handle(footer, at, index)
    count = 0
    for _, handle in _block(blocks):
        block, _ = _handle(handle, 0, index)
        for key, value in _block(block):
            count += 1
            if count > MAX_ENTRIES:
                raise refused("the index of the weights is too long")
            yield key, value


def _handle(raw: memoryview, at: int, index: memoryview) -> tuple[memoryview, int]:
    """The block that a handle points to, and where the handle ends."""
    begin, at = varint(raw, at)
    size, at = varint(raw, at)
    if begin + size + _TRAILER_BYTES > len(index) - _FOOTER_BYTES or index[begin + size] != 0:
        raise refused("the index of the weights is compressed, or points outside itself")
    return index[begin : begin + size], at


def _block(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Entries that share the beginnings of their keys; behind them where some begin, and how many those are."""
    if len(block) < 4:
        raise refused("the index of the weights is cut short")
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0]
    end = len(block) - 4 * (restarts + 1)
    if end < 0 or not all(at <= end for at in struct.unpack_from(f"<{restarts}I", block, end)):
        raise refused("the index of the weights is cut short")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        further, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or further + size > end - at or shared + further > _LONGEST_KEY:
            raise refused("the index of the weights points outside itself")
        key = key[:shared] + bytes(block[at : at + further])
        yield key, block[at + further : at + further + size]
        at += further + size
