"""What clients that asked directly have noted, and how long it was until all was well again."""

from __future__ import annotations

import base64
import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chaos.asking import STOCK, question
from chaos.verdict import TOLERANCE, Truth

LATE_S = 1.0
"""An answer that takes longer is late."""
STEP_S = 0.5
WELL = 0.95
"""Share of requests of one step that are answered and not late, when all is well."""
CALM_STEPS = 6
"""So many steps in a row are well when it is over."""
MAY_PASS = frozenset({"Unavailable", "Overloaded", "TimeoutError", "RpcError"})
"""What a fault of hosts and links may be told as: nothing that says a request, a seal or a model is wrong."""


@dataclass(slots=True)
class Asked:
    """One request.

    Attributes:
        began_at: Unix time, as is `ended_at`, which is infinite while there is no end.
        y: The answer, in base64.
        error: What came in its place.
    """

    number: int
    way: str
    via: str
    began_at: float
    ended_at: float = math.inf
    y: str | None = None
    error: str = ""
    reason: str = ""

    @property
    def took_s(self) -> float:
        """Infinite while there is no end."""
        return self.ended_at - self.began_at

    @property
    def in_time(self) -> bool:
        """Answered, and not late."""
        return self.y is not None and self.took_s <= LATE_S

    @property
    def failed_as(self) -> str:
        """Error and reason; empty for one that did not fail."""
        return " ".join(word for word in (self.error, self.reason) if word)


class Asks:
    """All requests in a journal that is still being written, in the order in which they were asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self._by_number: dict[int, Asked] = {}
        self.all: list[Asked] = []
        self._began: list[float] = []

    def look(self) -> None:
        """Read what is new."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_bytes += len(line)
                self._take(line)

    def between(self, start_at: float, end_at: float) -> Sequence[Asked]:
        """Those that were asked in that time."""
        return self.all[bisect_left(self._began, start_at) : bisect_left(self._began, end_at)]

    def _take(self, line: bytes) -> None:
        try:
            note: Mapping[str, Any] = json.loads(line)
        except ValueError:  # torn by a kill
            return
        number = note.get("n")
        if number is None:
            return
        if "way" in note:
            asked = self._by_number[number] = Asked(number, note["way"], note["via"], note["at"])
            self.all.append(asked)
            self._began.append(asked.began_at)
        else:
            asked = self._by_number[number]
            asked.ended_at, asked.y = note["at"], note.get("y")
            asked.error, asked.reason = note.get("error", ""), note.get("reason", "")


def well_again_s(asks: Asks, since_at: float, known_at: float, rate: float) -> float | None:
    """Seconds after which requests of the SDK are answered in time again, and go on being so; None if not yet.

    Args:
        asks: All.
        since_at: When the fault was over.
        known_at: What was asked before is known to be late, or not.
        rate: Requests a second of the SDK, all together.
    """
    after_s, calm, at = 0.0, 0, since_at
    while at + STEP_S <= known_at:
        step = [each for each in asks.between(at, at + STEP_S) if each.way != STOCK]
        in_time, least = sum(each.in_time for each in step), WELL * max(len(step), rate * STEP_S / 2)
        at += STEP_S
        if in_time >= least:
            calm += 1
        else:
            calm, after_s = 0, at - since_at
        if calm == CALM_STEPS:
            return after_s
    return None


def answered_again_s(asks: Sequence[Asked], since_at: float) -> dict[str, float]:
    """By way, when the first answer came to something that was asked since; a way that had none is not there."""
    first: dict[str, float] = {}
    for each in asks:
        if each.began_at >= since_at and each.y is not None:
            first[each.way] = min(first.get(each.way, math.inf), each.ended_at - since_at)
    return first


def errors(asks: Sequence[Asked], *, of_stock: bool) -> Counter[str]:
    """How many failed as what, of the SDK's or of the stock client's."""
    return Counter(each.failed_as for each in asks if each.error and (each.way == STOCK) is of_stock)


def wrong(asks: Sequence[Asked], truth: Truth) -> Iterator[tuple[str, str]]:
    """Rules that requests break, each with the request."""
    for each in asks:
        if each.y is not None and not _right(each, truth):
            yield "every answer is right, and of its own request", f"{each.number} {each.way}"
        if each.error and (each.error not in MAY_PASS or not _passes(each)):
            yield "a fault of hosts or links is told as one that passes", f"{each.number} {each.way} {each.failed_as}"


def _passes(asked: Asked) -> bool:
    return asked.error != "RpcError" or asked.reason in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")


def _right(asked: Asked, truth: Truth) -> bool:
    y = np.frombuffer(base64.b64decode(asked.y or ""), np.float32)
    expected = truth(question(asked.number))
    return y.size == expected.size and bool(np.allclose(y.reshape(expected.shape), expected, atol=TOLERANCE))
