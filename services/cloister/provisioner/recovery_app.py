"""A provisioner whose root key is lost, wired: it serves recovery, and nothing else, until its keys are restored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from cloister.api.v1.recovery_pb2_grpc import add_RecoveryServicer_to_server
from cloister.errors import NotReady
from cloister.kit.exporter import exporter
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.kit.server import Server
from cloister.provisioner.everything_else import EverythingElse
from cloister.provisioner.ledger.database import NAME, Database
from cloister.provisioner.owner_listener import ALL_ROLES
from cloister.provisioner.recovery.recovering import Recovering, stored_deal
from cloister.provisioner.recovery.servicer import RecoveringServicer
from cloister.provisioner.recovery.servicer import lost as lost_keys
from cloister.provisioner.servicer import SERVICE
from cloister.provisioner.settings import Settings
from cloister.provisioner.vaults.roots import Roots
from cloister.rpc.identity import TlsIdentity

_log = get_logger()


class RecoveryServer(NamedTuple):
    """What serves recovery, and what says that it is done."""

    server: Server
    restored: asyncio.Event


async def recover(settings: Settings, folder: Path, lifecycle: Lifecycle, *, lost: NotReady) -> bool:
    """Serve recovery until the keys are restored, or told to stop; returns whether they are.

    Args:
        settings: The provisioner's.
        folder: Its state.
        lifecycle: Its own.
        lost: What its start ended with.

    Raises:
        NotReady: `lost`, where no recovery key was dealt; or today's root key cannot be used either.
    """
    async with recovery_assembled(settings, folder, lifecycle, lost=lost) as recovery:
        await recovery.server.run(until=recovery.restored)
        return recovery.restored.is_set()


@asynccontextmanager
async def recovery_assembled(
    settings: Settings, folder: Path, lifecycle: Lifecycle, *, lost: NotReady
) -> AsyncIterator[RecoveryServer]:
    """The server of `recover` with all behind it, bound and not yet answering; raises as that."""
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(TlsIdentity.watching(settings.tls))
        database = stack.enter_context(Database.opened(folder / NAME))
        deal = stored_deal(database)
        if deal is None:
            raise lost
        # Nothing that is kept lies under it yet.
        roots = await asyncio.to_thread(Roots.opened, settings.vault, settings.next_vault, folder, ())
        _log.error("root_key.other", meaning="stored keys lie under another root key; owners' shares restore them")
        metrics = Metrics()
        await stack.enter_async_context(exporter(settings.metrics_listen, metrics.registry))
        recovering = Recovering(
            cluster=settings.cluster, database=database, deal=deal, keyring=roots.keyring, metrics=metrics
        )
        stack.callback(recovering.end)
        server = await stack.enter_async_context(
            Server.mtls(
                settings.owner_listen or settings.listen,
                identity,
                lifecycle=lifecycle,
                roles=ALL_ROLES,
                grace_s=settings.grace_s,
                on_call=metrics.call_answered,
            )
        )
        calls = RecoveringServicer(recovering)
        server.add(add_RecoveryServicer_to_server, calls)
        server.add_generic(EverythingElse(lost_keys))
        for service in ("", SERVICE):  # what it serves is not what a provisioner is there for
            await server.health.set(service, False)
        yield RecoveryServer(server, calls.restored)
