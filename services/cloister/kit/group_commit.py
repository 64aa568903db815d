"""One thread that commits what waits together, so that a crowd shares the waiting for the disk.

What comes while a commit is under way goes into the next one. So do jobs that are on their way (`coming`), for as long
as the wait brings any: a commit costs about as much for one as for ten. Whoever handed a job in is told when it is on
disk; one that is alone waits for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

from cloister.errors import Unavailable

J = TypeVar("J")
_MOST: Final = 256
ENOUGH: Final = 16
"""Jobs that a commit does not wait with: what each has of its cost is little by then."""
STEP_S: Final = 0.010
STEPS: Final = 3


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[J]):
    """A job, and who waits for what comes of it."""

    job: J
    done: Future[Any] = field(default_factory=Future)


class GroupCommit(Generic[J]):
    """The queue of one such thread.

    Args:
        commit: Commits a group. It returns, in order, what came of each job: a result, or the exception that is for
            its caller alone. What it raises is for all of them.
        name: Of the thread.
    """

    def __init__(self, commit: Callable[[Sequence[J]], Sequence[Any]], *, name: str) -> None:
        self._commit = commit
        self._name = name
        self._waiting: SimpleQueue[_Waiting[J] | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._coming = 0
        self._all_came = threading.Event()
        self._closed = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Commit until the block ends; what was handed in by then is still committed."""
        thread = threading.Thread(target=self._commit_all, name=self._name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._gate:
                self._closed = True
                self._waiting.put(None)
            thread.join()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Say that a job is on its way, which is handed in right behind the block, or not at all."""
        with self._gate:
            self._coming += 1
            self._all_came.clear()
        try:
            yield
        finally:
            with self._gate:
                self._coming -= 1
                if not self._coming:
                    self._all_came.set()

    def submit(self, job: J) -> Future[Any]:
        """Hand a job in; the future comes when it is committed.

        Raises:
            Unavailable: Nothing is taken in any more.
        """
        waiting = _Waiting(job)
        with self._gate:
            if self._closed:
                raise Unavailable("the record is closed", reason="record.unavailable")
            self._waiting.put(waiting)
        return waiting.done

    def _commit_all(self) -> None:
        while (first := self._waiting.get()) is not None:
            group, ended = self._with_company(first)
            group = [one for one in group if one.done.set_running_or_notify_cancel()]
            try:
                outcomes = self._commit([one.job for one in group]) if group else []
            except Exception as error:  # this thread has nobody to raise to but those who wait
                outcomes = [error] * len(group)
            for one, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    one.done.set_exception(outcome)
                else:
                    one.done.set_result(outcome)
            if ended:
                return

    def _with_company(self, first: _Waiting[J]) -> tuple[list[_Waiting[J]], bool]:
        """What waits by now, and what comes in some milliseconds more where more is on its way."""
        group = [first]
        ended = self._take_waiting(group)
        for _ in range(STEPS):
            before = len(group)
            if ended or not self._coming or before >= ENOUGH:
                break
            self._all_came.wait(STEP_S)
            ended = self._take_waiting(group)
            if len(group) == before:
                break
        return group, ended

    def _take_waiting(self, group: list[_Waiting[J]]) -> bool:
        """Add what waits to a group; says whether that was the last there will be."""
        with suppress(Empty):
            while len(group) < _MOST:
                after = self._waiting.get_nowait()
                if after is None:
                    return True
                group.append(after)
        return False
