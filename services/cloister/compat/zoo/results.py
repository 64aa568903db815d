"""The answers that this process holds for `OutputQueue`: so many, so large, for so long.

In Cluster Serving results lay in Redis, never expired, and a full queue dropped requests in silence. Here a place is
taken before a request is sent, and who finds none is told; an answer that nobody fetches ends with its lifetime. Safe
for several threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from cloister.client import Answer
from cloister.compat.zoo.fitting import Result
from cloister.errors import AlreadyExists, CloisterError, NotFound, NotReady, Overloaded
from cloister.oip.contents import Array

MAX_RESULTS: Final = 1024
MAX_HELD_BYTES: Final = 256 << 20
LIFETIME_S: Final = 600.0

Failure = CloisterError | TimeoutError
"""What a request ended with in place of an answer."""


@dataclass(slots=True)
class _Place:
    """One request, and once it has ended what came of it."""

    outcome: Result | Failure | None = field(default=None, repr=False)
    answer: Answer | None = field(default=None, repr=False)
    size_bytes: int = 0
    ended_s: float = 0.0


class Results:
    """Places by uri.

    Args:
        max_results: Requests under way and answers not yet deleted, together.
        max_bytes: Of all of them: requests, then answers with what proves them.
        lifetime_s: Of an answer that nobody deletes.
        clock_s: Monotonic.
    """

    def __init__(
        self,
        max_results: int = MAX_RESULTS,
        max_bytes: int = MAX_HELD_BYTES,
        lifetime_s: float = LIFETIME_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._lifetime_s = lifetime_s
        self._clock_s = clock_s
        self._places: dict[str, _Place] = {}
        self._held_bytes = 0
        self._ended = threading.Condition()

    def begin(self, uri: str, size_bytes: int) -> None:
        """Take a place for a request of this size.

        Raises:
            AlreadyExists: `uri` is under way, or its result has not been deleted.
            Overloaded: There are as many as there may be.
        """
        with self._ended:
            self._forget_old()
            if uri in self._places:
                raise AlreadyExists(
                    f"'{uri[:64]}' is under way or its result is still held; query_and_delete it first",
                    reason="uri.taken",
                )
            if len(self._places) >= self._max_results:
                raise Overloaded(
                    f"{self._max_results} requests and results are held; delete some with query_and_delete or dequeue",
                    reason="results.full",
                )
            if self._held_bytes + size_bytes > self._max_bytes:
                raise Overloaded(
                    f"requests and results of {self._max_bytes >> 20} MiB are held; delete some, or send smaller ones",
                    reason="results.full",
                )
            self._places[uri] = _Place(size_bytes=size_bytes)
            self._held_bytes += size_bytes

    def end(self, uri: str, outcome: Result | Failure, answer: Answer | None = None) -> None:
        """Put what came of a request into its place; an answer too large for the room that is left is an error."""
        size_bytes = sum(array.nbytes for array in arrays_of(outcome)) + (_proof_bytes(answer) if answer else 0)
        with self._ended:
            place = self._places.get(uri)
            if place is None:
                return
            self._forget_old()
            self._held_bytes -= place.size_bytes
            if self._held_bytes + size_bytes > self._max_bytes:
                outcome = Overloaded("the results held leave no room for this one", reason="results.full")
                answer, size_bytes = None, 0
            place.outcome, place.answer, place.size_bytes = outcome, answer, size_bytes
            place.ended_s = self._clock_s()
            self._held_bytes += size_bytes
            self._ended.notify_all()

    def holds(self, uri: str) -> bool:
        """Whether there is a place of this uri."""
        with self._ended:
            self._forget_old()
            return uri in self._places

    def give_up(self, uri: str) -> None:
        """Forget a request that was never sent."""
        with self._ended:
            self._remove(uri)

    def get(self, uri: str, *, delete: bool, timeout_s: float) -> tuple[Result, Answer]:
        """What came of a request, waiting for it if it is under way.

        Raises:
            NotFound: No such request, or its result was deleted or has grown too old.
            NotReady: It is still under way.
            CloisterError, TimeoutError: What it ended with; deleted as an answer would be.
        """
        with self._ended:
            self._ended.wait_for(lambda: self._is_settled(uri), timeout_s)
            self._forget_old()
            place = self._places.get(uri)
            if place is None:
                raise NotFound(
                    f"no request '{uri[:64]}', or its result was deleted, or nobody asked for {self._lifetime_s:g} s",
                    reason="result.unknown",
                )
            if place.outcome is None:
                raise NotReady(f"'{uri[:64]}' is still under way", reason="result.pending")
            if delete:
                self._remove(uri)
        if isinstance(place.outcome, Failure):
            raise place.outcome
        assert place.answer is not None
        return place.outcome, place.answer

    def take_ended(self) -> dict[str, Result | Failure]:
        """All that have ended, and delete them."""
        with self._ended:
            self._forget_old()
            ended = {uri: place.outcome for uri, place in self._places.items() if place.outcome is not None}
            for uri in ended:
                self._remove(uri)
        return ended

    def _is_settled(self, uri: str) -> bool:
        place = self._places.get(uri)
        return place is None or place.outcome is not None

    def _forget_old(self) -> None:
        oldest_s = self._clock_s() - self._lifetime_s
        old = [uri for uri, place in self._places.items() if place.outcome is not None and place.ended_s < oldest_s]
        for uri in old:
            self._remove(uri)

    def _remove(self, uri: str) -> None:
        self._held_bytes -= self._places.pop(uri).size_bytes


def _proof_bytes(answer: Answer) -> int:
    return answer.envelope.ByteSize() + (answer.receipt.ByteSize() if answer.receipt is not None else 0)


def arrays_of(outcome: Result | Failure) -> Iterator[Array]:
    """Each array of a result; none of a failure."""
    if isinstance(outcome, list):
        yield from outcome
    elif not isinstance(outcome, Failure):
        yield outcome
