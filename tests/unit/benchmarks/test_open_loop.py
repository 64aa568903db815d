"""An open loop keeps its pace whatever comes back, and counts from when a request was due."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import grpc
import pytest
from benchmarks.load import open_loop
from benchmarks.load.open_loop import Pace, Paced, arrivals, paced
from benchmarks.load.streams import ItemError

from cloister.api.oip.inference_pb2 import ModelStreamInferResponse

PACE = Pace(per_s=2000, seconds=0.05, warm_up_s=0.01)


def item_error(kind: str) -> ItemError:
    item = ModelStreamInferResponse(error_message="too many")
    item.infer_response.parameters["cloister-error"].string_param = kind
    return ItemError(item.SerializeToString())


def test_arrivals_are_those_of_the_rate_and_the_same_each_time() -> None:
    pace = Pace(per_s=1000, seconds=9, warm_up_s=1)
    due_s = list(arrivals(pace))
    assert due_s == list(arrivals(pace))
    assert len(due_s) == pytest.approx(10_000, rel=0.05)
    assert all(earlier < later for earlier, later in pairwise(due_s))
    assert due_s[-1] < 10


async def test_requests_are_sent_though_nothing_is_answered() -> None:
    asked: list[int] = []
    gate = asyncio.Event()

    async def ask(number: int) -> None:
        asked.append(number)
        if len(asked) == len(list(arrivals(PACE))):
            gate.set()
        await gate.wait()

    came = await paced(PACE, ask, lambda: None)
    assert asked == list(range(len(list(arrivals(PACE)))))
    assert came.answers == came.due == len([at_s for at_s in arrivals(PACE) if at_s >= PACE.warm_up_s])
    assert came.elapsed_s >= 0.9 * PACE.seconds
    assert came.p99_s >= came.p50_s > 0
    assert came.last_loss_s == 0


async def test_outcomes_are_told_apart() -> None:
    refusal = grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata())
    outcomes = [None, refusal, item_error("Overloaded"), item_error("TimeoutError"), TimeoutError(), ValueError("no")]

    async def ask(number: int) -> None:
        outcome = outcomes[number % len(outcomes)]
        if outcome is not None:
            raise outcome

    came = await paced(Pace(per_s=5000, seconds=0.05), ask, lambda: None)
    assert came.answers + came.refused + came.expired + came.errors == came.due
    assert min(came.answers, came.refused, came.expired, came.errors) > 0
    assert came.refused == pytest.approx(came.expired, abs=2)
    assert came.error == "ValueError: no"
    assert 0 < came.last_loss_s < 0.05


async def test_a_load_that_runs_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "MAX_WAITING", 3)

    async def ask(_number: int) -> None:
        await asyncio.sleep(0.1)

    came = await paced(Pace(per_s=2000, seconds=0.03), ask, lambda: None)
    assert (came.answers, came.unsent) == (3, came.due - 3)


async def test_a_late_load_does_not_make_the_service_look_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "BREATH_S", 0.03)

    async def ask(_number: int) -> None:
        pass

    came = await paced(Pace(per_s=1000, seconds=0.1), ask, lambda: None)
    assert came.late_p99_s > 0.02
    assert came.p99_s >= came.late_p99_s


async def test_too_little_to_count_is_said() -> None:
    async def ask(_number: int) -> None:
        pass

    with pytest.raises(ValueError, match="count for longer"):
        await paced(Pace(per_s=0.001, seconds=0.01), ask, lambda: None)


async def test_a_result_survives_its_line() -> None:
    async def ask(_number: int) -> None:
        pass

    came = await paced(PACE, ask, lambda: None)
    assert Paced(**came.to_dict()) == came
