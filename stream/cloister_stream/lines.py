"""What becomes of a record, as one line of JSON: its result, or why it has none."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from cloister.client import Answer
from cloister.errors import CloisterError
from cloister_stream.records import Key

RESULT, FAILURE, STOP = "result", "failure", "stop"


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one record.

    Attributes:
        kind: `RESULT`; `FAILURE`, which has a reason in place of outputs; or `STOP`: nothing will become of any.
        line: For the file, without its end; what a job that stops says.
    """

    kind: str
    line: str = field(repr=False)


def result(key: Key, answer: Answer) -> Ended:
    """The outputs by name, and who gave them.

    JSON has no number for what is not finite: that is the text "NaN", "Infinity" or "-Infinity".
    """
    assert answer.worker is not None  # every request is sealed
    line = {
        "key": key,
        "model": f"{answer.model_name}@{answer.model_version}",
        "worker": answer.worker.instance,
        "outputs": {name: _finite(array.tolist()) for name, array in answer.outputs.items()},
    }
    return Ended(RESULT, json.dumps(line, allow_nan=False, separators=(",", ":")))


def failure(key: Key | None, error: CloisterError | TimeoutError, record: str) -> Ended:
    """Why there is no result, and the record as it came, so that it can be given again."""
    reason = error.reason if isinstance(error, CloisterError) else "deadline.exceeded"
    line = {"key": key, "reason": reason, "error": str(error), "record": record}
    return Ended(FAILURE, json.dumps(line, allow_nan=False, separators=(",", ":")))


def stop(error: BaseException) -> Ended:
    """What the job says as it stops: of an error that is not ours the name only, since its words may hold a record."""
    said = f"{error.reason}: {error}" if isinstance(error, CloisterError) else type(error).__name__
    return Ended(STOP, said)


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
