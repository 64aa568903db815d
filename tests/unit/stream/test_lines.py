"""What becomes of a record is one line of JSON, which a strict parser takes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from cloister.client import Answer
from cloister.errors import InvalidRequest
from cloister_stream.lines import FAILURE, RESULT, STOP, Ended, failure, result, stop


def parsed(line: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert "\n" not in line
    return json.loads(line, parse_constant=refuse)


def test_a_result_has_the_outputs_by_name_and_who_gave_them() -> None:
    worker: Any = SimpleNamespace(instance="0c" * 16)
    outputs = {"y": np.array([[0.5, np.nan, -np.inf]], np.float32), "label": np.array([b"one\n"], object)}
    ended = result("p/7", Answer(outputs=outputs, model_name="m", model_version="3", carried=b"", worker=worker))
    assert ended.kind == RESULT
    assert parsed(ended.line) == {
        "key": "p/7",
        "model": "m@3",
        "worker": "0c" * 16,
        "outputs": {"y": [[0.5, "NaN", "-Infinity"]], "label": ["one\n"]},
    }


def test_a_failure_has_its_reason_and_the_record_as_it_came() -> None:
    record = '{"id": "p7", "x": [1,\t2]} \ud800'
    ended = failure("p7", InvalidRequest("tensor 'x': too short"), record)
    assert ended.kind == FAILURE
    assert parsed(ended.line) == {
        "key": "p7",
        "reason": "request.invalid",
        "error": "tensor 'x': too short",
        "record": record,
    }
    assert parsed(failure(None, TimeoutError("no answer"), "x").line)["reason"] == "deadline.exceeded"


def test_a_record_does_not_show_in_the_representation_of_what_became_of_it() -> None:
    assert "secret" not in repr(failure(1, TimeoutError("no answer"), "secret"))


def test_what_stops_the_job_says_why_and_holds_no_record() -> None:
    assert stop(InvalidRequest("the owner is another")) == Ended(STOP, "request.invalid: the owner is another")
    assert stop(ValueError("could not convert 'Jane Doe'")) == Ended(STOP, "ValueError")
