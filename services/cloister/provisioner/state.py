"""The provisioner's state, opened: what it holds, under which root keys, who countersigns it, and what time it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cloister.kit.host_clock import HostClock
from cloister.kit.metrics import Metrics
from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.opening import opened, utc_now
from cloister.provisioner.settings import Settings
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.roots import Roots
from cloister.provisioner.witnesses.freshness import Freshness
from cloister.provisioner.witnesses.witnessed import Witnessed
from cloister.provisioner.witnesses.witnessing import witnessing
from cloister.rpc.identity import TlsIdentity


@dataclass(frozen=True, slots=True)
class State:
    """What all that is served stands on.

    Attributes:
        ledger: What is held, and the log of what was done.
        roots: The root keys of the settings.
        witnessed: Who countersigns the log.
        freshness: Whether it is the newest that they have countersigned.
        clock: Tells the time that results and leases are held against.
        last_release_at: By the log, when this was opened; None for never.
    """

    ledger: Ledger
    roots: Roots
    witnessed: Witnessed
    freshness: Freshness
    clock: HostClock
    last_release_at: datetime | None

    @property
    def keyring(self) -> Keyring:
        """What wraps and unwraps keys."""
        return self.roots.keyring


@asynccontextmanager
async def opened_state(
    settings: Settings, folder: Path, identity: TlsIdentity, metrics: Metrics, overtaken: asyncio.Event | None = None
) -> AsyncIterator[State]:
    """Open it, until the block ends; nobody has said yet that it is the newest.

    Args:
        settings: Of the service.
        folder: Where it lies.
        identity: As whom the witnesses are asked.
        metrics: Hear what they refuse.
        overtaken: See `Witnessed.overtaken`.

    Raises:
        NotReady: A file is missing, altered, or open to others; or it lies under another root key.
        LogBroken: The log does not hold together.
        Unavailable: It cannot be read or written, or the vault does not answer.
    """
    async with AsyncExitStack() as stack:
        database = stack.enter_context(Database.opened(folder / NAME))
        used = database.root_key_ids()
        roots = await asyncio.to_thread(Roots.opened, settings.vault, settings.next_vault, folder, used)
        cluster, addresses = settings.cluster, settings.witness_addresses
        link = witnessing(addresses, identity, metrics, cluster=cluster, listen=settings.listen, overtaken=overtaken)
        witnessed = await stack.enter_async_context(link)
        ledger = stack.enter_context(opened(database, roots.keyring, cluster=cluster))
        freshness = Freshness(ledger.log, witnessed.heads, witnessed.overtaken)
        clock, last_release_at = HostClock(utc_now), ledger.log.released_at()
        clock.start_after(last_release_at, was_ahead=settings.clock_was_ahead)
        yield State(ledger, roots, witnessed, freshness, clock, last_release_at)
