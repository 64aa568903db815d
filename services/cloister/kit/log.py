"""Logs: one record per line on stdout, whatever the values contain.

JSON in production, `key=value` on a console. An event is `noun.verbed`, values are fields. Strings are capped, control
characters escaped, bytes shown by their length only; secret types hide in their own repr. A traceback is a list of
places: messages are kept for errors of ours, which hold no contents by rule, and left out for all others. Records of
libraries come out the same way. Those of asyncio lose their message, which is made of the repr of tasks, exceptions and
callbacks' arguments, and inside an enclave, whose log the host reads, those of any library do: where it was logged, and
what was raised where, is all that is kept.
"""

from __future__ import annotations

import json as json_format
import logging
import math
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger

from cloister.errors import CloisterError

MAX_VALUE: Final = 1000
_MAX_ITEMS: Final = 50
_MAX_DEPTH: Final = 3
_MAX_FRAMES: Final = 30
_MAX_KEY: Final = 64
_OURS: Final = "cloister."
_LEVELS: Final = {"warn": "warning", "exception": "error", "fatal": "critical"}
_ENCODE: Final = json_format.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
_LIBRARY_EVENT: Final = "library.logged"
_SHOWS_VALUES: Final = "asyncio"  # this logger and those below it; uvloop uses it too

Event = MutableMapping[str, Any]


def configure(
    service: str, *, json: bool = True, level: str = "info", stream: TextIO | None = None, quote_libraries: bool = True
) -> None:
    """Set logging up for this process; called once, where the process begins.

    Args:
        service: Goes into each record.
        json: JSON lines, or lines for a person.
        level: debug, info, warning or error.
        stream: Where to; stdout by default.
        quote_libraries: Whether records of libraries keep their message; where the log is for strangers, they may not.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    render = as_json if json else as_text
    structlog.configure(
        processors=[_line(service, render)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stdout),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_FromLibraries(quote=quote_libraries)]
    root.setLevel(max(number, logging.WARNING))


def get_logger() -> FilteringBoundLogger:
    """A logger, to be kept in the module that logs."""
    return cast(FilteringBoundLogger, structlog.get_logger())


def tame(event: Event) -> Event:
    """Make every value one that fits a line: capped, without raw bytes, without contents in tracebacks."""
    exc_info = event.pop("exc_info", None)
    tamed: Event = {}
    for key, value in event.items():
        short = type(value) is str and len(value) <= MAX_VALUE
        tamed[key if len(key) <= _MAX_KEY else key[:_MAX_KEY]] = value if short else _tamed(value, 0)
    if exc_info:
        error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
        error = error if isinstance(error, BaseException) else sys.exc_info()[1]
        if error is not None:
            tamed["trace"] = trace_of(error)
    return tamed


def trace_of(error: BaseException) -> list[str]:
    """Where `error` was raised and what caused it: classes, files, lines and functions, innermost last."""
    lines: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(lines) < _MAX_FRAMES:
        lines += _places(seen.__traceback__)
        lines.append(describe(seen))
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return lines


def _places(frames: TracebackType | None) -> list[str]:
    """The innermost frames. `traceback` would look for their source: on the disk of a host that may never answer."""
    places = deque(((frame.f_code, line) for frame, line in traceback.walk_tb(frames)), maxlen=_MAX_FRAMES)
    return [f"{PurePath(code.co_filename).name}:{line} in {code.co_name}" for code, line in places]


def describe(error: BaseException) -> str:
    """The class of an error, with its message where that is known to hold no contents."""
    name = type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        return f"{name} of " + ", ".join(describe(inner) for inner in error.exceptions[:5])
    if isinstance(error, CloisterError) or type(error).__module__.startswith(_OURS):
        return f"{name}: {_capped(str(error))}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {_capped(error.strerror)}"
    if isinstance(error, ImportError) and error.name:
        return f"{name}: {_capped(error.name)}"
    return name


def as_json(event: Event) -> str:
    """One line of ASCII JSON."""
    return _ENCODE(event)


def as_text(event: Event) -> str:
    """One line for a person: time, level, event, then the fields."""
    fields = dict(event)
    time, level, name = (fields.pop(key, "") for key in ("time", "level", "event"))
    fields.pop("service", None)
    shown = [f"{time!s:.19} {level:<7} {_plain(name)}"]
    return "  ".join(shown + [f"{_plain(key)}={_plain(value)}" for key, value in fields.items()])


def _line(service: str, render: Callable[[Event], str]) -> Callable[[object, str, Event], str]:
    """The one processor: fields in, line out. A chain of small ones would cost twice as much per line."""

    def line(_logger: object, method: str, event: Event) -> str:
        level = _LEVELS.get(method, method)
        time = datetime.now(UTC).isoformat(timespec="microseconds")
        return render({"time": time, "level": level, "service": service, **tame(event)})

    return line


def _tamed(value: object, depth: int) -> Any:
    if isinstance(value, str):
        return _capped(str(value))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= 64 else f"<integer of {value.bit_length()} bits>"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException):
        return describe(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) and depth < _MAX_DEPTH:
        return _tamed_items(value, depth + 1)
    return _shown(value)


def _tamed_items(value: Mapping[Any, Any] | list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any], depth: int) -> Any:
    if isinstance(value, Mapping):
        return {_capped(str(key)): _tamed(inner, depth) for key, inner in list(value.items())[:_MAX_ITEMS]}
    kept = [_tamed(inner, depth) for inner in list(value)[:_MAX_ITEMS]]
    return [*kept, f"<{len(value) - _MAX_ITEMS} more>"] if len(value) > _MAX_ITEMS else kept


def _shown(value: object) -> str:
    # A repr that raises must not lose the record, nor the request that is being logged.
    with suppress(Exception):
        return _capped(str(value) if isinstance(value, PurePath) else repr(value))
    return f"<{type(value).__name__}>"


def _capped(text: str) -> str:
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}… ({len(text)} characters)"


def _plain(value: object) -> str:
    text = value if isinstance(value, str) else json_format.dumps(value)
    return text if text.isprintable() and not set(text) & set(' "=') else json_format.dumps(text)


class _FromLibraries(logging.Handler):
    """Records of the standard library's logging, as ours."""

    def __init__(self, *, quote: bool) -> None:
        super().__init__()
        self._quote = quote

    def emit(self, record: logging.LogRecord) -> None:
        quoted = self._quote and record.name.partition(".")[0] != _SHOWS_VALUES
        said = _message(record) if quoted else _place(record)
        get_logger().log(record.levelno, _LIBRARY_EVENT, logger=record.name, **said, exc_info=record.exc_info or None)


def _place(record: logging.LogRecord) -> dict[str, str]:
    error = record.exc_info[1] if record.exc_info else None
    place = {"place": f"{PurePath(record.pathname).name}:{record.lineno} in {record.funcName}"}
    return place if error is None else {**place, "error": describe(error)}


def _message(record: logging.LogRecord) -> dict[str, str]:
    try:
        return {"message": record.getMessage()}
    except (TypeError, ValueError):
        return {"message": str(record.msg)}
