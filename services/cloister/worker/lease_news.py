"""What becomes of this worker's leases before they end, as the provisioner tells (docs/decisions/0057-leases.md).

A lease that was *withdrawn* ends at once, and all that is held under it goes. One whose model has a new policy, version
or set of signers has *changed*, and is asked for again, at some moment within a time that the provisioner says, so that
not all workers come at once. The provisioner answers for the leases that are named to it, and knows what has changed
since each was given: nothing is missed between two streams.

A host can keep this news from its enclave. Then the lease bounds how long it serves; so silence ends no service, and
only begins the stream anew. Whoever could make the news up could as well refuse the next lease.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

from cloister.api.v1.provisioner_pb2 import LeaseEvent, WatchLeasesRequest
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.errors import CloisterError, InvalidRequest, Unavailable
from cloister.kit.log import get_logger
from cloister.rpc.channel import STREAM_S, Peer
from cloister.worker.backoff import Backoff

SILENCE_S: Final = 4.5
"""A sign of life comes every two seconds; a stream without is not whole."""
MAX_WITHIN_S: Final = 10.0
"""Nobody has us wait longer with what has changed."""
_log = get_logger()


class Leases(Protocol):
    """What is held."""

    @property
    def lease_ids(self) -> frozenset[str]:
        """All leases that something is held under now."""

    def end(self, lease_ids: Collection[str]) -> None:
        """Drop what is held under these, at once."""

    def ask_again(self, lease_ids: Collection[str]) -> None:
        """Ask for these again, at once."""


class LeaseNews:
    """Follows the provisioner. Called on the event loop only.

    Args:
        leases: What the news is about.
        silence_s: How long without a sign of life a stream is believed to be whole.
        backoff: Pauses after a stream that was lost.
    """

    def __init__(self, leases: Leases, *, silence_s: float = SILENCE_S, backoff: Backoff | None = None) -> None:
        self._leases = leases
        self._silence_s = silence_s
        self._backoff = backoff or Backoff(0.2, 2.0)
        self._asking: set[str] = set()

    async def follow(self, provisioner: Peer) -> None:
        """Listen, again and again, for as long as the worker runs."""
        said = ""
        async with asyncio.TaskGroup() as group:

            def soon(lease_ids: Collection[str], within_s: float) -> None:
                wanted = frozenset(lease_ids) - self._asking
                self._asking |= wanted
                group.create_task(self._ask_again(wanted, within_s))

            while True:
                try:
                    await self._listen(provisioner, soon)
                    said = ""
                except (CloisterError, TimeoutError) as error:
                    if str(error) != said:  # a provisioner that is away is asked until it comes back
                        _log.warning("leases.unheard", error=error)
                    said = str(error)
                    if isinstance(error, TimeoutError):
                        provisioner.move_on()
                    await self._backoff.pause()

    async def _listen(self, provisioner: Peer, soon: Callable[[Collection[str], float], None]) -> None:
        """Hear of the leases that are held now, until they are others."""
        named, sequence = self._leases.lease_ids, 0
        request = WatchLeasesRequest(lease_ids=sorted(named))
        # The generated stub is typed for the synchronous API; called on an aio channel it returns an async iterator.
        events: Any = provisioner.stub(ProvisionerStub).WatchLeases(request, timeout=STREAM_S)
        try:
            while self._leases.lease_ids == named:
                async with asyncio.timeout(self._silence_s):
                    event: LeaseEvent = await anext(events)
                sequence += 1
                if event.sequence != sequence:
                    raise InvalidRequest("an event of the provisioner's is missing", reason="leases.gap")
                self._backoff.reset()
                self._leases.end(event.ended)
                if event.changed:
                    soon(event.changed, min(event.within_ms / 1000, MAX_WITHIN_S))
        except StopAsyncIteration:
            raise Unavailable("the provisioner ended its events") from None
        finally:
            events.cancel()

    async def _ask_again(self, lease_ids: frozenset[str], within_s: float) -> None:
        try:
            await asyncio.sleep(random.uniform(0, within_s))  # noqa: S311 - not a secret
            self._leases.ask_again(lease_ids)
        finally:
            self._asking -= lease_ids
