"""JSON as Intel's signed documents need it read: one meaning per document, bounded, and typed member by member.

RFC 8259 leaves open what duplicate names, huge numbers and deep nesting mean; here each is refused. Floating point and
the non-numbers of Python's dialect are refused too: nothing in collateral is measured in fractions.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Final, NoReturn

from cloister.errors import InvalidRequest

MAX_DEPTH: Final = 16
MAX_CONTAINERS: Final = 10_000

# A string that never ends is taken to the end in one go, so that looking for structure stays linear.
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # can be escaped in JSON, cannot be encoded
_MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


class Record:
    """A JSON object whose members are fetched by name, type and form; `path` names it in errors."""

    def __init__(self, members: dict[str, object], path: str) -> None:
        self._members = members
        self._path = path

    def has(self, name: str) -> bool:
        """Whether there is such a member, other than null."""
        return self._members.get(name) is not None

    def refuse_others(self, *names: str) -> None:
        """Refuse members that are not among `names`.

        Raises:
            InvalidRequest: There are some; the message names one.
        """
        for name in sorted(self._members.keys() - set(names)):
            raise self._wrong(name[:64], "a name we know")

    def to_json(self) -> bytes:
        """The object written anew: the same members in the same order, without space that means nothing."""
        return json.dumps(self._members, separators=(",", ":")).encode()

    def text(self, name: str, *, max_length: int) -> str:
        """Return a string member that is not empty."""
        value = self._members.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= max_length or _SURROGATE.search(value):
            raise self._wrong(name, f"text of 1 to {max_length} characters")
        return value

    def integer(self, name: str, *, most: int) -> int:
        """Return an integer member from 0 to `most`."""
        value = self._members.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise self._wrong(name, f"an integer from 0 to {most}")
        return value

    def octets(self, name: str, length: int | None = None, *, max_length: int = 0) -> bytes:
        """Return a hexadecimal string member, of exactly `length` bytes or of at most `max_length`."""
        value = self._members.get(name)
        limit = max_length if length is None else length
        if not isinstance(value, str) or not re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", value):
            raise self._wrong(name, "hexadecimal text")
        if len(value) > 2 * limit or (length is not None and len(value) != 2 * length):
            raise self._wrong(name, f"{'exactly' if length is not None else 'at most'} {limit} bytes")
        return bytes.fromhex(value)

    def moment(self, name: str) -> datetime:
        """Return a time member, in UTC and to the second."""
        value = self._members.get(name)
        if isinstance(value, str) and _MOMENT.fullmatch(value):
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                pass
        raise self._wrong(name, "a time such as 2025-01-31T12:00:00Z")

    def record(self, name: str) -> Record:
        """Return an object member."""
        return self._as_record(self._members.get(name), name)

    def records(self, name: str, *, most: int) -> list[Record]:
        """Return an array member that holds 1 to `most` objects."""
        return [self._as_record(item, f"{name}[{n}]") for n, item in enumerate(self._array(name, most))]

    def texts(self, name: str, *, most: int, pattern: str) -> tuple[str, ...]:
        """Return an array member of strings that match `pattern`; empty if it is absent."""
        if name not in self._members:
            return ()
        items = self._array(name, most, least=0)
        texts = tuple(item for item in items if isinstance(item, str) and re.fullmatch(pattern, item))
        if len(texts) != len(items):
            raise self._wrong(name, "well-formed names")
        return texts

    def _array(self, name: str, most: int, least: int = 1) -> list[object]:
        value = self._members.get(name)
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self._wrong(name, f"an array of {least} to {most} items")
        return value

    def _as_record(self, value: object, name: str) -> Record:
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return Record(value, f"{self._path}.{name}")

    def _wrong(self, name: str, wanted: str) -> InvalidRequest:
        return InvalidRequest(f"{self._path}.{name} is not {wanted}", reason="collateral.malformed")


def parse(raw: str | bytes, *, path: str, max_bytes: int) -> Record:
    """Read a JSON document that is an object.

    Args:
        raw: The document; bytes must be UTF-8.
        path: What to call it in errors.
        max_bytes: Longest document that is looked at.

    Raises:
        InvalidRequest: Too long, too deep, not JSON, not an object, or ambiguous; reason `collateral.malformed`.
    """
    if len(raw) > max_bytes:
        raise InvalidRequest(f"{path} is longer than {max_bytes} bytes", reason="collateral.malformed")
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8")
        _check_structure(text)
        value = json.loads(
            text, object_pairs_hook=_distinct, parse_float=_refuse, parse_constant=_refuse, parse_int=_integer
        )
    except ValueError as error:
        raise InvalidRequest(f"{path} is not unambiguous JSON", reason="collateral.malformed") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} is not a JSON object", reason="collateral.malformed")
    return Record(value, path)


def _check_structure(text: str) -> None:
    depth = containers = 0
    for token in _STRUCTURE.finditer(text):
        if token[1]:
            depth += 1
            containers += 1
            if depth > MAX_DEPTH or containers > MAX_CONTAINERS:
                raise ValueError("nested too deeply, or too much of it")
        elif token[2]:
            depth -= 1


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name appears twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError("a number is too long")
    return int(digits)


def _refuse(token: str) -> NoReturn:
    raise ValueError("a number is not an integer")
