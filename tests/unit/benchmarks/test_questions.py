from pathlib import Path

import numpy as np
import pytest
from benchmarks.load import questions
from benchmarks.load.questions import difference
from benchmarks.models.catalogue import NETWORKS, QUESTIONS

from cloister.oip.tensors import decode_request, parse_request

ROW = np.array([[1.0, -4.0]], np.float32)


def test_a_difference_is_a_share_of_the_largest_number_expected() -> None:
    assert difference({"p": ROW}, {"p": ROW}) == 0.0
    assert difference({"p": ROW + np.float32(0.5)}, {"p": ROW}) == pytest.approx(0.125)


@pytest.mark.parametrize("answer", [{}, {"q": ROW}, {"p": ROW[0]}, {"p": ROW, "q": ROW}])
def test_other_outputs_or_shapes_are_no_answer(answer: questions.Arrays) -> None:
    with pytest.raises(ValueError, match="answered"):
        difference(answer, {"p": ROW})


def test_nan_is_never_close() -> None:
    assert not difference({"p": ROW * np.float32("nan")}, {"p": ROW}) <= 1.0


@pytest.mark.parametrize("network", NETWORKS)
def test_questions_differ_and_are_the_same_every_time(tmp_path: Path, network: str) -> None:
    first, again = NETWORKS[network].questions(), NETWORKS[network].questions()
    assert len(first) == QUESTIONS
    for inputs, same in zip(first, again, strict=True):
        assert questions.difference(inputs, same) == 0.0
    assert any((first[0][name] != first[1][name]).any() for name in first[0])
    questions.write(tmp_path, first[:2])
    (one, _), request = questions.read(tmp_path), parse_request(questions.oip("m", first[0]))
    assert one.keys() == first[0].keys() == decode_request(request).keys()
