"""Where the time of a call went, from the gateway's clock and the plain numbers that the worker sent.

The two clocks are never compared: the gateway knows when a call left and when its result came, the worker how long it
was busy with it. What lies between is the wire's: frames, gRPC, TLS, and the worker's waiting to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from cloister.gateway.call import Call
from cloister.gateway.worker_times import WorkerTime

SERVER_TIMING: Final = "server-timing"
"""Metadata of a call: `1` asks for a breakdown, which the trailing metadata of its answer have under the same name."""
TIMING_PARAMETER: Final = b"cloister-timing"
"""On a stream each answer has it as a parameter."""
SOURCE: Final = "the gateway's word, not authenticated"


class Phases(NamedTuple):
    """The seconds of one call; they add up to its time in the gateway.

    Attributes:
        queue: In the gateway, until it left for the worker that answered.
        wire: On the way there and back.
        open: See `WorkerTime`, as are the next three.
        wait: See `open`.
        compute: See `open`.
        serialise: See `open`.
        deliver: From its result until it went to the client; on a stream, behind earlier answers.
    """

    queue: float
    wire: float
    open: float
    wait: float
    compute: float
    serialise: float
    deliver: float


_NOTHING: Final = WorkerTime("", 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)


def asks_for_timing(metadata: Sequence[tuple[str, str | bytes]]) -> bool:
    """Whether a call wants to hear where its time went."""
    return (SERVER_TIMING, "1") in metadata


def phases(call: Call, ended_s: float) -> Phases:
    """Divide the time of a call that a worker answered."""
    _, _, _, open_s, wait_s, compute_s, serialise_s, busy_s = call.worker_time or _NOTHING
    left_s, back_s = call.left_s, call.back_s
    wire_s = max(0.0, back_s - left_s - busy_s)
    return Phases(left_s - call.began_s, wire_s, open_s, wait_s, compute_s, serialise_s, ended_s - back_s)


def server_timing(call: Call, ended_s: float) -> str:
    """The value of a Server-Timing header (https://www.w3.org/TR/server-timing/), in milliseconds."""
    parts = [f"{name};dur={seconds * 1000:.3f}" for name, seconds in _shown(call, ended_s)]
    worker = call.worker_time
    if worker is not None:
        parts.append(f'batch;desc="requests={worker.requests} rows={worker.rows}"')
    return ", ".join([*parts, f'total;dur={(ended_s - call.began_s) * 1000:.3f};desc="{SOURCE}"'])


def _shown(call: Call, ended_s: float) -> Iterable[tuple[str, float]]:
    if not call.back_s:  # no worker answered it
        return ()
    told = zip(Phases._fields, phases(call, ended_s), strict=True)
    return told if call.worker_time is not None else [(name, each) for name, each in told if name in _OURS]


_OURS: Final = ("queue", "wire", "deliver")
