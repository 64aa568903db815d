"""Which worker gets which call, and when.

One bounded queue for each model, in which tenants take turns (`queues`); a call that a worker with a free slot may
have never waits. Slots are each model's own. Among such workers the one with the most free slots takes it, of several
the one with the fewest calls of any model, so a slow worker gets only what it finishes; where there are very many, the
best of some. A call that would wait until its deadline has passed is refused (`lanes`). One whose link died before an
answer goes to the front of its queue, for the workers that have not had it yet. All of it happens on the event loop
between two awaits: there is nothing to lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import CloisterError, Unavailable
from cloister.gateway.call import Call
from cloister.gateway.catalogue import default_version
from cloister.gateway.contract import Contracts
from cloister.gateway.lanes import Lane
from cloister.gateway.limits import Limits, ModelLimits
from cloister.gateway.link import EXPIRY_STEP_S, Link
from cloister.gateway.routing import Routing
from cloister.gateway.wire import Route, Tensors

WORKER_LOST = "worker.lost"
LOOKS = 32
"""Workers with a free slot that are looked at for one call: the best of so many is about as good as of all."""
NO_WORKER = "no worker that serves this can be reached now"


class Dispatcher:
    """Gives calls to links, and lets them wait.

    Args:
        limits: Of each model.
        missing: Says why a route that no linked worker serves cannot be served: not known, or not now.

    Attributes:
        lanes: What there is of each model that is served or has calls.
    """

    def __init__(self, limits: Limits[ModelLimits], missing: Callable[[Route], CloisterError]) -> None:
        self.lanes: dict[str, Lane] = {}
        self._limits = limits
        self._missing = missing
        self._links: dict[str, Link] = {}
        self._by_model: dict[str, tuple[Link, ...]] = {}
        self._defaults: dict[str, str] = {}
        self._waiting: dict[str, Lane] = {}  # those with a queue; models take turns in this order
        self._loop = asyncio.get_running_loop()
        self._routing = Routing()
        self._contracts = Contracts(self._states)
        self._turn = 0

    @property
    def queued(self) -> int:
        """How many calls wait for a slot."""
        # In one step, because the exporter's thread asks too, while this one takes lanes in and out.
        return sum(len(lane.waiting) for lane in list(self._waiting.values()))

    @property
    def routing(self) -> Routing:
        """Which version a label, or no version, stands for."""
        return self._routing

    def route(self, routing: Routing) -> None:
        """Go by another choice of versions from now on, also for what waits."""
        self._routing = routing
        self._index()
        self._requeue(())

    def version_of(self, name: str, asked: str) -> str:
        """The version that answers where a client asks for this one, a label, or none; empty if none can."""
        if asked.isdecimal():
            return asked
        return (self._routing.chosen(name, asked) or "") if asked else self._defaults.get(name, "")

    def check(self, route: Route, tensors: Tensors) -> None:
        """Hold the tensors of a plain request against the version that it would be sent to now.

        Raises:
            InvalidRequest: They cannot fit.
        """
        if not route.sealed:
            version = self.version_of(route.model_name, route.model_version)
            self._contracts.check(route.model_name, version, tensors)

    def submit(self, call: Call) -> None:
        """Send a call to a worker, or let it wait; its answer comes to `call.answer`.

        Raises:
            NotFound: No worker serves the model.
            Unavailable: None of them can be reached now.
            Overloaded: Too many wait for this model, it is asked too often, or the call would wait for too long.
        """
        name = call.route.model_name
        lane = self.lanes.get(name)
        if lane is None:
            raise self._missing(call.route)
        now_s = self._loop.time()
        lane.check_rate(now_s)
        if self._send(call, lane, now_s):
            return
        lane.check_deadline(call, now_s)
        lane.make_room(call.tenant)
        lane.waiting.append(call)
        self._waiting[name] = lane

    def withdraw(self, call: Call) -> None:
        """Forget a call that nobody waits for, and give back what it holds."""
        if call.instance:
            link = self._links.get(call.instance)
            if link is not None:
                link.cancel(call)
        elif (lane := self._waiting.get(call.route.model_name)) is not None and lane.waiting.remove(call):
            self._forget_if_empty(call.route.model_name)

    def attach(self, link: Link) -> None:
        """Use a link, as soon as its worker grants slots."""
        self._links[link.instance] = link
        self.changed(link)

    def detach(self, link: Link) -> None:
        """Stop using a link that is gone; its unanswered calls go to other workers, or fail."""
        if self._links.get(link.instance) is link:
            del self._links[link.instance]
        calls = []
        for call in link.take_unanswered():
            call.tried += (link.instance,)
            if call.once and call.left_s:
                call.fail(Unavailable("the worker was lost before it had answered", reason=WORKER_LOST))
            else:
                calls.append(call)
        self._index()
        self._requeue(calls)

    def served(self) -> Iterable[str]:
        """The models that some linked worker serves."""
        return self._by_model.keys()

    def slots_of(self, name: str) -> int:
        """How many calls of a model may be at workers at once, those under way included."""
        slots = sum([link.room(name) for link in self._by_model.get(name, ())])
        lane = self.lanes.get(name)
        return min(slots, lane.limits.slots) if lane is not None and lane.limits.slots else slots

    def changed(self, link: Link) -> None:
        """See `LinkOwner`."""
        unsent = link.take_unsent() if link.draining else []
        self._index()
        self._requeue(unsent)
        self.freed(link)

    def released(self, call: Call, answer: bytes | None) -> None:
        """See `LinkOwner`."""
        self.lanes[call.route.model_name].ended(call, answer, self._loop.time())

    def freed(self, link: Link) -> None:
        """Fill a link's free slots, one call of each model in turn."""
        if not self._waiting:
            return
        # A model that may not hold all slots may wait for other links than the one that has room now.
        capped = [name for name, lane in self._waiting.items() if lane.limits.slots]
        for other in self._links.values() if capped else ():
            self._fill(other, [name for name in capped if name in self._waiting and name in other.models])
        self._fill(link, [name for name in self._waiting if name in link.models])

    def expire(self, now_s: float) -> None:
        """Answer calls that wait past their deadline."""
        for name, lane in list(self._waiting.items()):
            lane.waiting.take_late(now_s)
            self._forget_if_empty(name)

    async def expiring(self) -> None:
        """Run `expire` for as long as the service runs."""
        while True:
            await asyncio.sleep(EXPIRY_STEP_S)
            self.expire(self._loop.time())

    def _send(self, call: Call, lane: Lane, now_s: float) -> bool:
        """Hand a call to the best worker with a free slot; say whether there was one. Raise when none may have it."""
        best, best_free, eligible, name = None, (0, 0), False, call.route.model_name
        looks = LOOKS
        for link in self._within_reach(call):
            if self._may_have(link, call):
                eligible = True
                free = (link.free(name), -link.used)
                if free[0] > 0:
                    looks -= 1
                    if best is None or free > best_free:
                        best, best_free = link, free
                    if not looks:
                        break
        if not eligible:
            raise Unavailable(NO_WORKER) if call.tried else self._missing(call.route)
        if best is None or not lane.open:
            return False
        self._hand(call, lane, best, now_s)
        return True

    def _hand(self, call: Call, lane: Lane, link: Link, now_s: float) -> None:
        """Send a call; of one sealed to no worker, it is told what a label, or no version, stands for."""
        lane.at_workers += 1
        call.handed_s = now_s
        name, asked, _, workers, _ = call.route
        call.model_version = self.version_of(name, asked) if workers is None and not asked.isdecimal() else ""
        link.send(call)

    def _within_reach(self, call: Call) -> Iterator[Link]:
        """Yield links that a call might take: those it is sealed to, or all, beginning with another one each time."""
        name, workers = call.route.model_name, call.route.workers
        links = self._by_model.get(name, ())
        if workers is not None and len(workers) < len(links):
            for instance in workers:
                link = self._links.get(instance)
                if link is not None and link.slots and not link.draining and name in link.models:
                    yield link
            return
        first, self._turn = self._turn, self._turn + 1
        for at in range(first, first + len(links)):
            yield links[at % len(links)]

    def _may_have(self, link: Link, call: Call) -> bool:
        name, version, _, workers, _ = call.route
        if call.tried and link.instance in call.tried:
            return False
        if workers is not None:
            return link.instance in workers and (not version or version in link.models[name])
        return self.version_of(name, version) in link.models[name]

    def _fill(self, link: Link, names: list[str]) -> None:
        """Send waiting calls of these models to a link, one of each in turn, while it has room."""
        while names:
            names = [name for name in names if self._send_next(name, link)]

    def _send_next(self, name: str, link: Link) -> bool:
        """Send the waiting call of a model whose turn it is and that this worker may have; say whether one was sent."""
        lane = self._waiting[name]
        if link.free(name) <= 0 or not lane.open:
            return False
        now_s = self._loop.time()
        call = lane.waiting.take(lambda call: self._may_have(link, call), now_s)
        if call is not None:
            self._waiting[name] = self._waiting.pop(name)  # behind the other models
            self._hand(call, lane, link, now_s)
        self._forget_if_empty(name)
        return call is not None and name in self._waiting

    def _requeue(self, calls: Iterable[Call]) -> None:
        """Send calls again, or put them before those that wait; fail what no worker can take any more."""
        again: dict[str, list[Call]] = {}
        for call in calls:
            call.instance, call.call_id = "", 0
            again.setdefault(call.route.model_name, []).append(call)
        for name in again.keys() | self._waiting.keys():
            lane = self._lane(name)
            lane.waiting.put_back(again.get(name, ()))
            for call in lane.waiting.take_all():
                if not self._send_or_fail(call, lane):
                    lane.waiting.append(call)
            self._waiting[name] = lane
            self._forget_if_empty(name)
        self.lanes = {name: lane for name, lane in self.lanes.items() if name in self._by_model or not lane.idle}

    def _send_or_fail(self, call: Call, lane: Lane) -> bool:
        try:
            return self._send(call, lane, self._loop.time())
        except CloisterError:
            call.fail(Unavailable(NO_WORKER))
            return True

    def _states(self, name: str, version: str) -> list[ModelState]:
        """What the workers of a version say of it."""
        links = self._by_model.get(name, ())
        return [link.models[name][version] for link in links if version in link.models[name]]

    def _forget_if_empty(self, name: str) -> None:
        if not self._waiting[name].waiting:
            del self._waiting[name]

    def _index(self) -> None:
        """Note which links serve which model, and the default version of each."""
        self._contracts.forget()
        by_model: dict[str, list[Link]] = {}
        for link in self._links.values():
            if link.slots and not link.draining:
                for name in link.models:
                    by_model.setdefault(name, []).append(link)
        self._by_model = {name: tuple(links) for name, links in by_model.items()}
        self._defaults = {
            name: self._routing.of(name).default or default_version([link.models[name] for link in links])
            for name, links in by_model.items()
        }
        for name in by_model:
            self._lane(name)

    def _lane(self, name: str) -> Lane:
        """The lane of a model that is served, or has calls."""
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane(self._limits.of(name))
        return lane
