"""A carrier whose every answer is compared with the one that is known: for long runs, where a wrong one may be rare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.load import questions
from benchmarks.load.carriers import Carrier
from benchmarks.load.questions import Arrays

TOLERANCE = 1e-4
"""Of the largest output: sums over other numbers of threads round otherwise."""


class WrongAnswer(Exception):
    """An answer that is not the one to its question."""


class Checked:
    """Asks through another carrier.

    Args:
        carrier: Takes the questions.
        expected: The answer to each.
    """

    def __init__(self, carrier: Carrier, expected: Sequence[Arrays]) -> None:
        self._carrier, self._expected = carrier, expected

    @classmethod
    def against(cls, carrier: Carrier, folder: Path) -> Checked:
        """With the answers that lie in a folder, as a load's `check` leaves them."""
        count = len(list(folder.glob("answers-*.npz")))
        return cls(carrier, [questions.load(folder / f"answers-{number}.npz") for number in range(count)])

    async def ask(self, number: int) -> Any:
        """See `Carrier`; raises WrongAnswer."""
        answer = await self._carrier.ask(number)
        away = questions.difference(self._carrier.arrays(answer), self._expected[number % len(self._expected)])
        if not away <= TOLERANCE:
            raise WrongAnswer(f"question {number % len(self._expected)}: {away:.2e} of the largest output away")
        return answer

    def arrays(self, answer: Any) -> Arrays:
        """See `Carrier`."""
        return self._carrier.arrays(answer)
