"""When a call is made again, and when not."""

from __future__ import annotations

import pytest

from cloister.client import attempts as module
from cloister.client.attempts import MAX_ATTEMPTS, attempts
from cloister.errors import CloisterError, InvalidRequest, NotReady, Overloaded, Unavailable


class Calls:
    """Fails as told, then succeeds."""

    def __init__(self, *errors: CloisterError | TimeoutError) -> None:
        self.errors = list(errors)
        self.left: list[float] = []

    async def __call__(self, left_s: float) -> str:
        self.left.append(left_s)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.random, "uniform", lambda _low, _high: 0.0)


async def test_until_it_succeeds_with_ever_less_time() -> None:
    calls = Calls(Unavailable("gone"), Unavailable("still gone"), NotReady("", reason="session.unknown"))
    assert await attempts(calls, 5.0) == "done"
    assert calls.left == sorted(calls.left, reverse=True)
    assert calls.left[0] <= 5.0


@pytest.mark.parametrize("error", [InvalidRequest("no"), NotReady("not yet")])
async def test_not_for_what_stays(error: CloisterError) -> None:
    calls = Calls(error)
    with pytest.raises(type(error)):
        await attempts(calls, 5.0)
    assert len(calls.left) == 1


async def test_not_beyond_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.random, "uniform", lambda _low, high: high)
    calls = Calls(*[Unavailable("gone")] * 50)
    with pytest.raises(Unavailable):
        await attempts(calls, 0.01)
    assert len(calls.left) == 1


async def test_not_for_ever() -> None:
    calls = Calls(*[Unavailable("gone")] * 50)
    with pytest.raises(Unavailable):
        await attempts(calls, 60.0)
    assert len(calls.left) == MAX_ATTEMPTS


async def test_not_before_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    paused_s: list[float] = []

    async def sleep(seconds: float) -> None:
        paused_s.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    calls = Calls(Overloaded("full", retry_after_s=0.7), Overloaded("full"))
    assert await attempts(calls, 5.0) == "done"
    assert paused_s == [0.7, 0.0]


async def test_told_to_wait_beyond_its_deadline_it_says_so_at_once() -> None:
    calls = Calls(Overloaded("full", retry_after_s=9.0))
    with pytest.raises(Overloaded):
        await attempts(calls, 5.0)
    assert len(calls.left) == 1


async def test_a_deadline_says_how_long_it_was_and_what_went_before() -> None:
    with pytest.raises(TimeoutError, match=r"^no answer within 2\.5 s; before that: the gateway is gone$"):
        await attempts(Calls(Unavailable("the gateway is gone"), TimeoutError("the deadline passed")), 2.5)
    with pytest.raises(TimeoutError, match=r"^no answer within 2 s$"):
        await attempts(Calls(TimeoutError()), 2)
