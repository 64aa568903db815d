"""The worker's end of one link: frames of calls in, frames of results out (docs/decisions/0004-worker-link.md).

Every call gets exactly one result, also one that was cancelled, because the gateway counts slots by them. One task
reads and one writes; whatever has finished when the writer comes round leaves in one frame. What is quick is evaluated
by the reader itself, the calls of a frame together where their model allows; the rest has a task for each call. Either
way a call is read, answered and refused for itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Final, NamedTuple

from cloister.api.v1.worker_pb2 import Evaluation as EvaluationMessage
from cloister.api.v1.worker_pb2 import (
    GatewayFrame,
    InferCall,
    ModelOrder,
    OrderResult,
    WorkerCounters,
    WorkerFrame,
    WorkerReport,
)
from cloister.errors import CloisterError, InvalidRequest
from cloister.kit.log import get_logger
from cloister.worker.answers import Answers
from cloister.worker.batches import Item, Outputs
from cloister.worker.counts import memory_bytes
from cloister.worker.engine import Engine
from cloister.worker.requests import Opened, Work, read
from cloister.worker.results import Answer, number_evaluations, respond
from cloister.worker.served import ServedModels
from cloister.worker.shares import Shares
from cloister.worker.slots import Slots
from cloister.worker.timings import Arrival, Evaluation, clock_s, rounded_us, told

FRAME_BYTES: Final = 4 << 20
"""Answers share a frame up to this size, so that a frame stays under the message limit; a larger one goes alone, and is
announced, since a gateway gives up a link on which it hears nothing for long."""
MAX_CALL_S: Final = 600.0
REPORT_S: Final = 2.0
"""How often a gateway is told what has been done in all, and that the worker is still there."""

_log = get_logger()


class _Ready(NamedTuple):
    """A call whose tensors fit its model."""

    call_id: int
    trace_id: bytes
    opened: Opened
    work: Work
    item: Item


class WorkerLink:
    """One gateway's calls.

    Args:
        answers: Opens requests and seals answers.
        served: What to announce.
        shares: How many calls of each model this link may have under way, among all links of the worker.
        order: Has an operator's order obeyed, and tells what came of it.
        tenants_apart: Whether requests of different tenants, or of different sealed sessions, share no evaluation.
        report_s: How often to report counters.
    """

    def __init__(
        self,
        answers: Answers,
        served: ServedModels,
        shares: Shares,
        *,
        order: Callable[[ModelOrder, Callable[[OrderResult], None]], None],
        tenants_apart: bool = False,
        report_s: float = REPORT_S,
    ) -> None:
        self._answers = answers
        self._served = served
        self._shares = shares
        self._slots: Slots
        self._order = order
        self._tenants_apart = tenants_apart
        self._report_s = report_s
        self._calls: dict[int, asyncio.Task[None] | None] = {}  # unanswered; with a task while that evaluates
        self._finished: deque[Answer] = deque()
        self._obeyed: list[OrderResult] = []
        self._wakeup = asyncio.Event()
        self._written = asyncio.Event()
        # What the gateway is to hear, and when to stop.
        self._slots_changed = self._models_changed = self._draining = self._report_due = False
        self._ended = False

    @property
    def _news(self) -> bool:
        """Whether there is something to say beside results."""
        changed = self._slots_changed or self._models_changed or self._draining
        return changed or self._report_due or bool(self._obeyed)

    def drain(self) -> None:
        """Ask the gateway to send nothing new; it ends the link when everything is answered."""
        self._draining = True
        self._wakeup.set()

    async def run(self, frames: AsyncIterable[GatewayFrame], write: Callable[[WorkerFrame], Awaitable[None]]) -> None:
        """Serve until the gateway ends its side and all its calls are answered.

        Args:
            frames: From the gateway.
            write: Sends one frame; called by one task only, since a write that is cancelled ends the stream.

        Raises:
            InvalidRequest: The gateway broke the contract.
        """
        with self._served.watching(self._note_models), self._shares.joined(self._note_slots) as share:
            self._slots = Slots(self._shares.slots, share)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(write), name="link writes")
                reporting = group.create_task(self._report(), name="link reports")
                async with asyncio.TaskGroup() as calls:
                    await self._read(frames, calls)
                reporting.cancel()
                self._ended = True
                self._wakeup.set()

    async def _read(self, frames: AsyncIterable[GatewayFrame], group: asyncio.TaskGroup) -> None:
        async for frame in frames:
            for call_id in frame.cancelled:
                self._cancel(call_id)
            for order in frame.orders:
                self._order(order, self._note_order)
            came_s, began_s = clock_s(), asyncio.get_running_loop().time()
            quick, slow = list[_Ready](), list[_Ready]()
            for call in frame.calls:
                ready = self._begin(call, began_s)
                if ready is not None:
                    (quick if ready.opened.model.engine.quick(ready.item) else slow).append(ready)
            arrival = Arrival(came_s, clock_s())
            for ready in slow:
                self._calls[ready.call_id] = group.create_task(self._evaluate(ready, arrival))
            self._evaluate_now(quick, arrival)
            # It sends far more than it was granted, and reads nothing.
            while len(self._finished) > 2 * self._slots.each * max(1, self._served.calls_per_slot):
                self._written.clear()
                await self._written.wait()

    def _begin(self, call: InferCall, began_s: float) -> _Ready | None:
        """Open and read one call; None where it is answered already."""
        call_id = call.call_id
        if call_id in self._calls:
            raise InvalidRequest("a gateway uses a call id twice", reason="link.broken")
        self._calls[call_id] = None
        opened: Opened | None = None
        try:
            if not call.timeout_ms:
                raise TimeoutError
            opened = self._answers.open(call.request, call.model_version)
            self._slots.take(call_id, opened.model.name, opened.model.engine.calls_per_slot)
            if opened.reply is not None:
                self._settle(Answer(call_id, opened))
                return None
            work = read(opened)
        except Exception as error:  # one call fails, not the link
            self._settle(_failed(call_id, opened, error, call.trace_id))
            return None
        party = opened.party(call.tenant) if self._tenants_apart else b""
        ends_at_s = began_s + min(call.timeout_ms / 1000, MAX_CALL_S)
        return _Ready(call_id, call.trace_id, opened, work, Item(work.inputs, work.outputs, party, ends_at_s))

    def _evaluate_now(self, quick: list[_Ready], arrival: Arrival) -> None:
        """Evaluate the quick calls of a frame, those of one engine together."""
        by_engine: dict[Engine, list[_Ready]] = {}
        for ready in quick:
            by_engine.setdefault(ready.opened.model.engine, []).append(ready)
        for engine, calls in by_engine.items():
            try:
                outcomes: list[Outputs | Exception] = [*engine.infer_now([ready.item for ready in calls])]
            except Exception as error:  # these calls fail, not the link
                outcomes = [error] * len(calls)
            self._settle_all(calls, outcomes, arrival)

    async def _evaluate(self, ready: _Ready, arrival: Arrival) -> None:
        outcome: Outputs | Exception
        try:
            async with asyncio.timeout_at(ready.item.ends_at_s):
                outcome = await ready.opened.model.engine.infer(ready.item)
        except Exception as error:  # one call fails, not the link
            outcome = error
        self._calls[ready.call_id] = None
        self._settle_all([ready], [outcome], arrival)

    def _settle_all(self, calls: list[_Ready], outcomes: list[Outputs | Exception], arrival: Arrival) -> None:
        """Encode what came out, and note how long it took: one timing for all that was evaluated together."""
        began_s = clock_s()
        most_bytes = self._answers.max_message_bytes
        answers = [_answer(ready, outcome, most_bytes) for ready, outcome in zip(calls, outcomes, strict=True)]
        encode_s, known = clock_s() - began_s, dict[Evaluation, EvaluationMessage]()
        for ready, answer in zip(calls, answers, strict=True):
            evaluation = ready.item.evaluation
            if evaluation is not None and evaluation.ended_s:
                answer.timing = known.get(evaluation)
                if answer.timing is None:
                    version = ready.opened.model.version
                    answer.timing = known[evaluation] = told(version, arrival, evaluation, encode_s)
            self._settle(answer)

    def _cancel(self, call_id: int) -> None:
        task = self._calls.get(call_id)
        if task is not None:
            task.cancel()
            self._calls[call_id] = None
            self._settle(Answer(call_id, error=asyncio.CancelledError()))

    def _settle(self, answer: Answer) -> None:
        self._finished.append(answer)
        self._wakeup.set()

    def _note_slots(self) -> None:
        self._slots_changed = True
        self._wakeup.set()

    def _note_models(self) -> None:
        self._models_changed = True
        self._wakeup.set()

    def _note_order(self, result: OrderResult) -> None:
        self._obeyed.append(result)
        self._wakeup.set()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._report_s)
            self._report_due = True
            self._wakeup.set()

    async def _write(self, write: Callable[[WorkerFrame], Awaitable[None]]) -> None:
        self._slots_changed = self._models_changed = False
        await write(WorkerFrame(models=self._served.states(), models_changed=True, slots=self._slots.granted))
        while not self._ended or self._finished:
            await self._wakeup.wait()
            self._wakeup.clear()
            while self._finished or self._news:
                if self._finished and (size := self._finished[0].size_bytes) > FRAME_BYTES:
                    await write(WorkerFrame(report=WorkerReport(next_frame_bytes=size)))
                await write(self._next_frame())
                self._written.set()

    def _next_frame(self) -> WorkerFrame:
        batch: list[Answer] = []
        size = 0
        while self._finished and (not batch or size + self._finished[0].size_bytes <= FRAME_BYTES):
            answer = self._finished.popleft()
            self._calls.pop(answer.call_id, None)
            self._slots.free(answer.call_id)
            batch.append(answer)
            size += answer.size_bytes
        frame = WorkerFrame()
        if batch:
            began_s = clock_s()
            frame.results.extend(self._answers.finish(batch))
            frame.report.seal_us = rounded_us(clock_s() - began_s)
            number_evaluations(frame, batch)
        if self._slots_changed:
            frame.slots = self._slots.granted
        if self._models_changed:
            frame.models_changed = True
            frame.models.extend(self._served.states())
        frame.order_results.extend(self._obeyed)
        self._obeyed.clear()
        if self._draining:
            frame.draining = True
        if self._report_due:
            counters = WorkerCounters(
                memory_bytes=memory_bytes(), under_way=len(self._calls), models=self._served.counters()
            )
            frame.report.counters.CopyFrom(counters)
        self._slots_changed = self._models_changed = self._draining = self._report_due = False
        return frame


def _answer(ready: _Ready, outcome: Outputs | Exception, most_bytes: int) -> Answer:
    if isinstance(outcome, Exception):
        return _failed(ready.call_id, ready.opened, outcome, ready.trace_id)
    try:
        return respond(ready.call_id, ready.opened, ready.work, outcome, most_bytes)
    except Exception as error:  # one call fails, not the link
        return _failed(ready.call_id, ready.opened, error, ready.trace_id)


def _failed(call_id: int, opened: Opened | None, error: Exception, trace_id: bytes) -> Answer:
    if not isinstance(error, CloisterError | TimeoutError):
        _log.error("call.broken", call=call_id, trace_id=trace_id[:16].hex(), exc_info=error)
    return Answer(call_id, opened, error=error)
