import asyncio

import pytest
from benchmarks.load.turns import Counted, Turn, quantile, taken
from hypothesis import given
from hypothesis import strategies as st

TURN = Turn(in_flight=4, seconds=0.05, warm_up_s=0.01)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0), (0.01, 1.0)])
def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed(share: float, expected: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_no_fewer_than_the_share_lie_at_or_below_a_quantile(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_a_quantile_of_nothing_is_zero() -> None:
    assert quantile([], 0.5) == 0.0


async def test_so_many_requests_are_in_flight_and_never_more() -> None:
    now, most = 0, 0

    async def ask(number: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    counted = await taken(TURN, ask, lambda: None)
    assert most == TURN.in_flight
    assert now == 0  # what was under way has ended
    assert counted.errors == 0


async def test_every_question_is_asked_by_somebody() -> None:
    asked: list[int] = []

    async def ask(number: int) -> None:
        asked.append(number)
        await asyncio.sleep(0.001)

    await taken(TURN, ask, lambda: None)
    assert set(range(8)) <= set(asked)
    assert len(set(asked)) == len(asked)


async def test_what_comes_before_counting_begins_is_not_counted() -> None:
    answered, at_began = 0, 0

    async def ask(number: int) -> None:
        nonlocal answered
        await asyncio.sleep(0.001)
        answered += 1

    def began() -> None:
        nonlocal at_began
        at_began = answered

    counted = await taken(TURN, ask, began)
    assert at_began > 0
    # Those under way when counting ends are answered, and not counted.
    assert answered - at_began - TURN.in_flight <= counted.answers <= answered - at_began
    assert counted.elapsed_s >= TURN.seconds
    assert 0.001 <= counted.p50_s <= counted.p99_s


async def test_an_error_is_counted_apart_and_told() -> None:
    async def ask(number: int) -> None:
        await asyncio.sleep(0.001)
        raise ValueError("no")

    counted = await taken(TURN, ask, lambda: None)
    assert counted.answers == 0
    assert counted.errors > 0
    assert counted.error == "ValueError: no"


def test_a_result_survives_its_line() -> None:
    counted = Counted.of([0.2, 0.1], [], elapsed_s=1.0, cpu_s=0.5)
    assert Counted(**counted.to_dict()) == counted
