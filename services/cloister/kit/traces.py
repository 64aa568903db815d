"""W3C trace contexts: which trace a call belongs to, as its caller says (https://www.w3.org/TR/trace-context/).

What a caller sends is its own business and nobody's proof: it names a line in a log, an exemplar and the parent of a
span, and decides nothing else. Whatever is not exactly one well-formed `traceparent` is as good as none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

TRACEPARENT: Final = "traceparent"
# Later versions may append to what version 00 has; ff is none.
_FORM: Final = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_PARENT: Final = "0" * 16
_SAMPLED: Final = 1


class TraceContext(NamedTuple):
    """A trace.

    Attributes:
        trace_id: 32 lower-case hex digits.
        parent_id: Of the caller's span, 16 hex digits; empty where the trace begins here.
        sampled: Whether it is to be recorded.
    """

    trace_id: str
    parent_id: str
    sampled: bool


def read(metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext | None:
    """The trace that a call's metadata names; None where it names none, or several."""
    found = [value for key, value in metadata if key == TRACEPARENT]
    return parse(found[0]) if len(found) == 1 else None


def parse(traceparent: str | bytes) -> TraceContext | None:
    """The trace that a header names; None where it is not well-formed."""
    match = _FORM.fullmatch(traceparent) if isinstance(traceparent, str) and len(traceparent) <= 512 else None
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if trace_id == _NO_TRACE or parent_id == _NO_PARENT or (version == "00" and more is not None):
        return None
    return TraceContext(trace_id, parent_id, bool(int(flags, 16) & _SAMPLED))
