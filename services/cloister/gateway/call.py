"""One request on its way through the gateway, from admission to its only answer."""

from __future__ import annotations

import asyncio
import time

from cloister.gateway.wire import Route
from cloister.gateway.worker_times import WorkerTime
from cloister.kit.traces import TraceContext


class Call:
    """A request, where it may go, and the future that gets its answer.

    Attributes:
        request: The client's own bytes, never changed.
        route: What was read of them.
        tenant: Who is asking, by the tenants file; who is not in it, by the SPIFFE id of the verified certificate.
        deadline_s: When nobody waits any longer, on the event loop's clock.
        answer: A serialised `ModelInferResponse`, or the error; cancelled when the client has gone.
        instance: The worker that has it now; empty while it waits.
        call_id: Its number on that worker's link.
        model_version: What its label, or no version at all, stands for; empty where it names one itself.
        tried: Workers whose link died under it; each is tried once.
        sent: Some worker was given it.
        once: No second worker gets it where the first was lost with it: a job's attempts are counted by its runner.
        handed_s: When it took the slot that it has, on the event loop's clock.
        expected_s: When it was expected to be answered, on the event loop's clock; 0 unless it had to wait.
        held_bytes: What it counts of its tenant's memory.
        share: Turns that its tenant has in each round of a queue.
        trace: Which trace it belongs to, if any.
        began_s: When it came, on the clock of `time.perf_counter`, as are the next three.
        left_s: When it left for the worker that has it; 0 until then.
        back_s: When its result came; 0 until then.
        ended_s: When it was seen out; 0 until then.
        worker_time: What the worker says of its part, if it was evaluated.
    """

    __slots__ = (
        "answer",
        "back_s",
        "began_s",
        "call_id",
        "deadline_s",
        "ended_s",
        "expected_s",
        "handed_s",
        "held_bytes",
        "instance",
        "left_s",
        "model_version",
        "once",
        "request",
        "route",
        "sent",
        "share",
        "tenant",
        "trace",
        "tried",
        "worker_time",
    )

    def __init__(
        self, request: bytes, route: Route, tenant: str, timeout_s: float, trace: TraceContext | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.route = route
        self.tenant = tenant
        self.deadline_s = loop.time() + timeout_s
        self.answer: asyncio.Future[bytes] = loop.create_future()
        self.instance = ""
        self.call_id = 0
        self.model_version = ""
        self.tried: tuple[str, ...] = ()
        self.sent = self.once = False
        self.trace = trace
        self.handed_s = self.expected_s = 0.0
        self.held_bytes = len(request)
        self.share = 1
        self.began_s = time.perf_counter()
        self.left_s = self.back_s = self.ended_s = 0.0
        self.worker_time: WorkerTime | None = None

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless there is an answer already."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # asyncio complains of errors that nobody looks at, as after a lost client

    def expire(self) -> None:
        """Answer that the deadline has passed."""
        self.fail(TimeoutError("the deadline passed before an answer"))
