"""A model that Analytics Zoo or BigDL PPML encrypted: in clear, in memory, once it comes out as what it should be.

CBC says nothing of a wrong key but by its padding, so a scheme is believed only when the file that a model is known by
parses as what its name says, and all files of the model open alike. Where a scheme has no integrity, what was changed
inside the weights shows nowhere: such files are read once, to be sealed.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final, NamedTuple
from xml.parsers import expat

from cloister.compat.zoo.ciphers import Scheme, content_of
from cloister.errors import InvalidRequest, SealBroken
from cloister.worker.flatbuffer import root
from cloister.worker.protobuf import fields

MAX_FILE_BYTES: Final = (1 << 31) - 1
"""Of an encrypted file: what a byte array of theirs holds."""
_PIECE_BYTES: Final = 1 << 20


class DecryptedModel(NamedTuple):
    """A model in clear.

    Attributes:
        scheme: How it was encrypted.
        files: Content by name; overwritten when it is done with.
    """

    scheme: str
    files: Mapping[str, memoryview]


@contextmanager
def decrypted(files: Mapping[str, memoryview], head: str, schemes: Sequence[Scheme]) -> Iterator[DecryptedModel]:
    """Decrypt a model's files by the first scheme that makes a model of them.

    Args:
        files: All of it as it was encrypted, by names inside.
        head: Which of them the model is known by.
        schemes: In the order in which to try them.

    Raises:
        InvalidRequest: None does (`model.undecipherable`).
    """
    plain: dict[str, bytearray] = {}
    try:
        yield DecryptedModel(_decrypt(files, head, schemes, plain), _views(plain))
    finally:
        for content in plain.values():
            _wipe(content)


def _decrypt(files: Mapping[str, memoryview], head: str, schemes: Sequence[Scheme], plain: dict[str, bytearray]) -> str:
    """Fill `plain`; return the name of the scheme."""
    contents = {name: content_of(file) for name, file in files.items()}
    for scheme in schemes:
        try:
            plain[head] = _as_model(head, scheme.decrypt(contents[head]))
            for name in contents.keys() - {head}:
                plain[name] = _narrowed(scheme.decrypt(contents[name]))
        except SealBroken:
            for content in plain.values():
                _wipe(content)
            continue
        return scheme.name
    tried = ", ".join(scheme.name for scheme in schemes)
    raise InvalidRequest(
        f"'{head}' does not come out as a model by {tried}. Either it was encrypted with another secret, salt or data "
        "key, or it is no such file, or it was changed: these formats do not say which",
        reason="model.undecipherable",
    )


def _as_model(head: str, plain: bytearray) -> bytearray:
    """The reading of a plaintext that is the model its name says; raises SealBroken if none is."""
    check = _CHECKS[PurePosixPath(head).suffix]
    found = None
    for reading in (_narrow(plain), plain):
        if reading is not None and found is None and _passes(check, reading):
            found = reading
        elif reading is not None:
            _wipe(reading)
    if found is None:
        raise SealBroken
    return found


def _passes(check: Callable[[memoryview], None], content: bytearray) -> bool:
    try:
        check(memoryview(content))
    except (InvalidRequest, expat.ExpatError):
        return False
    return True


def _narrowed(plain: bytearray) -> bytearray:
    """The bytes that stand behind a plaintext: narrowed where that is possible, else as they are."""
    narrow = _narrow(plain)
    if narrow is None:
        return plain
    _wipe(plain)
    return narrow


def _narrow(plain: bytearray) -> bytearray | None:
    """Bytes that their JVM took for Latin-1 and wrote as UTF-8, as they were; None for what is no such text.

    Weights as they are do not pass for such text: every byte above 127 would have to stand in a pair that does.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    narrow = bytearray()
    try:
        for begin in range(0, len(plain), _PIECE_BYTES):
            last = begin + _PIECE_BYTES >= len(plain)
            narrow += decode(memoryview(plain)[begin : begin + _PIECE_BYTES], last).encode("latin-1")
    except UnicodeError:
        _wipe(narrow)
        return None
    return narrow


def _wipe(content: bytearray) -> None:
    content[:] = bytes(len(content))


def _check_ir(content: memoryview) -> None:
    names: list[str] = []
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = lambda name, _: names.append(name) if not names else None
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.Parse(bytes(content), True)
    if names != ["net"]:
        raise InvalidRequest("the topology does not begin with <net>")


def _refuse_doctype(*_: object) -> None:
    raise InvalidRequest("the topology has a document type, with which it could grow without bound")


def _check_message(number: int) -> Callable[[memoryview], None]:
    """A check for a protobuf message whose field of this number is messages, of which there is one at least."""

    def check(content: memoryview) -> None:
        inside = [value for found, value in fields(content) if found == number]
        if not inside:
            raise InvalidRequest("the message lacks what makes it a model")
        for message in inside:
            if not isinstance(message, memoryview):
                raise InvalidRequest("a field of the model has another type than its format says")
            for _ in fields(message):
                pass

    return check


def _check_graph_def(content: memoryview) -> None:
    """A frozen graph (field 1, node) or a SavedModel (field 2, meta_graphs)."""
    try:
        _check_message(1)(content)
    except InvalidRequest:
        _check_message(2)(content)


def _check_tflite(content: memoryview) -> None:
    for buffer in root(content, b"TFL3").tables(4):  # whatever was cut off or changed into lies outside
        buffer.content(0)


_CHECKS: Final[Mapping[str, Callable[[memoryview], None]]] = MappingProxyType(
    {
        ".xml": _check_ir,
        ".onnx": _check_message(7),  # graph
        ".pb": _check_graph_def,
        ".pdmodel": _check_message(1),  # blocks
        ".tflite": _check_tflite,
    }
)


def _views(plain: Mapping[str, bytearray]) -> dict[str, memoryview]:
    return {name: memoryview(content).toreadonly() for name, content in plain.items()}
