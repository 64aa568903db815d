"""The mesh as a network of queues: gateway processes, credits, a queue for the model in each, workers.

A request arrives at a gateway process, which is an event loop on one core. It goes to the worker with most free slots
of those granted to that process, or waits in the process's queue, or is refused when that is full. A worker takes all
that has gathered, up to a batch, and answers it together; or, of a quick model, a frame at a time, as the gateway paced
it. The answer passes the gateway process again and frees the slot there. With finite `cores` everybody takes turns on
them, the load included, as on one machine.

What it leaves out: a gateway's frames cost per call and not per frame, clients have no deadlines and do not try again,
slots are divided equally and do not follow the load, and nothing ever fails.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.load.turns import quantile
from benchmarks.scale.kernel import Kernel
from benchmarks.scale.outbox import Outbox
from benchmarks.scale.plan import Costs, Plan

Frame = list[tuple[int, float]]
"""Calls that go together: of which gateway process, and when each began."""
IN, OUT = 0.5, 0.5
"""How a gateway's work for a call is divided between its request and its answer."""
GLANCES = 8
"""Workers that are looked at by chance, before all are, for one without a call of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a simulation, counted after its warm-up.

    Attributes:
        arrived: Since the beginning, as are `answered`, `refused`, `under_way`, which add up to it.
        gateway_busy: Share of the time that gateway processes computed, on average; `worker_busy` likewise.
        gateway_s: What all gateway processes computed for an answer, in seconds; `worker_s` likewise.
        calls_per_frame: How many calls were evaluated together.
    """

    arrived: int
    answered: int
    refused: int
    under_way: int
    per_s: float
    p50_s: float
    p99_s: float
    gateway_busy: float
    worker_busy: float
    gateway_s: float
    worker_s: float
    calls_per_frame: float
    events: int


class Cores:
    """Processors that processes take turns on, first come first served."""

    def __init__(self, kernel: Kernel, count: float) -> None:
        self._kernel = kernel
        self._free = count
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def compute(self, seconds: float, done: Callable[[], None]) -> None:
        """Compute for so long, as soon as there is a processor."""
        if self._free >= 1:
            self._free -= 1
            self._kernel.after(seconds, self._finish, done)
        else:
            self._waiting.append((seconds, done))

    def _finish(self, done: Callable[[], None]) -> None:
        self._free += 1
        if self._waiting:
            seconds, following = self._waiting.popleft()
            self._free -= 1
            self._kernel.after(seconds, self._finish, following)
        done()


class Process:
    """An event loop: in each turn it does all that has come by then, and then what follows from it.

    Attributes:
        busy_s: How long it has computed.
    """

    def __init__(self, cores: Cores) -> None:
        self.busy_s = 0.0
        self._cores = cores
        self._work: deque[tuple[float, Callable[[], None]]] = deque()
        self._busy = False

    def do(self, seconds: float, then: Callable[[], None]) -> None:
        """Compute with all that waits as well when everything before is done, and go on with `then`."""
        self._work.append((seconds, then))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = True
        turn, self._work = self._work, deque()
        whole_s = sum(seconds for seconds, _ in turn)
        self.busy_s += whole_s

        def done() -> None:
            for _, then in turn:
                then()
            if self._work:
                self._next()
            else:
                self._busy = False

        self._cores.compute(whole_s, done)


