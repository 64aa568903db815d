"""JSON as strict as RFC 8259 lets it be: no name twice in an object, no NaN, no endless depth, no half of a character.

The standard library reads it, with two hooks. Long arrays of numbers are left out before and read by `numbers`, for one
call that reads megabytes would stop everything else in this process. Which bytes those are is found without reading
JSON: a name's closing quotation mark, a colon, a bracket, then nothing that could begin or end anything but numbers and
arrays. Within a string that mark would be escaped, and before a string that begins there no letter may stand.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any, Final

from cloister.errors import InvalidRequest
from cloister.gateway.rest.numbers import SCAN_BYTES, Numbers

MAX_TEXT_BYTES: Final = 4 << 20
"""Of all that is not long arrays of numbers."""
LONG_BYTES: Final = 512
_BEGINS: Final = re.compile(rb'(?<=[A-Za-z0-9_.\-])"[ \t\r\n]*+:[ \t\r\n]*+\[')
_NUMBERS: Final = re.compile(rb"[0-9eE+\-.,\[\] \t\r\n]{1,%d}+" % SCAN_BYTES)
_AFTER_NUMBERS: Final = b", \t\r\n"
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE: Final = re.compile(rb"\\(?:[^u]|u(?![dD][89a-fA-F])|u[dD][89abAB]..\\u[dD][c-fC-F]..)")
"""In JSON that was read: whatever it says of one character, or of a pair of surrogates."""


def parse(text: bytes) -> Any:
    """The value of a JSON text; long arrays of numbers that have a name are `Numbers`.

    Raises:
        InvalidRequest: It is not JSON, or has too much that is not numbers.
    """
    arrays: dict[str, Numbers] = {}
    rest = _without_numbers(text, arrays)

    def paired(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise InvalidRequest("not JSON that is unambiguous: an object has a name twice", reason="json.malformed")
        if arrays:
            made.update({name: arrays[value] for name, value in pairs if type(value) is str and value in arrays})
        return made

    try:
        found = json.loads(rest.decode(), object_pairs_hook=paired, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if _SURROGATE.search(rest) and b"\\" in _ESCAPE.sub(b"", rest):
        raise InvalidRequest("a string has half of a character, which no UTF-8 can say", reason="json.malformed")
    return found


def _without_numbers(text: bytes, arrays: dict[str, Numbers]) -> bytes:
    """The text with a word of ours, which nobody can guess, in place of each long array of numbers."""
    kept: list[bytes] = []
    kept_bytes = at = 0
    while at < len(text):
        begins = _BEGINS.search(text, at, at + MAX_TEXT_BYTES)
        start = stop = len(text)
        if begins is not None:
            start = begins.end() - 1
            stop = _end_of_numbers(text, start)
        # An array that goes on with a string or an object has more beginnings than ends so far.
        closed = text.count(b"[", start, stop) == text.count(b"]", start, stop)
        is_numbers = closed and stop - start >= LONG_BYTES
        kept_bytes += (start if is_numbers else stop) - at
        if kept_bytes > MAX_TEXT_BYTES:
            raise InvalidRequest(
                f"more than {MAX_TEXT_BYTES} bytes of JSON beside arrays of numbers; send large tensors as binary data",
                reason="request.too_large",
            )
        if is_numbers:
            word = secrets.token_hex(16)
            arrays[word] = Numbers(text, start, stop)
            kept += (text[at:start], b'"%s"' % word.encode())
        else:
            kept.append(text[at:stop])
        at = stop
    return b"".join(kept)


def _end_of_numbers(text: bytes, start: int) -> int:
    stop = start
    while found := _NUMBERS.match(text, stop):
        stop = found.end()
    while text[stop - 1] in _AFTER_NUMBERS:  # what stands behind the array; at its beginning is a bracket
        stop -= 1
    return stop


def _refuse(_constant: str) -> Any:
    raise _malformed()


def _malformed() -> InvalidRequest:
    return InvalidRequest("the body is not JSON", reason="json.malformed")
