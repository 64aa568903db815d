"""Where the time of a call went: divided without a gap, told in the words of the standard."""

from __future__ import annotations

import re

import pytest

from cloister.gateway.call import Call
from cloister.gateway.timing import SOURCE, asks_for_timing, phases, server_timing
from cloister.gateway.worker_times import worker_times
from fakes.gateway_parts import evaluation, make_call, report

# https://www.w3.org/TR/server-timing/#the-server-timing-header-field
TOKEN, QUOTED = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", r'"[^"\\]*"'
METRIC = rf"{TOKEN}(?:;{TOKEN}=(?:{TOKEN}|{QUOTED}))*"


async def answered(*, busy_ms: int = 10, link_ms: int = 14) -> Call:
    """A call that waited 2 ms, was on the link for `link_ms` (in the worker for `busy_ms`), and 1 ms on its way out."""
    call = make_call()
    call.left_s = call.began_s + 0.002
    call.back_s = call.left_s + link_ms / 1000
    call.ended_s = call.back_s + 0.001
    (call.worker_time,) = worker_times(report(evaluation(compute_us=(busy_ms - 7) * 1000)))
    return call


async def test_the_phases_of_a_call_are_all_of_its_time() -> None:
    call = await answered()
    found = phases(call, call.ended_s)
    told = {name: round(seconds * 1000, 6) for name, seconds in found._asdict().items()}
    assert told == {"queue": 2, "wire": 4, "open": 1, "wait": 2, "compute": 3, "serialise": 4, "deliver": 1}
    assert sum(found) == pytest.approx(call.ended_s - call.began_s)


async def test_rounded_numbers_of_a_worker_never_make_the_wire_negative() -> None:
    call = await answered(busy_ms=20)
    assert phases(call, call.ended_s).wire == 0


async def test_a_server_timing_header_is_one_by_the_standard() -> None:
    call = await answered()
    value = server_timing(call, call.ended_s)
    assert re.fullmatch(rf"{METRIC}(?:, {METRIC})*", value)
    assert value == (
        "queue;dur=2.000, wire;dur=4.000, open;dur=1.000, wait;dur=2.000, compute;dur=3.000, serialise;dur=4.000, "
        f'deliver;dur=1.000, batch;desc="requests=4 rows=9", total;dur=17.000;desc="{SOURCE}"'
    )


async def test_a_worker_that_tells_nothing_leaves_its_part_to_the_wire() -> None:
    call = await answered()
    call.worker_time = None
    value = server_timing(call, call.ended_s)
    assert "wire;dur=14.000" in value
    assert "compute" not in value


@pytest.mark.parametrize("asked", ["0", "2", "", "yes", b"1"])
def test_only_who_asks_is_told(asked: str | bytes) -> None:
    assert asks_for_timing([("x", "y"), ("server-timing", "1")])
    assert not asks_for_timing([("server-timing", asked)])
