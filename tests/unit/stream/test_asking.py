"""A record is asked again while what it failed by may pass, and no longer than its deadline."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from cloister.errors import CloisterError, EvidenceRejected, InvalidRequest, NotFound, NotReady, Overloaded, Unavailable
from cloister_stream.asking import until_deadline

MAY_PASS = [
    Overloaded("full"),
    Unavailable("away"),
    NotReady("started anew"),
    NotFound("no worker serves it for the moment"),
]
WILL_NOT = [
    InvalidRequest("does not fit"),
    NotFound("no such thing", reason="other.unknown"),
    EvidenceRejected("not believed"),
    TimeoutError("the SDK's, of all that was left"),
]


def called(*outcomes: CloisterError | TimeoutError | str) -> tuple[Callable[[float], Awaitable[str]], list[float]]:
    """A call that ends so, one time after the other, the last for ever; and the seconds left that it was given."""
    left: list[float] = []

    async def call(left_s: float) -> str:
        outcome = outcomes[min(len(left), len(outcomes) - 1)]
        left.append(left_s)
        if isinstance(outcome, str):
            return outcome
        raise outcome

    return call, left


@pytest.mark.parametrize("error", MAY_PASS, ids=lambda error: type(error).__name__)
async def test_what_may_pass_is_asked_again_with_the_time_that_is_left(error: CloisterError) -> None:
    call, left = called(error, error, "an answer")
    assert await until_deadline(call, 60, pause_s=0.001) == "an answer"
    assert 60 >= left[0] > left[1] > left[2] > 0


@pytest.mark.parametrize("error", WILL_NOT, ids=["shape", "name", "evidence", "deadline"])
async def test_what_will_not_pass_is_told_at_once(error: CloisterError | TimeoutError) -> None:
    call, left = called(error)
    with pytest.raises(type(error)):
        await until_deadline(call, 60, pause_s=0.001)
    assert len(left) == 1


async def test_no_pause_leads_past_the_deadline() -> None:
    call, left = called(Unavailable("away"))
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await until_deadline(call, 0.2, pause_s=1000)
    assert len(left) == 1
    assert time.monotonic() - began < 100
