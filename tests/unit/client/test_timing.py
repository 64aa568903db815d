"""Where the time went, as a client reads it: the gateway's word, bounded, never in the way of an answer."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.client import Client, Timing
from fakes.serving import MODEL, FakeGateway, FakeVerifier, FakeWorker
from fakes.streaming_gateway import StreamingGateway

LINE = (
    "queue;dur=2.000, wire;dur=4.500, open;dur=1.000, wait;dur=0.000, compute;dur=3.000, serialise;dur=4.000, "
    'deliver;dur=1.000, batch;desc="requests=4 rows=9", total;dur=15.500;desc="the gateway\'s word"'
)
X = np.array([[1.0, 2.0]], np.float32)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_line_is_read() -> None:
    timing = Timing.parse(LINE, 0.02)
    assert list(timing.phases_s) == ["queue", "wire", "open", "wait", "compute", "serialise", "deliver"]
    assert timing.phases_s["wire"] == 0.0045
    assert sum(timing.phases_s.values()) == pytest.approx(timing.total_s) == pytest.approx(0.0155)
    assert (timing.batch_requests, timing.batch_rows, timing.elapsed_s) == (4, 9, 0.02)


@given(st.text(max_size=60) | st.text(alphabet="a;dur=0.1, ", max_size=60) | st.just(LINE * 20))
def test_what_does_not_read_is_left_out(line: str) -> None:
    timing = Timing.parse(line, 0.02)
    assert timing.elapsed_s == 0.02
    assert all(0 <= seconds < 1e9 for seconds in timing.phases_s.values())
    assert len(timing.phases_s) < 100


@pytest.mark.parametrize("sealed", [True, False])
async def test_who_asks_gets_the_timing_beside_the_answer(sealed: bool) -> None:
    verifier = FakeVerifier()
    gateway = FakeGateway(FakeWorker(verifier))
    gateway.trailers = (("server-timing", LINE),)
    client = Client(cast(Any, gateway), verifier.trust())
    answer = await client.infer(MODEL, {"x": X}, sealed=sealed, timing=True, traceparent=TRACE)
    assert dict(gateway.metadata) == {"server-timing": "1", "traceparent": TRACE}
    assert answer.timing is not None
    assert answer.timing.total_s == 0.0155
    assert answer.timing.elapsed_s > 0
    unasked = await client.infer(MODEL, {"x": X}, sealed=sealed)
    assert (unasked.timing, gateway.metadata) == (None, ())


async def test_a_gateway_that_tells_nothing_leaves_it_out() -> None:
    verifier = FakeVerifier()
    client = Client(cast(Any, FakeGateway(FakeWorker(verifier))), verifier.trust())
    assert (await client.infer(MODEL, {"x": X}, timing=True)).timing is None


@pytest.mark.parametrize("sealed", [True, False])
async def test_a_stream_that_asks_has_the_timing_of_each_answer(sealed: bool) -> None:
    verifier = FakeVerifier()
    gateway = StreamingGateway(FakeWorker(verifier))
    gateway.trailers = (("server-timing", LINE),)
    async with Client.over(cast(Any, gateway), verifier.trust()) as client:
        async with client.stream(timing=True) as streaming:
            answer = await streaming.infer(MODEL, {"x": X}, sealed=sealed)
            assert answer.timing is not None
            assert answer.timing.total_s == 0.0155
        async with client.stream() as streaming:
            assert (await streaming.infer(MODEL, {"x": X}, sealed=sealed, timing=True)).timing is None
