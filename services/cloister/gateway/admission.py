"""From a client's bytes to a call, and its end: routing fields, the tenant's share, the deadline, the counts.

Checks come in the order of their cost, and all of them before anything is done for a request. What is refused for want
of room is `Overloaded`, with the time at which it is worth coming again; `TimeoutError` is only for a deadline that has
passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cloister.errors import CloisterError, Overloaded
from cloister.gateway.call import Call
from cloister.gateway.directory import Directory
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.lanes import UNMEASURED_S, Lane, jittered
from cloister.gateway.refusals import Refusals
from cloister.gateway.tenant_counts import TenantCounts
from cloister.gateway.tenants import Tenants
from cloister.gateway.wire import Route, Tensors, read_request
from cloister.kit.traces import TraceContext

Observe = Callable[[str, Call | None], None]
"""Told of each request that ended: its outcome, and the call, unless it never became one."""


class Admission:
    """Lets calls in, and sees each of them out once.

    Args:
        dispatcher: Finds workers for them.
        tenants: Counts what each tenant has under way.
        observe: Told of each request that ended.
        directory: As the attribute; left out, every identity is a tenant of its own, as without a tenants file.

    Attributes:
        directory: Whose tenant each identity is, and so which models exist for it.
        requests: How many calls were asked for.
        failures: How many of them got an error, or lost their client.
        refusals: How many of those for want of room or time.
        counts: How many of each tenant's ended well, and how many did not.
    """

    def __init__(
        self, dispatcher: Dispatcher, tenants: Tenants, observe: Observe, directory: Directory | None = None
    ) -> None:
        self.directory = directory if directory is not None else Directory()
        self.requests = 0
        self.failures = 0
        self.refusals = Refusals()
        self.counts = TenantCounts()
        self._dispatcher = dispatcher
        self._tenants = tenants
        self._observe = observe
        self._loop = asyncio.get_running_loop()

    def begin(self, request: bytes, identity: str, timeout_s: float, trace: TraceContext | None = None) -> Call:
        """Let a request in and send it on its way; `end` must follow.

        Args:
            request: A serialised `ModelInferRequest`.
            identity: Whose it is (`PeerIdentity.spiffe_id`).
            timeout_s: What is left of its deadline.
            trace: Which trace it belongs to, if any.

        Raises:
            Unauthenticated: As `Directory.of`.
            InvalidRequest: As `read_request`; or its tensors do not fit the model.
            Overloaded: As `Tenants.enter` and `Dispatcher.submit`.
            NotFound, Unavailable: As `Dispatcher.submit`; of a model that the tenant may not see, as of none.
            TimeoutError: Nothing is left of the deadline.
        """
        tenant = self.directory.of(identity)
        self.requests += 1
        lane: Lane | None = None
        try:
            if timeout_s <= 0:
                raise TimeoutError("the deadline passed before the request was read")
            route, tensors = read_request(request)
            route = tenant.seen_route(route)
            lane = self._dispatcher.lanes.get(route.model_name)
            call = self._entered(request, route, tensors, lane, tenant.name, timeout_s, trace)
        except (CloisterError, TimeoutError) as error:
            self._refuse(error, tenant.name, lane, route.model_name if lane is not None else "")
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
        self._tenants.leave(call.tenant, call.held_bytes)
        if not call.answer.done():
            call.answer.cancel()
        outcome = "answered"
        if call.answer.cancelled():
            self._dispatcher.withdraw(call)
            outcome = "cancelled"
        elif (error := call.answer.exception()) is not None:
            outcome = type(error).__name__
            if not call.sent and isinstance(error, (CloisterError, TimeoutError)):
                served = call.route.model_name in self._dispatcher.lanes
                self.refusals.note(error, call.tenant, call.route.model_name if served else "")
        self.failures += outcome != "answered"
        self.counts.ended(call.tenant, answered=outcome == "answered")
        call.ended_s = time.perf_counter()
        self._observe(outcome, call)

    def _entered(
        self,
        request: bytes,
        route: Route,
        tensors: Tensors,
        lane: Lane | None,
        tenant: str,
        timeout_s: float,
        trace: TraceContext | None,
    ) -> Call:
        """Count a call for its tenant, with the size of the answer that it may come to hold."""
        held_bytes = len(request) + (int(lane.answer_ratio * len(request)) if lane is not None else 0)
        self._tenants.enter(tenant, held_bytes, self._loop.time())
        try:
            self._dispatcher.check(route, tensors)
        except CloisterError:
            self._tenants.leave(tenant, held_bytes)
            raise
        call = Call(request, route, tenant, timeout_s, trace)
        call.held_bytes, call.share = held_bytes, self._tenants.share(tenant)
        return call

    def _refuse(self, error: CloisterError | TimeoutError, tenant: str, lane: Lane | None, model: str) -> None:
        """Count a request that did not get in, and say when to come again where nobody has."""
        if isinstance(error, Overloaded) and not error.retry_after_s:
            error.retry_after_s = lane.retry_after_s() if lane is not None else jittered(UNMEASURED_S)
        self.failures += 1
        self.counts.ended(tenant, answered=False)
        self.refusals.note(error, tenant, model)
        self._observe(type(error).__name__, None)
