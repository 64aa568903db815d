"""A reader for CBOR that strangers wrote: the few kinds of items that evidence has, in the one form each may have.

General decoders act on tags: they compile regular expressions, raise numbers to powers, follow shared references. A few
kilobytes can keep such a decoder busy for seconds. This one knows integers, byte and text strings, arrays, maps with
text keys, and tags that it hands over as they are. Of RFC 8949 section 4.2.1 it keeps the shortest heads and definite
lengths, and refuses a key that is given twice; whether the order of keys matters is the caller's to say.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

MAX_DEPTH: Final = 4

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)


class Tagged(NamedTuple):
    """An item with a tag, which nobody here has acted on."""

    tag: int
    item: Item


Item: TypeAlias = "int | bytes | str | list[Item] | dict[str, Item] | Tagged"


def read(raw: bytes) -> Item:
    """Return the one item that `raw` consists of.

    Raises:
        ValueError: Anything else.
    """
    item, end = _item(raw, 0, 0)
    if end != len(raw):
        raise ValueError("bytes follow the CBOR item")
    return item


def _item(raw: bytes, position: int, depth: int) -> tuple[Item, int]:
    if depth > MAX_DEPTH:
        raise ValueError("the CBOR is nested too deeply")
    major, argument, position = _head(raw, position)
    if major == _UNSIGNED:
        return argument, position
    if major == _NEGATIVE:
        return -1 - argument, position
    if major in (_BYTES, _TEXT):
        piece, position = _piece(raw, position, argument)
        return (piece if major == _BYTES else piece.decode("utf-8")), position
    if major == _ARRAY:
        return _array(raw, position, argument, depth)
    if major == _MAP:
        return _map(raw, position, argument, depth)
    if major == _TAG:
        item, position = _item(raw, position, depth + 1)
        return Tagged(argument, item), position
    raise ValueError("the CBOR holds a kind of item that evidence does not have")


def _head(raw: bytes, position: int) -> tuple[int, int, int]:
    """Major type, argument, and where the head ends."""
    (first,), position = _piece(raw, position, 1)
    major, short = first >> 5, first & 0x1F
    if short < 24:
        return major, short, position
    if short > 27:
        raise ValueError("a CBOR length is indefinite or reserved")
    size = 1 << (short - 24)
    octets, position = _piece(raw, position, size)
    argument = int.from_bytes(octets, "big")
    if argument < (24 if size == 1 else 1 << (4 * size)):
        raise ValueError("a CBOR head is longer than it needs to be")
    return major, argument, position


def _piece(raw: bytes, position: int, count: int) -> tuple[bytes, int]:
    end = position + count
    if end > len(raw):
        raise ValueError("the CBOR ends too early")
    return raw[position:end], end


def _array(raw: bytes, position: int, count: int, depth: int) -> tuple[list[Item], int]:
    items: list[Item] = []
    for _ in range(count):
        item, position = _item(raw, position, depth + 1)
        items.append(item)
    return items, position


def _map(raw: bytes, position: int, count: int, depth: int) -> tuple[dict[str, Item], int]:
    members: dict[str, Item] = {}
    for _ in range(count):
        key, position = _item(raw, position, depth + 1)
        if not isinstance(key, str) or key in members:
            raise ValueError("a key of a CBOR map is not text, or is given twice")
        members[key], position = _item(raw, position, depth + 1)
    return members, position
