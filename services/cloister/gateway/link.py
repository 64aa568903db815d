"""The link to one worker: one long-lived stream, frames of many calls, slots counted exactly.

The worker grants slots with its first frame, so many for each model: a slow model that fills its own leaves a quick one
on the same worker all of its. A call takes one when it is handed to `send` and gives it back with its result: also a
cancelled call, whose result nobody reads, because until then the worker is busy with it. The counts of gateway and
worker therefore agree at every frame, and a worker that answers what it was not asked is cut off.
One task writes and one reads: a handler that is cancelled while it writes would take the whole stream with it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from google.protobuf.message import DecodeError
from grpc.aio import EOF

from cloister.api.v1.worker_pb2 import InferResult, ModelOrder, ModelState, WorkerCounters, WorkerFrame
from cloister.errors import CloisterError, InvalidRequest, NotFound, Unavailable
from cloister.gateway.call import Call
from cloister.gateway.catalogue import MAX_MODELS, Models, calls_per_slot, quick_models, read_models
from cloister.gateway.frame_stream import FrameStream
from cloister.gateway.orders import Orders
from cloister.gateway.pace import Pace
from cloister.gateway.silence import Silence
from cloister.gateway.wire import encode_call, encode_cancelled
from cloister.gateway.worker_times import WorkerTime, worker_times
from cloister.rpc.status import from_failure

MAX_SLOTS = 4096
FRAME_BYTES = 4 << 20
"""Calls share a frame up to this size, so that a frame stays under the message limit; a larger one goes alone."""
EXPIRY_STEP_S = 0.1
GOODBYE_S = 2.0
"""How long a drained worker may take to close its half."""
OVERDUE_S = 60.0
"""A result this long after its call's deadline means that the worker hangs; its link is given up."""
NO_SUCH_MODEL = "no such model"
"""One text for a model that does not exist, is not served, or is not the caller's to use."""


class LinkOwner(Protocol):
    """Who hands calls to links, and wants to know when there is room."""

    def changed(self, link: Link) -> None:
        """What it serves, or whether it takes calls at all, has changed."""

    def freed(self, link: Link) -> None:
        """Results came, so slots are free."""

    def released(self, call: Call, answer: bytes | None) -> None:
        """A call has given its slot back: with an answer, which may be one that nobody waits for, or without."""


