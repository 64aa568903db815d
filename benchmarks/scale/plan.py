"""What is simulated: what things cost, and how much there is of what."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of one network, asked for in one way; CPU seconds of one core.

    Attributes:
        gateway_call_s: Of a gateway process for a call, from its request to its answer, but for choosing a worker.
        gateway_link_s: For each link that it looks at while it chooses a worker.
        worker_frame_s: Of a worker for whatever gathered and is evaluated together, however much it is.
        worker_call_s: Of a worker for each call in it.
        client_call_s: Of a load that shares the machine.
        hop_s: Time that a message takes from one process to another, that nobody computes in.
        jitter: Coefficient of variation of all that is computed: 0 for always the same, 1 for exponential.
    """

    gateway_call_s: float
    gateway_link_s: float = 0.0
    worker_frame_s: float
    worker_call_s: float
    client_call_s: float = 0.0
    hop_s: float = 0.0
    jitter: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A mesh and its load.

    Attributes:
        per_s: Requests a second, a Poisson process; infinite for a closed loop of `in_flight`.
        in_flight: Of a closed loop.
        gateways: Gateway processes; each request comes to one by chance.
        workers: How many.
        slots: Of each worker, divided equally among the gateway processes, one at least.
        calls_per_slot: Calls that a slot holds; several of a quick model.
        paced: Calls leave a gateway in frames that wait for company, and each is evaluated as it is, as those of a
            quick model (`gateway/pace.py`); else each leaves at once, and a worker takes together what has gathered.
        streams: How many frames a worker evaluates at once.
        batch: Most calls that a worker takes together, where they are not paced.
        cores: That all share, the load too; infinite for one of its own for each.
        queue_limit: Most calls that wait in a gateway process; more are refused.
        tie: Which of workers with equally many free slots: `first` of all, or any, by `random`.
    """

    per_s: float = inf
    in_flight: int = 0
    gateways: int = 1
    workers: int = 1
    slots: int = 16
    calls_per_slot: int = 1
    paced: bool = False
    streams: int = 1
    batch: int = 32
    cores: float = inf
    queue_limit: int = 256
    tie: str = "random"

    @property
    def share(self) -> int:
        """Calls that one worker takes of one gateway process."""
        return max(1, self.slots // self.gateways) * self.calls_per_slot