class Simulation:
    """One mesh under one load.

    Args:
        costs: What things cost.
        plan: How much there is of what.
        seed: The same gives the same.
    """

    def __init__(self, costs: Costs, plan: Plan, seed: int) -> None:
        self._costs, self._plan = costs, plan
        self._chance = random.Random(seed)  # noqa: S311 - not a secret
        self._kernel = Kernel()
        cores = Cores(self._kernel, plan.cores)
        self._client = Process(cores)
        self._gateways = [Process(cores) for _ in range(plan.gateways)]
        self._queues: list[deque[float]] = [deque() for _ in range(plan.gateways)]
        self._used: list[dict[int, int]] = [{} for _ in range(plan.gateways)]
        self._gathered: list[Frame] = [[] for _ in range(plan.workers)]
        self._frames_at: list[deque[Frame]] = [deque() for _ in range(plan.workers)]
        self._outboxes: dict[tuple[int, int], Outbox] = {}
        self._evaluating = [0] * plan.workers
        self._cores = cores
        self._worker_busy_s = 0.0
        self._frames = self._framed = 0
        self._arrived = self._answered = self._refused = 0
        self._took_s: list[float] = []
        self._shape = 1 / costs.jitter**2 if costs.jitter else math.inf

    def run(self, seconds: float, warm_up_s: float) -> Outcome:
        """Simulate, and count what was answered after the warm-up."""
        if math.isinf(self._plan.per_s):
            for _ in range(self._plan.in_flight):
                self._arrive()
        else:
            self._kernel.after(self._pause_s(), self._come)
        self._kernel.run(warm_up_s)
        self._took_s.clear()
        self._frames = self._framed = 0
        before_s = self._computed_s()
        self._kernel.run(warm_up_s + seconds)
        gateways_s, workers_s = (after - before for after, before in zip(self._computed_s(), before_s, strict=True))
        answers = max(1, len(self._took_s))
        return Outcome(
            arrived=self._arrived,
            answered=self._answered,
            refused=self._refused,
            under_way=self._arrived - self._answered - self._refused,
            per_s=len(self._took_s) / seconds,
            p50_s=quantile(self._took_s, 0.50),
            p99_s=quantile(self._took_s, 0.99),
            gateway_busy=gateways_s / seconds / self._plan.gateways,
            worker_busy=workers_s / seconds / self._plan.workers / self._plan.streams,
            gateway_s=gateways_s / answers,
            worker_s=workers_s / answers,
            calls_per_frame=self._framed / max(1, self._frames),
            events=self._kernel.events,
        )

    def _computed_s(self) -> tuple[float, float]:
        """By gateway processes and by workers, so far."""
        return sum(gateway.busy_s for gateway in self._gateways), self._worker_busy_s

    def held(self) -> int:
        """Calls that are somewhere between the client and its answer, counted where they are."""
        return sum(map(len, self._queues)) + sum(sum(used.values()) for used in self._used)

    def _pause_s(self) -> float:
        return self._chance.expovariate(self._plan.per_s)

    def _drawn(self, seconds: float) -> float:
        if not seconds or math.isinf(self._shape):
            return seconds
        return self._chance.gammavariate(self._shape, seconds / self._shape)

    def _come(self) -> None:
        self._kernel.after(self._pause_s(), self._come)
        self._arrive()

    def _arrive(self) -> None:
        self._arrived += 1
        began_s, at = self._kernel.now_s, self._chance.randrange(self._plan.gateways)
        self._client.do(self._drawn(IN * self._costs.client_call_s), lambda: self._sent(at, began_s))

    def _sent(self, at: int, began_s: float) -> None:
        looked_at_s = self._costs.gateway_link_s * self._plan.workers
        work_s = self._drawn(IN * self._costs.gateway_call_s) + looked_at_s
        received = self._received
        self._kernel.after(self._costs.hop_s, self._gateways[at].do, work_s, lambda: received(at, began_s))

    def _received(self, at: int, began_s: float) -> None:
        worker = self._choice(at)
        if worker >= 0:
            self._send(at, worker, began_s)
        elif len(self._queues[at]) < self._plan.queue_limit:
            self._queues[at].append(began_s)
        else:
            self._refused += 1
            if math.isinf(self._plan.per_s):
                self._kernel.after(0.01, self._arrive)

    def _choice(self, at: int) -> int:
        """The worker with most free slots for a gateway process; -1 where it has none."""
        used, plan = self._used[at], self._plan
        if plan.tie == "random":
            for _ in range(GLANCES):
                worker = self._chance.randrange(plan.workers)
                if worker not in used:
                    return worker
        if len(used) < plan.workers:
            return next(worker for worker in range(plan.workers) if worker not in used)
        least = min(used.values())
        if least >= plan.share:
            return -1
        ties = [worker for worker, calls in used.items() if calls == least]
        return self._chance.choice(ties) if plan.tie == "random" else min(ties)

    def _send(self, at: int, worker: int, began_s: float) -> None:
        used = self._used[at]
        used[worker] = used.get(worker, 0) + 1
        if not self._plan.paced:
            self._kernel.after(self._costs.hop_s, self._gather, worker, (at, began_s))
            return
        outbox = self._outboxes.get((at, worker))
        if outbox is None:

            def leave(frame: Frame) -> None:
                self._kernel.after(self._costs.hop_s, self._take, worker, frame)

            outbox = self._outboxes[at, worker] = Outbox(self._kernel, leave)
        outbox.put((at, began_s), used[worker])

    def _gather(self, worker: int, call: tuple[int, float]) -> None:
        self._gathered[worker].append(call)
        self._evaluate(worker)

    def _take(self, worker: int, frame: Frame) -> None:
        self._frames_at[worker].append(frame)
        self._evaluate(worker)

    def _evaluate(self, worker: int) -> None:
        """What comes next, if there is something and the worker has room for it."""
        if self._evaluating[worker] >= self._plan.streams:
            return
        if self._frames_at[worker]:
            calls = self._frames_at[worker].popleft()
        else:
            calls = self._gathered[worker][: self._plan.batch]
            del self._gathered[worker][: len(calls)]
        if not calls:
            return
        self._frames += 1
        self._framed += len(calls)
        self._evaluating[worker] += 1
        seconds = self._drawn(self._costs.worker_frame_s + len(calls) * self._costs.worker_call_s)
        self._cores.compute(seconds, lambda: self._evaluated(worker, calls, seconds))

    def _evaluated(self, worker: int, calls: Frame, seconds: float) -> None:
        self._worker_busy_s += seconds
        self._evaluating[worker] -= 1
        for at, began_s in calls:
            self._kernel.after(self._costs.hop_s, self._answering, at, worker, began_s)
        if self._plan.paced:
            self._kernel.after(self._costs.hop_s, self._outboxes[calls[0][0], worker].answered, calls)
        self._evaluate(worker)

    def _answering(self, at: int, worker: int, began_s: float) -> None:
        work_s = self._drawn(OUT * self._costs.gateway_call_s)
        self._gateways[at].do(work_s, lambda: self._freed(at, worker, began_s))

    def _freed(self, at: int, worker: int, began_s: float) -> None:
        used = self._used[at]
        used[worker] -= 1
        if not used[worker]:
            del used[worker]
        if self._queues[at]:
            self._send(at, worker, self._queues[at].popleft())
        self._kernel.after(self._costs.hop_s, self._home, began_s)

    def _home(self, began_s: float) -> None:
        self._client.do(self._drawn(OUT * self._costs.client_call_s), lambda: self._answer(began_s))

    def _answer(self, began_s: float) -> None:
        self._answered += 1
        self._took_s.append(self._kernel.now_s - began_s)
        if math.isinf(self._plan.per_s):
            self._arrive()


def simulated(costs: Costs, plan: Plan, *, calls: int = 60_000, seed: int = 1) -> Outcome:
    """Simulate for about so many calls; a fifth of the time on top of that is warm-up."""
    seconds = calls / capacity_per_s(costs, plan) if math.isinf(plan.per_s) else calls / plan.per_s
    return Simulation(costs, plan, seed).run(seconds, seconds / 5)


def capacity_per_s(costs: Costs, plan: Plan) -> float:
    """What the plan could answer if nothing ever waited for anything else: the least of what each part can."""
    gateway_s = costs.gateway_call_s + costs.gateway_link_s * plan.workers
    batch = min(plan.batch, plan.slots * plan.calls_per_slot)
    worker_s = costs.worker_frame_s / batch + costs.worker_call_s
    whole_s = gateway_s + worker_s + costs.client_call_s
    shared = plan.cores / whole_s if whole_s else math.inf
    client = 1 / costs.client_call_s if costs.client_call_s else math.inf
    gateways = plan.gateways / gateway_s if gateway_s else math.inf
    return min(gateways, plan.workers * plan.streams / worker_s, shared, client)
