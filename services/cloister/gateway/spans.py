"""The spans of a request, made when it has ended from what was measured on its way.

The gateway makes them all, those of the worker's part too: an enclave has no exporter, and what it knows is in the
plain numbers that it sent. It knows durations and no time of day, so its spans are placed in the middle of the time
that the call was away, and say so. Names and attributes follow the semantic conventions for RPC where they have a word
(https://opentelemetry.io/docs/specs/semconv/rpc/). Never a tensor, an id that a client chose, or, unless the operator
wants it, who asked.
"""

from __future__ import annotations

import random
import secrets
import time
from itertools import accumulate, pairwise
from typing import Final

from cloister.gateway.call import Call
from cloister.gateway.timing import phases
from cloister.kit.otlp import Attributes, SpanRecorder
from cloister.kit.traces import TraceContext

SERVICE: Final = "inference.GRPCInferenceService"
LINK: Final = "cloister.api.v1.Worker/Link"
PLACED: Final = "durations by the worker, placed by the gateway"
_WORKER_PHASES: Final = ("open", "wait", "compute", "serialise")


class RequestSpans:
    """Decides which requests are traced, and records them.

    Args:
        recorder: Sends what is recorded.
        ratio: Of the requests whose caller says nothing of a trace; the others are recorded if their caller's are.
        tenants: Whether spans name the client.
    """

    def __init__(self, recorder: SpanRecorder, *, ratio: float, tenants: bool) -> None:
        self._recorder = recorder
        self._ratio = ratio
        self._tenants = tenants

    def new_trace(self) -> TraceContext | None:
        """A trace for a request that belongs to none, or None where it is not picked."""
        if random.random() >= self._ratio:  # noqa: S311 - not a secret
            return None
        return TraceContext(secrets.token_hex(16), "", sampled=True)

    def request_ended(self, outcome: str, call: Call | None) -> None:
        """Record a request that is traced."""
        if call is None or call.trace is None or not call.trace.sampled:
            return
        epoch_ns = time.time_ns() - int(time.perf_counter() * 1e9)

        def ns(at_s: float) -> int:
            return epoch_ns + int(at_s * 1e9)

        name = f"infer {call.route.model_name}" if call.sent else "infer"
        error = "" if outcome == "answered" else outcome
        began_ns, ended_ns = ns(call.began_s), ns(call.ended_s)
        root = self._recorder.root(call.trace, name, began_ns, ended_ns, self._attributes(call), error=error)
        if not call.back_s:
            return
        self._recorder.child(root, "queue", began_ns, ns(call.left_s))
        link = self._recorder.child(root, LINK, ns(call.left_s), ns(call.back_s), _link_attributes(call))
        self._recorder.child(root, "deliver", ns(call.back_s), ended_ns)
        if call.worker_time is not None:
            told = phases(call, call.ended_s)
            starts_s = accumulate(
                (told.open, told.wait, told.compute, told.serialise), initial=call.left_s + told.wire / 2
            )
            for phase, (start_s, end_s) in zip(_WORKER_PHASES, pairwise(starts_s), strict=True):
                self._recorder.child(link, phase, ns(start_s), ns(end_s))

    def _attributes(self, call: Call) -> Attributes:
        worker = call.worker_time
        said: dict[str, str | int | bool] = {
            "rpc.system": "grpc",
            "rpc.service": SERVICE,
            "cloister.request.sealed": call.route.sealed,
            "cloister.request.bytes": len(call.request),
        }
        if call.sent:
            said["cloister.model.name"] = call.route.model_name
        if worker is not None:
            said["cloister.model.version"] = worker.model_version
        if self._tenants:
            said["cloister.tenant"] = call.tenant
        return said


def _link_attributes(call: Call) -> Attributes:
    said: dict[str, str | int] = {"rpc.system": "grpc", "cloister.worker": call.instance, "cloister.timing": PLACED}
    if call.worker_time is not None:
        said["cloister.batch.requests"] = call.worker_time.requests
        said["cloister.batch.rows"] = call.worker_time.rows
    return said
