"""Retries; the rest of a Peer needs a peer, see tests/wire/rpc."""

from __future__ import annotations

import pytest

from cloister import errors
from cloister.rpc import channel
from cloister.rpc.channel import retrying


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_BASE_PAUSE_S", 0.0)


class Calls:
    def __init__(self, *outcomes: Exception | str) -> None:
        self.outcomes = list(outcomes)
        self.left: list[float] = []

    async def __call__(self, left: float) -> str:
        self.left.append(left)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_what_may_pass_is_tried_again_with_what_is_left() -> None:
    calls = Calls(errors.Unavailable("down"), errors.Overloaded("full"), "done")
    assert await retrying(calls, attempts=3, deadline_s=10) == "done"
    assert calls.left == sorted(calls.left, reverse=True)
    assert calls.left[0] <= 10


@pytest.mark.parametrize("error", [errors.KeyRefused("no"), errors.InternalError("x"), TimeoutError(), ValueError()])
async def test_what_will_not_pass_is_raised_at_once(error: Exception) -> None:
    calls = Calls(error, "never")
    with pytest.raises(type(error)):
        await retrying(calls, attempts=5, deadline_s=10)
    assert len(calls.left) == 1


async def test_attempts_run_out() -> None:
    calls = Calls(*[errors.Unavailable(str(number)) for number in range(3)])
    with pytest.raises(errors.Unavailable, match="2"):
        await retrying(calls, attempts=3, deadline_s=10)


async def test_no_pause_outlasts_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel.random, "uniform", lambda _low, _high: 11.0)
    calls = Calls(errors.Unavailable("down"), "never")
    with pytest.raises(errors.Unavailable):
        await retrying(calls, attempts=3, deadline_s=10)
    assert len(calls.left) == 1
