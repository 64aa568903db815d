from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from benchmarks.load import questions
from benchmarks.load.turns import BEGAN, Counted, Turn
from benchmarks.scenarios.serving import SCENARIOS, arguments, in_turn
from benchmarks.systems.loads import Load, at_once
from benchmarks.systems.running import Failed

TURN = Turn(in_flight=2, seconds=1.0, warm_up_s=0.0)
RIGHT = [{"y": np.array([1.0, 2.0], np.float32)}, {"y": np.array([3.0, 4.0], np.float32)}]


class Process:
    """A load that says what it is made to say."""

    def __init__(self, said: Sequence[Any]) -> None:
        self.stdin = io.StringIO()
        self.stdout = io.StringIO("".join(json.dumps(word) + "\n" for word in said))


def load(*said: Any) -> Load:
    return Load(cast(Any, Process(said)), "mesh", "unary", {})


def counted(answers: int = 10, errors: Sequence[str] = ()) -> dict[str, Any]:
    return Counted.of([0.1] * answers, errors, elapsed_s=2.0, cpu_s=0.5).to_dict()


def answered(folder: Path, answers: Sequence[questions.Arrays]) -> Load:
    """A load that has kept these answers in `folder`."""
    for number, each in enumerate(answers):
        questions.save(folder / f"answers-{number}.npz", each)
    return load({"checked": len(answers)})


def test_a_turn_is_told_and_becomes_a_sample() -> None:
    asked = load(BEGAN, counted())
    sample = asked.sample(TURN)
    assert json.loads(asked._process.stdin.getvalue()) == {"in_flight": 2, "seconds": 1.0, "warm_up_s": 0.0}
    assert (sample.system, sample.carrier, sample.in_flight, sample.per_s) == ("mesh", "unary", 2, 5.0)


def test_loads_that_ask_at_once_are_looked_at_while_all_of_them_count() -> None:
    two, looks = [load(BEGAN, counted(10)), load(BEGAN, counted(20))], iter([1.0, 5.0])
    came, grown = at_once([(each, TURN) for each in two], lambda: {"gateway": next(looks)})
    assert [each.answers for each in came] == [10, 20]
    assert grown == {"gateway": 4.0}
    with pytest.raises(Failed, match="did not begin"):
        at_once([(load(BEGAN, counted()), TURN), (load(counted()), TURN)], dict)


@pytest.mark.parametrize("said", [counted(errors=["no"]), counted(answers=0)])
def test_a_turn_with_an_error_or_without_an_answer_ends_the_run(said: dict[str, Any]) -> None:
    with pytest.raises(Failed, match="mesh, unary"):
        load(BEGAN, said).sample(TURN)


def test_a_load_that_ends_is_told_of() -> None:
    with pytest.raises(Failed, match="the load ended"):
        load().sample(TURN)


def test_right_answers_are_right_and_rounding_is_allowed(tmp_path: Path) -> None:
    assert answered(tmp_path, RIGHT).check(tmp_path, RIGHT) == 0.0
    rounded = [{"y": each["y"] * np.float32(1 + 1e-6)} for each in RIGHT]
    assert 0.0 < answered(tmp_path, rounded).check(tmp_path, RIGHT) < 1e-5


def test_an_answer_to_another_question_is_found(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="an answer is"):
        answered(tmp_path, RIGHT[::-1]).check(tmp_path, RIGHT)


def test_a_question_without_an_answer_is_found(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="not every question"):
        answered(tmp_path, RIGHT[:1]).check(tmp_path, RIGHT)


def test_everybody_has_a_turn_in_each_round_and_rounds_begin_with_others() -> None:
    rounds = [in_turn("abcdefg", number, 3) for number in range(3)]
    assert all(sorted(order) == list("abcdefg") for order in rounds)
    assert len({order[0] for order in rounds}) == 3


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_measures_everything_unless_told_otherwise(scenario: str) -> None:
    chosen = arguments(["--scenario", scenario, "--peers"])
    assert chosen.scenario == scenario
    assert list(chosen.in_flight) == [1, 8, 32]
    assert list(chosen.peers) == []
