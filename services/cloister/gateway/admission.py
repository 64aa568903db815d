"""From a client's bytes to a call, and its end: routing fields, the tenant's share, the deadline, the counts."""

from __future__ import annotations

import time
from collections.abc import Callable

from cloister.errors import CloisterError
from cloister.gateway.call import Call
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.tenants import Tenants
from cloister.gateway.wire import read_request
from cloister.kit.traces import TraceContext

Observe = Callable[[str, Call | None], None]
"""Told of each request that ended: its outcome, and the call, unless it never became one."""


class Admission:
    """Lets calls in, and sees each of them out once.

    Attributes:
        requests: How many calls were asked for.
        failures: How many of them got an error, or lost their client.
    """

    def __init__(self, dispatcher: Dispatcher, tenants: Tenants, observe: Observe) -> None:
        self.requests = 0
        self.failures = 0
        self._dispatcher = dispatcher
        self._tenants = tenants
        self._observe = observe

    def begin(self, request: bytes, tenant: str, timeout_s: float, trace: TraceContext | None = None) -> Call:
        """Let a request in and send it on its way; `end` must follow.

        Args:
            request: A serialised `ModelInferRequest`.
            tenant: SPIFFE id of the client.
            timeout_s: What is left of its deadline.
            trace: Which trace it belongs to, if any.

        Raises:
            InvalidRequest: As `read_request`; or its tensors do not fit the model.
            Overloaded: The tenant, or the model's queue, has no room.
            NotFound, Unavailable: As `Dispatcher.submit`.
            TimeoutError: Nothing is left of the deadline.
        """
        self.requests += 1
        try:
            if timeout_s <= 0:
                raise TimeoutError("the deadline passed before the request was read")
            route, tensors = read_request(request)
            self._dispatcher.check(route, tensors)
            call = Call(request, route, tenant, timeout_s, trace)
            self._tenants.enter(tenant, len(request))
        except (CloisterError, TimeoutError) as error:
            self.failures += 1
            self._observe(type(error).__name__, None)
            raise
        try:
            self._dispatcher.submit(call)
        except CloisterError as error:
            call.fail(error)
            self.end(call)
            raise
        return call

    def end(self, call: Call) -> None:
        """See a call out: answered, or nobody waits for its answer any more."""
        self._tenants.leave(call.tenant, len(call.request))
        if not call.answer.done():
            call.answer.cancel()
        outcome = "answered"
        if call.answer.cancelled():
            self._dispatcher.withdraw(call)
            outcome = "cancelled"
        elif (error := call.answer.exception()) is not None:
            outcome = type(error).__name__
        self.failures += outcome != "answered"
        call.ended_s = time.perf_counter()
        self._observe(outcome, call)
