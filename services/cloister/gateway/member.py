"""One attested worker, and the task that keeps a link to it for as long as it belongs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import grpc.aio

from cloister.api.v1.verifier_pb2 import AttestedWorker
from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import CloisterError
from cloister.gateway.catalogue import Models
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.link import Link
from cloister.kit.log import get_logger
from cloister.rpc.channel import STREAM_S, Peer

FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 5.0
STEADY_S: Final = 30.0
"""A link that lasted this long was a good one: after it, the pauses begin again with the first."""
_log = get_logger()

Connect = Callable[[str, str], Peer]
"""Makes the handle on a worker, from its endpoint and the name in its certificate."""


class LinkStub:
    """The Link call with serialised frames on both sides: requests are not copied through protobuf objects."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.link: Any = channel.stream_stream("/cloister.api.v1.Worker/Link")


class Member:
    """An attested worker.

    Attributes:
        worker: As the verifier told of it last.
        link: While there is one.
        reached: It has been heard, or could not be reached: what there is to know of it is known.
        leaving: It has said that it goes; when its link ends there is no other.
        task: Keeps the link.
    """

    def __init__(self, worker: AttestedWorker) -> None:
        self.worker = worker
        self.link: Link | None = None
        self.reached = False
        self.leaving = False
        self.task: asyncio.Task[None] | None = None
        self._last_models: Models = {}

    @property
    def models(self) -> Models:
        """What it serves, or served when it was last heard."""
        return self.link.models if self.link is not None and self.link.slots else self._last_models

    def states(self) -> list[ModelState]:
        """What it serves, and what it should and does not."""
        missing = self.link.missing if self.link is not None else ()
        return [*(state for versions in self.models.values() for state in versions.values()), *missing]

    @property
    def takes_calls(self) -> bool:
        """Whether calls may be sent to it now."""
        return self.link is not None and self.link.slots > 0 and not self.link.draining

    @property
    def settled(self) -> bool:
        """Whether what there is to know of it is known."""
        return self.reached or (self.link is not None and self.link.slots > 0)

    async def keep_linked(self, connect: Connect, dispatcher: Dispatcher) -> None:
        """Hold a link, again and again, with growing pauses, until cancelled or until it has left."""
        clock, pause_s, said = asyncio.get_running_loop().time, FIRST_PAUSE_S, ""
        while True:
            began_s = clock()
            try:
                await self._link_once(connect, dispatcher)
            except* (CloisterError, TimeoutError) as group:
                error = group.exceptions[0]
                if str(error) != said:  # a worker that was killed is dialled until its Attestation Result ends
                    _log.warning("link.lost", instance=self.worker.instance, error=error)
                said = str(error)
            still_wanted()
            if self.leaving:
                return
            pause_s = FIRST_PAUSE_S if clock() - began_s >= STEADY_S else min(pause_s * 2, LAST_PAUSE_S)
            await asyncio.sleep(jittered(pause_s))

    async def _link_once(self, connect: Connect, dispatcher: Dispatcher) -> None:
        link = Link(self.worker.instance, dispatcher)
        async with connect(self.worker.endpoint, self.worker.server_name) as peer:
            stream = peer.stub(LinkStub).link(timeout=STREAM_S)
            self.link = link
            dispatcher.attach(link)
            try:
                await link.run(stream)
            finally:
                stream.cancel()
                self._last_models, self.link, self.reached = self.models, None, True
                dispatcher.detach(link)


def still_wanted() -> None:
    """Go on being cancelled: a TaskGroup of Python 3.11 whose task fails just then raises that error in its place."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def jittered(pause_s: float) -> float:
    """A random part of a pause, at least half: a crowd does not come back as one."""
    return pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
