"""Infer requests on OpenVINO's own threads, and the queue before them, which is where batches form.

Nobody's request waits while an infer request is free. What has gathered when one becomes free is divided between the
free ones and evaluated together, as far as the model lets rows share an evaluation. Whoever has gone by then, or is
past its deadline, is left out. A batch that fails answers nobody: `infer_requests` says why not even those of its rows
that look well are believed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from cloister.errors import CloisterError
from cloister.worker.batches import Item, Outputs, take
from cloister.worker.counts import EvaluationCounts
from cloister.worker.infer_requests import InferSlot, failure, gone
from cloister.worker.timings import clock_s

SWEEP_S: Final = 0.02


class _Call(NamedTuple):
    item: Item
    answer: asyncio.Future[Outputs]


class InferPool:
    """Infer requests that compute on OpenVINO's threads, each handed back in its own completion.

    Args:
        slots: All of one compiled model. Once one evaluation has failed, no later result of any of them is handed out.
        failed: Set then.
        counts: Of this model's evaluations.
        streams: How many of them compute at a time.
        most_rows: Of different requests in one evaluation; 1 for none but its own.

    Attributes:
        batch_failed: Whether it was a batch that failed; which of its requests it was is not known.
    """

    def __init__(
        self,
        slots: Sequence[InferSlot],
        failed: asyncio.Event,
        counts: EvaluationCounts,
        *,
        streams: int = 1,
        most_rows: int = 1,
    ) -> None:
        self.batch_failed = False
        self._failed = failed
        self._counts = counts
        self._streams = streams
        self._most_rows = most_rows
        self._idle = list(slots)
        self._size = len(slots)
        self._all_idle = asyncio.Event()
        self._waiting: deque[_Call] = deque()
        self._running: dict[InferSlot, list[_Call]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._due = self._closing = False
        for slot in slots:
            slot.request.set_callback(self._completed, slot)

    @property
    def waiting(self) -> int:
        """How many requests wait for an infer request."""
        return len(self._waiting)

    async def infer(self, item: Item) -> Outputs:
        """Evaluate, once an infer request is free.

        Raises:
            InvalidRequest: It failed.
            NotReady: An earlier one failed, or one in the same batch, or the pool is being closed.
            TimeoutError: Its time was up before it began.
        """
        if self._closing or self._failed.is_set():
            raise gone()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outputs] = loop.create_future()
        self._waiting.append(_Call(item, answer))
        if not self._due:  # once for all that come in this round of the loop: a frame is a batch
            self._due = True
            loop.call_soon(self._dispatch, loop)
        return await answer

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._waiting or len(self._idle) < self._size:
            self._all_idle.clear()
            await self._all_idle.wait()

    async def close(self) -> None:
        """Wait until every infer request is back; what has not begun is refused."""
        self._closing = True
        self._refuse_waiting()
        while len(self._idle) < self._size:
            self._all_idle.clear()
            await self._all_idle.wait()
        if self._sweep is not None:
            self._sweep.cancel()
        for slot in self._idle:  # OpenVINO holds its callback, which holds us, where no collector sees it
            slot.request.set_callback(_nobody, None)
        self._idle.clear()
        self._size = 0

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = False
        if self._failed.is_set():
            self._refuse_waiting()
        while self._idle and (batch := self._next_batch(loop.time())):
            self._start(batch)
        if self._running and self._sweep is None:
            self._sweep = loop.call_later(SWEEP_S, self._look, loop)
        if not self._running and not self._waiting:
            self._all_idle.set()

    def _next_batch(self, now_s: float) -> list[_Call]:
        """The oldest that somebody waits for, and what may go with it; no more than its share of the free requests."""
        for call in self._waiting:
            if call.item.ends_at_s <= now_s and not call.answer.done():
                call.answer.set_exception(TimeoutError())
        self._waiting = deque(call for call in self._waiting if not call.answer.done())
        if not self._waiting:
            return []
        share = -(-len(self._waiting) // min(len(self._idle), self._streams))
        return take(self._waiting, _item_of, most_rows=self._most_rows, most=share)

    def _start(self, batch: list[_Call]) -> None:
        slot = self._idle.pop()
        self._running[slot] = batch
        items = [call.item for call in batch]
        self._counts.begin(items)
        try:
            slot.fill_rows(items)
            slot.request.start_async()
        except RuntimeError:
            self._fail(slot)

    def _completed(self, slot: InferSlot) -> None:
        """What OpenVINO calls, on a thread of its own. An exception that left it would end up nowhere."""
        batch = self._running[slot]
        outcome: list[Outputs] | Exception
        try:
            outcome = slot.read_rows([call.item for call in batch])
        except Exception as error:
            outcome = error
        if (evaluation := batch[0].item.evaluation) is not None:
            evaluation.ended_s = clock_s()
        batch[0].answer.get_loop().call_soon_threadsafe(self._complete, slot, outcome)

    def _complete(self, slot: InferSlot, outcome: list[Outputs] | Exception) -> None:
        slot.request.wait()  # until OpenVINO has let go of it
        self._find_failed()  # before this outcome is believed: it may have been computed after a failure
        if self._failed.is_set():
            self._finish(slot, gone())
        elif isinstance(outcome, RuntimeError):
            self._fail(slot)
        else:
            self._finish(slot, outcome)
        self._dispatch(asyncio.get_running_loop())

    def _find_failed(self) -> None:
        for slot in list(self._running):
            try:
                slot.request.wait_for(0)
            except RuntimeError:
                self._fail(slot)

    def _fail(self, slot: InferSlot) -> None:
        self._failed.set()
        self.batch_failed = self.batch_failed or len(self._running[slot]) > 1
        self._finish(slot, failed_in(len(self._running[slot])))
        self._refuse_waiting()

    def _finish(self, slot: InferSlot, outcome: list[Outputs] | Exception) -> None:
        batch = self._running.pop(slot)
        self._idle.append(slot)
        if len(self._idle) == self._size:
            self._all_idle.set()
        for at, (_, answer) in enumerate(batch):
            if answer.done():
                continue
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome[at])

    def _refuse_waiting(self) -> None:
        while self._waiting:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_exception(gone())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._find_failed()
        self._sweep = loop.call_later(SWEEP_S, self._look, loop) if self._running else None


def failed_in(requests: int) -> CloisterError:
    """What a request hears whose evaluation failed: that it was it, or, among others, only to come again."""
    return failure() if requests == 1 else gone()


def _nobody(_told: None) -> None:
    """Of an infer request that is given up."""


def _item_of(call: _Call) -> Item:
    return call.item
