"""Members of a token's JSON, each read as the one type it may have. All raise ValueError."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final, NoReturn, cast

_MAX_TEXT: Final = 2048
_STANDARD: Final = bytes.maketrans(b"-_+/=", b"+/...")
"""base64url's alphabet to that of plain base64; what is no letter of it to one of neither."""
_HEX_32: Final = re.compile(r"[0-9a-f]{64}")


def parse_json(raw: str | bytes) -> object:
    """Read JSON without duplicate members, floats or constants that JSON does not have."""
    return cast(object, json.loads(raw, object_pairs_hook=_unique, parse_float=_refuse, parse_constant=_refuse))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _refuse(number: str) -> NoReturn:
    raise ValueError("a number that is not an integer")


def exact_object(value: object, members: Collection[str] | None) -> dict[str, object]:
    """An object with exactly these members, or with any for None."""
    if not isinstance(value, dict) or (members is not None and value.keys() != set(members)):
        raise ValueError("not an object with exactly the members of the profile")
    return value


def array(value: object) -> list[object]:
    """An array."""
    if not isinstance(value, list):
        raise ValueError("not an array")
    return value


def text(value: object) -> str:
    """A printable text of a bounded length."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        raise ValueError("not a text")
    return value


def hex_32(value: object) -> str:
    """32 bytes as 64 lower-case hex digits."""
    if not isinstance(value, str) or not _HEX_32.fullmatch(value):
        raise ValueError("not 64 hex digits")
    return value


def digest(value: object) -> bytes:
    """32 bytes in base64url."""
    raw = from_base64url(text(value))
    if len(raw) != 32:
        raise ValueError("not 32 bytes")
    return raw


def count(value: object) -> int:
    """A number from 0 to 2^32 - 1."""
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise ValueError("not a count")
    return value


def tier(value: object) -> int:
    """An AR4SI claim."""
    if type(value) is not int or not -128 <= value <= 127:
        raise ValueError("not an AR4SI claim")
    return value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def time(value: object) -> datetime:
    """Seconds since 1970, as aware UTC."""
    return datetime.fromtimestamp(count(value), UTC)


def base64url(raw: bytes) -> str:
    """Bytes in base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_base64url(segment: str) -> bytes:
    """Decode base64url without padding; only the one canonical spelling of the bytes."""
    if not segment:
        raise ValueError("not base64url")
    beyond = len(segment) % 4
    raw = a2b_base64(segment.encode("ascii").translate(_STANDARD) + b"=" * (-beyond % 4), strict_mode=True)
    if beyond and base64url(raw[1 - beyond :]) != segment[-beyond:]:  # only there can bits be left over
        raise ValueError("not canonical base64url")
    return raw
