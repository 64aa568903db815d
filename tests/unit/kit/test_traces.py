"""Trace contexts: well-formed ones are read, all others are as good as none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.kit.traces import TraceContext, parse, read

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (GOOD, True),
        (f"00-{TRACE}-{PARENT}-00", False),
        (f"00-{TRACE}-{PARENT}-03", True),
        (f"01-{TRACE}-{PARENT}-01-of-later", True),
    ],
)
def test_a_trace_context_is_read(header: str, sampled: bool) -> None:
    assert parse(header) == TraceContext(TRACE, PARENT, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        GOOD.upper(),
        GOOD + "-more",
        GOOD + "\n",
        GOOD[:-1],
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"01-{TRACE}-{PARENT}-01" + "-" + "x" * 1000,
        GOOD.encode(),
    ],
)
def test_what_is_not_well_formed_is_none(header: str | bytes) -> None:
    assert parse(header) is None


def test_two_headers_are_none() -> None:
    assert read([("traceparent", GOOD), ("other", "x")]) is not None
    assert read([("traceparent", GOOD), ("traceparent", GOOD)]) is None
    assert read([("tracestate", "x=y")]) is None


@given(st.text(max_size=80) | st.binary(max_size=80))
def test_any_header_is_a_trace_or_none(header: str | bytes) -> None:
    found = parse(header)
    assert found is None or (len(found.trace_id), len(found.parent_id)) == (32, 16)
