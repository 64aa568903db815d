"""What a soak complains of."""

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.load.checked import Checked, WrongAnswer
from benchmarks.load.open_loop import Paced
from benchmarks.report.drift import MB, Memory
from benchmarks.report.soaked import Asked, complaints

MINUTE = Paced(
    due=10,
    answers=10,
    refused=0,
    expired=0,
    errors=0,
    error="",
    unsent=0,
    elapsed_s=60.0,
    cpu_s=1.0,
    p50_s=0.001,
    p99_s=0.005,
    refusal_p50_s=0.0,
    refusal_p99_s=0.0,
    late_p99_s=0.0,
)
FLAT = Memory("gateway", [0.0, 5.0, 10.0, 15.0], [70 * MB] * 4)


def said(minutes, memory=FLAT, *, latency=True):
    return list(complaints([Asked("mlp", "unary", 4.0, minutes)], [memory], latency=latency))


def test_a_steady_run_gives_no_cause():
    assert said([MINUTE] * 9) == []


@pytest.mark.parametrize("field", ["refused", "expired", "unsent", "errors"])
def test_one_request_that_was_not_answered_does(field):
    (complaint,) = said([MINUTE] * 8 + [replace(MINUTE, **{field: 1})])
    assert f"1 requests {field}" in complaint


def test_latency_that_drifts_does_where_it_is_judged():
    minutes = [MINUTE] * 6 + [replace(MINUTE, p99_s=0.5)] * 3
    assert "p99 drifts" in said(minutes)[0]
    assert said(minutes, latency=False) == []


def test_memory_that_grows_does():
    (complaint,) = said([MINUTE], Memory("worker-1", [0.0, 5.0, 10.0, 15.0], [70 * MB, 80 * MB, 90 * MB, 100 * MB]))
    assert complaint.startswith("worker-1 grows")


class Echo:
    """Answers with what it was given."""

    def __init__(self, *answers):
        self.answers = answers

    async def ask(self, number):
        return self.answers[number % len(self.answers)]

    def arrays(self, answer):
        return {"p": np.array(answer, np.float32)}


async def test_every_answer_is_compared_with_that_of_its_question():
    known = [{"p": np.array([1, 2], np.float32)}, {"p": np.array([3, 4], np.float32)}]
    right = Checked(Echo([1, 2], [3, 4.00001]), known)
    assert [await right.ask(number) for number in (0, 1, 2)] == [[1, 2], [3, 4.00001], [1, 2]]
    swapped = Checked(Echo([1, 2], [1, 2]), known)
    await swapped.ask(0)
    with pytest.raises(WrongAnswer, match="question 1"):
        await swapped.ask(1)
    with pytest.raises(WrongAnswer):
        await Checked(Echo([float("nan"), 2]), known).ask(0)
