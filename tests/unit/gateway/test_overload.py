"""Five times more than the workers can do, in a time that the test moves on: no work for nothing, and no collapse."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cloister.errors import Overloaded
from cloister.gateway import pace
from cloister.gateway.admission import Admission
from cloister.gateway.call import Call
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.limits import Limits, ModelLimits, TenantLimits
from cloister.gateway.link import Link
from cloister.gateway.tenants import Tenants
from fakes.gateway_parts import A, WorkerEnd, infer_request, unknown

SLOTS = 4
TICK_S = 0.1
"""What every call costs the worker."""
DEADLINE_S = 1.0


class Rush:
    """A gateway and one worker that answers all that it has at each tick; counts what became of everything.

    Attributes:
        worked: Calls that the worker computed.
        refused: By tenant and reason.
        answered: By tenant, within their deadline.
        late: By tenant, those whose deadline passed.
    """

    def __init__(self, link: Link, worker: WorkerEnd, admission: Admission, clock: list[float]) -> None:
        self.worked = 0
        self.refused: Counter[tuple[str, str]] = Counter()
        self.answered: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self._link, self._worker, self._admission, self._clock = link, worker, admission, clock
        self._calls: list[Call] = []
        self._at_worker: list[int] = []

    def ask(self, count: int, tenant: str = "ann") -> None:
        for _ in range(count):
            try:
                self._calls.append(self._admission.begin(infer_request(), tenant, DEADLINE_S))
            except Overloaded as error:
                self.refused[tenant, error.reason] += 1

    async def tick(self) -> None:
        """Time passes; the worker answers what it had and gets what was sent meanwhile."""
        if self._link.used:
            self._at_worker += [call.call_id for call in (await self._worker.frame()).calls]
        self._clock[0] += TICK_S
        done, self._at_worker = self._at_worker, []
        self.worked += len(done)
        for call_id in done:
            self._worker.answer(call_id)
        await self._worker.heard()
        self._link.expire(self._clock[0])
        ended = [call for call in self._calls if call.answer.done()]
        self._calls = [call for call in self._calls if not call.answer.done()]
        for call in ended:
            self.answered[call.tenant] += call.answer.exception() is None
            self.late[call.tenant] += isinstance(call.answer.exception(), TimeoutError)
            self._admission.end(call)


@pytest.fixture(autouse=True)
def _frames_do_not_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "STEPS", 0)  # a frame that waits for company would wait for the next tick


@asynccontextmanager
async def rush() -> AsyncIterator[Rush]:
    loop, clock = asyncio.get_running_loop(), [1000.0]
    loop.time = lambda: clock[0]  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        dispatcher = Dispatcher(Limits(ModelLimits(queue=256)), unknown)
        tenants = Tenants(Limits(TenantLimits(calls=1000)), 1 << 30)
        admission = Admission(dispatcher, tenants, lambda *_: None)
        worker, link = WorkerEnd(), Link(A, dispatcher)
        dispatcher.attach(link)
        linked = group.create_task(link.run(worker))
        worker.hello(SLOTS)
        await worker.heard()
        yield Rush(link, worker, admission, clock)
        linked.cancel()


async def test_five_times_as_much_is_answered_at_the_peak_and_nothing_is_computed_in_vain() -> None:
    async with rush() as made:
        for _ in range(30):  # it learns how long calls take, and by how much that varies
            made.ask(5 * SLOTS)
            await made.tick()
        worked, answered, late = made.worked, made.answered.total(), made.late.total()
        refused = made.refused.total()
        for _ in range(50):
            made.ask(5 * SLOTS)
            await made.tick()
        assert made.answered.total() - answered == made.worked - worked == 50 * SLOTS
        assert made.refused.total() - refused >= 50 * 4 * SLOTS - SLOTS
        assert made.late.total() == late
        assert late <= 2 * SLOTS


async def test_after_a_rush_everything_is_answered_as_soon_as_what_waits_has_gone() -> None:
    async with rush() as made:
        for _ in range(30):
            made.ask(5 * SLOTS)
            await made.tick()
        for _ in range(round(DEADLINE_S / TICK_S)):
            await made.tick()
        answered, refused = made.answered.total(), made.refused.total()
        for _ in range(10):
            made.ask(SLOTS)
            await made.tick()
        assert (made.answered.total() - answered, made.refused.total()) == (10 * SLOTS, refused)


@pytest.mark.attack("I11")
async def test_a_rush_of_one_tenant_takes_nothing_from_another_within_its_part() -> None:
    async with rush() as made:
        for step in range(60):
            made.ask(10 * SLOTS, "greedy")
            if step >= 10:
                made.ask(1, "modest")
            await made.tick()
        for _ in range(3):
            await made.tick()
        assert made.answered["modest"] == 50
        assert made.answered["greedy"] >= 40 * (SLOTS - 1)
        assert not [tenant for tenant, _ in made.refused if tenant == "modest"]
