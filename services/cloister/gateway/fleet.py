"""The workers this gateway knows: told by the verifier, linked for as long as they are attested.

`WatchAttested` gives everyone attested, then each change. While the verifier cannot be reached the fleet stays as it
was, and each worker goes when its own Attestation Result ends. `WatchTrust` gives what is revoked: whoever it names
goes at once, also one that a verifier which has started again knows no more. The gateway judges no evidence: it hands
it to the clients, who do, and with it the keys that the verifier signs with.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, Final

from cloister.api.v1.verifier_pb2 import AttestedEvent, AttestedWorker, WatchAttestedRequest
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import CloisterError, NotFound, Unavailable
from cloister.gateway.dispatch import NO_WORKER, Dispatcher
from cloister.gateway.limits import Limits, ModelLimits
from cloister.gateway.link import NO_SUCH_MODEL
from cloister.gateway.member import FIRST_PAUSE_S, LAST_PAUSE_S, STEADY_S, Connect, Member, jittered, still_wanted
from cloister.gateway.wire import Route
from cloister.kit.log import get_logger
from cloister.kit.revocation import Name, is_revoked
from cloister.kit.trust_feed import TrustFeed
from cloister.rpc.address import check_address
from cloister.rpc.channel import STREAM_S, Peer

EXPIRY_S: Final = 1.0
SILENCE_S: Final = 5.0
_INSTANCE: Final = re.compile(r"[0-9a-f]{32}")
_log = get_logger()


class Fleet:
    """Members, their links, and what they serve.

    Args:
        cluster: Trust domain; a worker's certificate carries `<instance>.worker.<cluster>`.
        connect: Makes the handle on a worker.
        limits: Of each model.
        wall_ms: Unix time in milliseconds, which Attestation Results end by.
        simulated_workers: Whether those are taken in that the verifier calls simulated.

    Attributes:
        dispatcher: Takes calls.
        current: Set once the verifier has told everyone who is attested.
        key_set: The verifier's signed key set as it came, for clients; empty while there is none.
    """

    def __init__(
        self,
        cluster: str,
        connect: Connect,
        *,
        limits: Limits[ModelLimits],
        wall_ms: Callable[[], int],
        simulated_workers: bool = False,
    ) -> None:
        self.dispatcher = Dispatcher(limits, self.missing)
        self.current = asyncio.Event()
        self._cluster = cluster
        self._connect = connect
        self._wall_ms = wall_ms
        self._simulated_workers = simulated_workers
        self._members: dict[str, Member] = {}
        self._withheld: dict[str, AttestedWorker] = {}
        self.key_set = b""
        self._revoked: frozenset[Name] = frozenset()

    @property
    def members(self) -> list[Member]:
        """Everyone attested, by instance."""
        # In one step, because the exporter's thread asks too, while this one takes members in and out.
        return [member for _, member in sorted(self._members.items(), key=itemgetter(0))]

    def serving(self, name: str, version: str = "") -> Iterator[tuple[Member, ModelState]]:
        """Yield who takes calls for a model, in the version that this one, a label or none stands for."""
        able = [member for member in self._members.values() if member.takes_calls and name in member.models]
        version = self.dispatcher.version_of(name, version)
        for member in able:
            state = member.models[name].get(version)
            if state is not None:
                yield member, state

    def serves(self, name: str, version: str) -> bool:
        """Whether some worker serves a model in a version, or, where that is empty, in any."""
        members = self._members.values()
        return any((not version and name in each.models) or version in each.models.get(name, ()) for each in members)

    def states(self, name: str) -> list[ModelState]:
        """Return what workers say of a model: all versions, of all workers that take calls."""
        able = [member for member in self._members.values() if member.takes_calls]
        return [state for member in able for state in member.models.get(name, {}).values()]

    def all_states(self) -> Iterator[ModelState]:
        """Yield what workers that take calls say of every model, also of those that they should serve and do not."""
        for member in self._members.values():
            if member.takes_calls:
                yield from member.states()

    def missing(self, route: Route) -> CloisterError:
        """Say why no worker can take a route: there is no such model, or it cannot be served now."""
        name, asked, _, workers, _ = route
        served = [versions for member in self._members.values() if (versions := member.models.get(name))]
        why = NO_WORKER
        if workers is not None:
            # Its version may be gone from all of them: whoever left it open asks again, and seals to another.
            known = bool(served) and (not asked or asked.isdecimal())
            reason = "workers.gone"
        else:
            # What the operator has chosen and nobody serves is missing for now, as is what somebody has served.
            chosen, reason = self.dispatcher.routing.chosen(name, asked), None
            known = chosen is not None and any(chosen in versions or not asked.isdecimal() for versions in served)
            why = f"no worker that serves version {chosen} of this model can be reached now" if chosen else NO_WORKER
        if known:
            return Unavailable(why, reason=reason)
        if any(state.name == name and asked in ("", state.version) for state in self._missing()):
            return Unavailable("no worker may or can serve this model now", reason="model.unavailable")
        if not self.current.is_set() or not all(member.settled for member in self._members.values()):
            return Unavailable("this gateway does not know all workers yet", reason="fleet.unsettled")
        return NotFound(NO_SUCH_MODEL)

    def _missing(self) -> Iterator[ModelState]:
        """Yield what workers should serve and do not."""
        return (state for state in self.all_states() if state.state != ModelState.STATE_READY)

    async def run(self, verifier: Peer) -> None:
        """Follow the verifier's events and keep the links, for as long as the service runs."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.dispatcher.expiring(), name="calls expire")
            group.create_task(self._expiring(), name="members expire")
            feed = TrustFeed(
                monotonic=time.monotonic,
                silence_s=SILENCE_S,
                learn=self._note_keys,
                heard=lambda: self._sort_out(feed.revoked, group),
            )
            group.create_task(feed.follow(verifier), name="trust followed")
            pause_s = FIRST_PAUSE_S
            while True:
                began_s = asyncio.get_running_loop().time()
                try:
                    await self._watch(verifier, group)
                except (CloisterError, TimeoutError) as error:
                    _log.warning("verifier.lost", error=error)
                still_wanted()
                steady = asyncio.get_running_loop().time() - began_s >= STEADY_S
                pause_s = FIRST_PAUSE_S if steady else min(pause_s * 2, LAST_PAUSE_S)
                await asyncio.sleep(jittered(pause_s))

    def expire(self) -> None:
        """Drop members whose Attestation Result has ended, also while nobody tells us."""
        now_ms = self._wall_ms()
        for member in self.members:
            if member.worker.expires_at_ms <= now_ms:
                self._remove(member.worker.instance, "expired")
        for worker in list(self._withheld.values()):
            if worker.expires_at_ms <= now_ms:
                del self._withheld[worker.instance]

    async def _expiring(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_S)
            self.expire()

    async def _watch(self, verifier: Peer, group: asyncio.TaskGroup) -> None:
        events: Any = verifier.stub(VerifierStub).WatchAttested(WatchAttestedRequest(), timeout=STREAM_S)
        try:
            async for event in events:
                worker = event.worker
                if event.kind in (AttestedEvent.KIND_JOINED, AttestedEvent.KIND_RENEWED):
                    self._put(worker, group)
                elif event.kind == AttestedEvent.KIND_GONE:
                    self._withheld.pop(worker.instance, None)
                    self._remove(worker.instance, event.reason)
                elif event.kind == AttestedEvent.KIND_CURRENT:
                    # One that is not listed may be as good as ever: a verifier that has started again knows its
                    # members only as they renew. It goes when its link ends for good or its Result does.
                    self.current.set()
        finally:
            events.cancel()
        raise Unavailable("the verifier ended its events")

    def _put(self, worker: AttestedWorker, group: asyncio.TaskGroup) -> None:
        """Take a worker in, or note what has changed of it."""
        if not (_INSTANCE.fullmatch(worker.instance) and _is_address(worker.endpoint)):
            _log.warning("worker.unusable", instance=worker.instance)
            return
        if worker.server_name != f"{worker.instance}.worker.{self._cluster}":
            _log.warning("worker.misnamed", instance=worker.instance, server_name=worker.server_name)
            return
        if worker.simulated and not self._simulated_workers:
            _log.warning("worker.refused", instance=worker.instance, reason="hardware.simulated")
            self._remove(worker.instance, "simulated")
            return
        if self._is_revoked(worker):
            self._withhold(worker)
            return
        member = self._members.get(worker.instance)
        if member is not None and member.worker.endpoint == worker.endpoint:
            member.worker = worker
            return
        self._remove(worker.instance, "moved")
        member = self._members[worker.instance] = Member(worker)
        keeping = member.keep_linked(self._connect, self.dispatcher)
        member.task = group.create_task(keeping, name=f"link {worker.instance[:8]}")
        _log.info("worker.joined", instance=worker.instance, endpoint=worker.endpoint, simulated=worker.simulated)

    def _is_revoked(self, worker: AttestedWorker) -> bool:
        return is_revoked(worker.instance, worker.bundle.attestation_result, self._revoked)

    def _withhold(self, worker: AttestedWorker) -> None:
        """Use a worker no longer, and remember it: the lift of its revocation may come before its renewal."""
        self._withheld[worker.instance] = worker
        self._remove(worker.instance, "revoked")

    def _sort_out(self, names: frozenset[Name], group: asyncio.TaskGroup) -> None:
        """Go by a new list of what is revoked."""
        self._revoked = names
        for member in self.members:
            if self._is_revoked(member.worker):
                self._withhold(member.worker)
        withheld, self._withheld = self._withheld, {}
        for worker in withheld.values():
            self._put(worker, group)

    def _note_keys(self, key_set: bytes) -> None:
        self.key_set = key_set

    def _remove(self, instance: str, reason: str) -> None:
        """Send a worker nothing more. One that leaves may finish what it has; of any other the link ends now."""
        member = self._members.pop(instance, None)
        if member is None:
            return
        _log.info("worker.gone", instance=instance, reason=reason)
        member.leaving = True
        if reason == "left" and member.link is not None and member.link.used:
            member.link.drain()
        elif member.task is not None:
            member.task.cancel()


def _is_address(endpoint: str) -> bool:
    """Whether it is one that we dial: a worker names it itself."""
    try:
        check_address(endpoint)
    except ValueError:
        return False
    return True