class Link:
    """Calls to one worker, and their results.

    Attributes:
        instance: The worker's instance.
        models: What it serves.
        missing: What it should serve and does not.
        slots: How many each model has; 0 until its first frame. A worker divides its slots among its links anew as they
            are used; what was sent into slots that are gone stays under way.
        draining: It finishes what it has and takes nothing new.
        counters: As it reported them last; None while it has not.
    """

    def __init__(self, instance: str, owner: LinkOwner) -> None:
        self.instance = instance
        self.models: Models = {}
        self.missing: Sequence[ModelState] = ()
        self.slots = 0
        self.draining = False
        self.counters: WorkerCounters | None = None
        self._owner = owner
        self._calls: dict[int, Call] = {}
        self._used: Counter[str] = Counter()
        self._outbox: deque[Call] = deque()
        self._cancelled: list[int] = []
        self._orders = Orders()
        self._last_id = self._last_sent = 0
        self._wakeup = asyncio.Event()
        self._pace = Pace()
        self._quick: frozenset[str] = frozenset()
        self._per_slot: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        self._silence = Silence(self._loop.time())

    @property
    def granted(self) -> int:
        """Calls of all its models that it takes at once."""
        return self.slots * max(1, sum(self._per_slot.values()))

    def room(self, model_name: str) -> int:
        """Calls of a model that it takes at once, those under way included: one for each slot, or several."""
        return self.slots * self._per_slot.get(model_name, 1)

    def free(self, model_name: str) -> int:
        """How many more it takes of a model; 0 while draining, below where the worker has taken slots back."""
        return 0 if self.draining else self.room(model_name) - self._used[model_name]

    @property
    def used(self) -> int:
        """Calls under way, cancelled ones included."""
        return len(self._calls)

    def send(self, call: Call) -> None:
        """Take a slot for a call; it leaves with the next frame. Only while its model has one free."""
        self._last_id += 1
        call.instance, call.call_id, call.sent = self.instance, self._last_id, True
        self._calls[self._last_id] = call
        self._used[call.route.model_name] += 1
        self._outbox.append(call)
        self._wakeup.set()

    def cancel(self, call: Call) -> None:
        """Nobody waits for this call. Unsent, it gives its slot back; else the worker is told, and its result does."""
        if self._calls.get(call.call_id) is not call:
            return  # answered, or of an earlier link to the same worker
        if call.call_id > self._last_sent:
            self._outbox.remove(call)
            self._forget(call)
            self._owner.freed(self)
        else:
            self._cancelled.append(call.call_id)
            self._wakeup.set()

    async def order(self, kind: ModelOrder.Kind, name: str, version: str) -> None:
        """Have the worker load or unload a model, and wait until it has; raises what it answers."""
        answer = self._orders.add(kind, name, version)
        self._wakeup.set()
        await answer

    def drain(self) -> None:
        """Send nothing new; `run` ends when everything is answered."""
        self.draining = True
        self._owner.changed(self)
        self._wakeup.set()

    def expire(self, now_s: float) -> None:
        """Answer calls whose deadline has passed, and tell the worker.

        Raises:
            Unavailable: The first frame, a report, or a result is so long overdue that the worker must be hanging, or
                cannot be reached.
        """
        self._silence.look(now_s)
        for call in list(self._calls.values()):
            if call.deadline_s + OVERDUE_S <= now_s:
                raise Unavailable("a worker hangs", reason="link.overdue")
            if call.deadline_s <= now_s and not call.answer.done():
                call.expire()
                self.cancel(call)

    def take_unsent(self) -> list[Call]:
        """Give back the calls that have not left yet, oldest first, with their slots."""
        calls = list(self._outbox)
        self._outbox.clear()
        for call in calls:
            self._forget(call)
        return calls

    def take_unanswered(self) -> list[Call]:
        """Give back, when the link is gone, every call without an answer, oldest first."""
        calls = [call for call in self._calls.values() if not call.answer.done()]
        for call in list(self._calls.values()):
            self._forget(call)
        self._outbox.clear()
        self._orders.fail()
        return calls

    async def run(self, stream: FrameStream) -> None:
        """Carry calls and results until the worker ends the stream, or, when draining, until nothing is under way.

        Raises:
            ExceptionGroup: Of `CloisterError`: the stream broke, or the worker broke the contract.
        """
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(stream))
            watcher = group.create_task(self._watch())
            await self._write(stream)
            await stream.done_writing()
            watcher.cancel()
            await asyncio.wait([reader], timeout=GOODBYE_S)
            reader.cancel()

    async def _read(self, stream: FrameStream) -> None:
        while (raw := await stream.read()) is not EOF:
            try:
                frame = WorkerFrame.FromString(raw)
            except DecodeError:
                raise _broken("a worker's frame does not parse") from None
            self._receive(frame)
        if not self.draining or self._calls:
            raise Unavailable("the worker closed the link", reason="link.closed")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_STEP_S)
            self._pace.measure(self._last_id)
            self.expire(self._loop.time())

    async def _write(self, stream: FrameStream) -> None:
        """Write one frame with all that is ready, and again; return when draining is done."""
        while not self.draining or self._calls:
            await self._wakeup.wait()
            await self._pace.gather(self._outbox, len(self._calls))
            self._wakeup.clear()
            if self._outbox or self._cancelled or self._orders:
                await stream.write(self._next_frame())
            if self._outbox:
                self._wakeup.set()

    def _next_frame(self) -> bytes:
        now_s, left_s, size = self._loop.time(), time.perf_counter(), 0
        earlier_id, quick = self._last_sent, False
        parts = [self._orders.take(), *encode_cancelled(self._cancelled)]
        self._cancelled.clear()
        while self._outbox and (not size or size + len(self._outbox[0].request) <= FRAME_BYTES):
            call = self._outbox.popleft()
            self._last_sent, call.left_s = call.call_id, left_s
            timeout_ms = max(1, int((call.deadline_s - now_s) * 1000))
            trace_id = call.trace.trace_id if call.trace is not None else ""
            parts += encode_call(call.call_id, call.request, timeout_ms, call.tenant, call.model_version, trace_id)
            size += len(call.request) + 1
            quick = quick or call.route.model_name in self._quick
        if self._last_sent != earlier_id:  # else nothing that the worker would evaluate
            self._pace.sent(earlier_id, quick=quick)
        return b"".join(parts)

    def _receive(self, frame: WorkerFrame) -> None:
        first = not self.slots
        self._silence.end(frame.report.next_frame_bytes)
        if frame.slots:
            self._grant(frame.slots)
        if not self.slots:
            raise _broken("a worker's first frame grants no slots")
        if frame.models_changed:
            self.models, self.missing = read_models(frame.models)
            self._quick, self._per_slot = quick_models(self.models), calls_per_slot(self.models)
        self.draining |= frame.draining
        times = self._heard(frame) if frame.HasField("report") else ()
        self._settle(frame.results, times)
        self._orders.settle(frame.order_results)
        if first or frame.models_changed or frame.draining:
            self._owner.changed(self)
        if frame.results or (frame.slots and not first):
            self._owner.freed(self)
        if self.draining:
            self._wakeup.set()

    def _forget(self, call: Call, answer: bytes | None = None) -> None:
        """Give a call's slot back."""
        del self._calls[call.call_id]
        self._used[call.route.model_name] -= 1
        self._owner.released(call, answer)

    def _grant(self, slots: int) -> None:
        if slots > MAX_SLOTS:
            raise _broken("a worker has too many slots")
        self.slots = slots

    def _heard(self, frame: WorkerFrame) -> Sequence[WorkerTime]:
        report = frame.report
        if report.HasField("counters"):
            self.counters = report.counters
        if len(report.counters.models) > MAX_MODELS or len(report.evaluations) > len(frame.results):
            raise _broken("a worker reports more than it can have done")
        return worker_times(report)

    def _settle(self, results: Sequence[InferResult], times: Sequence[WorkerTime]) -> None:
        back_s, known = time.perf_counter(), len(times)
        for result in results:
            call, outcome = self._calls.get(result.call_id), result.WhichOneof("outcome")
            if call is None or outcome is None or result.call_id > self._last_sent:
                raise _broken("a worker answers what it was not asked")
            self._forget(call, result.response if outcome == "response" else None)
            self._pace.answered(result.call_id)
            if call.answer.done():
                continue
            call.back_s, number = back_s, result.evaluation
            if 0 < number <= known:
                call.worker_time = times[number - 1]
            if outcome == "response":
                call.answer.set_result(result.response)
            else:
                call.fail(_failure(result))


def _failure(result: InferResult) -> CloisterError | TimeoutError:
    error = from_failure(result.failure)
    return NotFound(NO_SUCH_MODEL) if isinstance(error, NotFound) else error


def _broken(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason="link.broken")
