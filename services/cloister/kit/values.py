"""One setting's value: from TOML or from a variable's text to the type that the settings class wants.

Nothing is coerced: what TOML wrote as a string is a string. What is wrong is said by kind, never by value.
"""

from __future__ import annotations

import math
import typing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import cattrs

_WANTED: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path",
}
_IS: Final[dict[type, str]] = {**_WANTED, list: "a list", dict: "a table"}
_MOMENT: Final = "a date and time with its offset, such as 2027-01-31T00:00:00Z"


def structured(value: Any, kind: Any) -> Any:
    """`value` as TOML gave it, as the type `kind`; raises ValueError that says what it must be and what it is."""
    try:
        return _converter().structure(value, kind)
    except (ValueError, TypeError, cattrs.BaseValidationError) as error:
        raise ValueError(f"must be {_wanted(kind)}, and is {named(value)}") from error


def from_text(text: str, kind: Any) -> Any:
    """A variable's text as TOML would have given it; raises ValueError that says what it must be."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int:
            return int(text)
        if kind is float:
            return float(text)
    except (ValueError, KeyError) as error:
        raise ValueError(f"must be {_wanted(kind)}") from error
    if _is_tuple(kind):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def named(value: Any) -> str:
    """What a value from TOML is, in words."""
    return "empty" if value == "" else _IS.get(type(value), "a date or time")


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    for exact in (bool, int, str):
        converter.register_structure_hook(exact, _exactly)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Path, _path)
    converter.register_structure_hook(datetime, _moment)
    converter.register_structure_hook_func(_is_tuple, _strings)
    return converter


def _is_tuple(kind: object) -> bool:
    return typing.get_origin(kind) is tuple


def _exactly(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(kind.__name__)
    return value


def _number(value: Any, _kind: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError("float")
    return float(value)


def _path(value: Any, _kind: object) -> Path:
    if not _exactly(value, str) or "\0" in value:
        raise ValueError("path")
    return Path(value)


def _moment(value: Any, _kind: object) -> datetime:
    if type(value) is not datetime or value.tzinfo is None:
        raise TypeError("datetime")
    return value


def _strings(value: Any, _kind: object) -> tuple[str, ...]:
    return tuple(_exactly(part, str) for part in _exactly(value, list))


def _wanted(kind: Any) -> str:
    if _is_tuple(kind):
        return "a list of strings"
    return _MOMENT if kind is datetime else _WANTED.get(kind, getattr(kind, "__name__", "something else"))
