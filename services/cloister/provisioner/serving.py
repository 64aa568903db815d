"""From a state that was opened to one that is served: what must be known first, and what goes on meanwhile.

The server answers from the start. Until the witnesses have said that this state is the newest (`freshness`), every call
but `Resume` hears why not; until they hold this process to be the one that writes, nothing is changed and nothing
released. Then health says SERVING.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from cloister.errors import NotReady
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.server import Health
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.log_check import checked
from cloister.provisioner.recovery.servicer import SERVICE as RECOVERY
from cloister.provisioner.servicer import RESUME, SERVICE
from cloister.provisioner.witnesses.freshness import Freshness
from cloister.provisioner.witnesses.witnessed import Witnessed

START_S: Final = 3.0
"""So long a start waits for its witnesses before it answers, and says that it is not ready."""
_LOOK_S: Final = 0.02
OF_THE_STATE: Final = (f"/{SERVICE}/", f"/{RECOVERY}/")
"""What the methods begin with that a state must be there for."""


@asynccontextmanager
async def served(
    ledger: Ledger, freshness: Freshness, witnessed: Witnessed, health: Health, lifecycle: Lifecycle
) -> AsyncIterator[None]:
    """See to it for as long as the block lasts; it begins served, unless that takes long."""

    def may_write() -> None:
        freshness.check()
        witnessed.check()

    ledger.watch(may_write=may_write)
    await health.set(SERVICE, False)
    await freshness.look()
    writes = asyncio.Event()
    task = lifecycle.spawn(_serve(ledger, freshness, witnessed, health, lifecycle, writes), "state.served")
    with suppress(TimeoutError):
        async with asyncio.timeout(0 if freshness.known_behind else START_S):
            await writes.wait()
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def ready(freshness: Freshness) -> Callable[[str], None]:
    """What a server asks before each call."""

    def check(method: str) -> None:
        if method.startswith(OF_THE_STATE) and method != RESUME:
            freshness.check()

    return check


async def _serve(
    ledger: Ledger,
    freshness: Freshness,
    witnessed: Witnessed,
    health: Health,
    lifecycle: Lifecycle,
    writes: asyncio.Event,
) -> None:
    await freshness.confirmed()
    async with witnessed.running(ledger.log, lifecycle):
        await _passes(witnessed.check)
        await health.set(SERVICE, True)
        writes.set()
        await checked(ledger.log)
        await asyncio.Event().wait()  # until the service ends: its calls are answered before the lease is given back


async def _passes(check: Callable[[], None]) -> None:
    while True:
        with suppress(NotReady):
            return check()
        await asyncio.sleep(_LOOK_S)
