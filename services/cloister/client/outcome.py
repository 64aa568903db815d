"""What became of one of many requests: an answer or an error, and never neither."""

from __future__ import annotations

from dataclasses import dataclass

from cloister.client.answer import Answer
from cloister.errors import CloisterError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of many requests.

    Attributes:
        number: Of the request, in the order in which inputs were given; the first is 0.
        answer: None where there is an error.
        error: What the request ended with, its own new attempts included; None where there is an answer.
    """

    number: int
    answer: Answer | None = None
    error: CloisterError | TimeoutError | None = None

    def result(self) -> Answer:
        """The answer; raises the error where there is none."""
        if self.answer is None:
            assert self.error is not None
            raise self.error
        return self.answer
