"""The key provisioner, wired."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from cloister.api.v1.provisioner_pb2_grpc import add_ProvisionerServicer_to_server
from cloister.api.v1.recovery_pb2_grpc import add_RecoveryServicer_to_server
from cloister.errors import NotReady
from cloister.kit.exporter import exporter
from cloister.kit.host_clock import HostClock
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.server import Server
from cloister.provisioner.database import NAME, Database
from cloister.provisioner.epoch_store import EpochStore
from cloister.provisioner.epochs import Epochs, destroying
from cloister.provisioner.following import following
from cloister.provisioner.freshness import Freshness
from cloister.provisioner.keyring import UNKNOWN
from cloister.provisioner.lease_watch import MAX_WATCHERS, LeaseDesk, LeaseWatch
from cloister.provisioner.leases import Leases
from cloister.provisioner.log_desk import LogDesk
from cloister.provisioner.models import ModelStore
from cloister.provisioner.nonces import Nonces
from cloister.provisioner.opening import opened, utc_now
from cloister.provisioner.owner_listener import owner_listener, roles_at_the_door
from cloister.provisioner.rates import Rates
from cloister.provisioner.recovery import Recovery
from cloister.provisioner.recovery_app import recover
from cloister.provisioner.recovery_servicer import RecoveryServicer
from cloister.provisioner.registry import Registry
from cloister.provisioner.release import Releaser
from cloister.provisioner.resuming import Resuming
from cloister.provisioner.roots import Roots
from cloister.provisioner.rotation import Rotation, rotating
from cloister.provisioner.servicer import ProvisionerServicer
from cloister.provisioner.serving import ready, served
from cloister.provisioner.settings import Settings
from cloister.provisioner.standing_by import OTHER, stand_by
from cloister.provisioner.used_results import UsedResults
from cloister.provisioner.withdrawals import Withdrawals, model_signers, terms_of
from cloister.provisioner.witnessing import witnessing
from cloister.rpc.identity import TlsIdentity

NONCE_TTL_S = 60.0
# A worker renews each of its models' leases; a platform holds several workers.
WORKERS_PER_PLATFORM = 10
MAX_MESSAGE_BYTES = 1 << 20
# A grant has the release policy of each epoch in it.
MAX_ANSWER_BYTES = 8 << 20
# Beside the streams of those who watch their leases.
MAX_CALLS = 1024


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Run the key provisioner until told to stop, then drain; where its root key is lost, restored first.

    While another process writes the log this one stands by. Overtaken by another, it gives up all that it has in
    memory of the state, and begins as after a start.
    """
    while not lifecycle.stopping.is_set():
        await stand_by(settings, lifecycle)
        if lifecycle.stopping.is_set():
            return
        overtaken = asyncio.Event()
        try:
            async with assembled(settings, lifecycle, overtaken) as server:
                await server.run(until=overtaken)
        except NotReady as error:
            if error.reason == UNKNOWN:
                await recover(settings, private_folder(settings.state_dir), lifecycle, lost=error)
            elif error.reason != OTHER:
                raise


@asynccontextmanager
async def assembled(
    settings: Settings, lifecycle: Lifecycle, overtaken: asyncio.Event | None = None
) -> AsyncIterator[Server]:
    """The provisioner's server with all behind it, bound and not yet answering.

    Args:
        settings: Its own.
        lifecycle: Of the process.
        overtaken: Set when another process writes the log, or has written to it: what is here is good for nothing then.

    Raises:
        NotReady: A file is missing, or open to others; the message names it.
    """
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(TlsIdentity.watching(settings.tls))
        folder = private_folder(settings.state_dir)
        followed = await stack.enter_async_context(following(settings, folder, identity, lifecycle))
        database = stack.enter_context(Database.opened(folder / NAME))
        used = database.root_key_ids()
        roots = await asyncio.to_thread(Roots.opened, settings.vault, settings.next_vault, folder, used)
        metrics = Metrics()
        witnessed = await stack.enter_async_context(witnessing(settings, identity, metrics, overtaken))
        ledger = stack.enter_context(opened(database, roots.keyring, cluster=settings.cluster))
        freshness = Freshness(ledger.log, witnessed.heads, witnessed.overtaken)
        store = ModelStore(ledger)
        clock = HostClock(utc_now)
        last_release_at = ledger.log.released_at()
        clock.start_after(last_release_at, was_ahead=settings.clock_was_ahead)
        epochs = Epochs(
            cluster=settings.cluster,
            terms=settings.epoch_terms,
            store=EpochStore(ledger),
            keyring=roots.keyring,
        )
        await stack.enter_async_context(exporter(settings.metrics_listen, metrics.registry, lifecycle.ready))
        nonces = Nonces(ttl_s=NONCE_TTL_S, monotonic=time.monotonic)
        releaser = Releaser(
            cluster=settings.cluster,
            verifier_id=settings.verifier_id,
            verifier_keys=followed.keys,
            standing=followed.standing,
            look_for_keys=followed.look_for_keys,
            epochs=epochs,
            keyring=roots.keyring,
            ledger=ledger,
            metrics=metrics,
            nonces=nonces,
            used=UsedResults(started_at=utc_now(), last_release_at=last_release_at),
            per_instance=Rates(per_minute=settings.releases_per_minute, monotonic=time.monotonic),
            per_platform=Rates(
                per_minute=settings.releases_per_minute * WORKERS_PER_PLATFORM, monotonic=time.monotonic
            ),
            clock=clock,
        )
        recovery = await asyncio.to_thread(Recovery, cluster=settings.cluster, ledger=ledger, keyring=roots.keyring)
        rotation = Rotation(ledger, roots, settings.cluster)
        leases = Leases(ledger, clock.now)
        loop = asyncio.get_running_loop()
        watch = LeaseWatch(LeaseDesk(leases.given, partial(terms_of, ledger)), loop)
        withdrawals = Withdrawals(
            cluster=settings.cluster,
            ledger=ledger,
            signers=partial(model_signers, settings.cluster),
            told=watch.tell,
            now=clock.now,
        )
        registry = Registry(
            cluster=settings.cluster, store=store, keyring=roots.keyring, ledger=ledger, told=watch.tell
        )
        server = await stack.enter_async_context(
            Server.mtls(
                settings.listen,
                identity,
                lifecycle=lifecycle,
                roles=roles_at_the_door(settings),
                grace_s=settings.grace_s,
                max_message_bytes=MAX_MESSAGE_BYTES,
                max_answer_bytes=MAX_ANSWER_BYTES,
                max_concurrent=MAX_WATCHERS + MAX_CALLS,
                on_call=metrics.call_answered,
                ready=ready(freshness),
            )
        )
        servicer = ProvisionerServicer(
            releaser=releaser,
            registry=registry,
            nonces=nonces,
            leases=leases,
            lease_watch=watch,
            withdrawals=withdrawals,
            resuming=Resuming(ledger, freshness, witnessed.witnessed),
            witnessed=witnessed,
            log_desk=LogDesk(ledger.log, witnessed),
            rotation=rotation,
        )
        recovery_servicer = RecoveryServicer(recovery, witnessed)

        def add_to(server: Server) -> None:
            server.add(add_ProvisionerServicer_to_server, servicer)
            server.add(add_RecoveryServicer_to_server, recovery_servicer)

        add_to(server)
        await stack.enter_async_context(
            owner_listener(settings, lifecycle, identity, add_to, ready=ready(freshness), on_call=metrics.call_answered)
        )
        for task in (
            lifecycle.spawn(destroying(epochs, clock), "epochs.destroyed"),
            lifecycle.spawn(rotating(rotation, roots), "root.rotated"),
            lifecycle.spawn(_closing(watch, witnessed.overtaken, lifecycle), "leases.closing"),
        ):
            stack.callback(task.cancel)
        await stack.enter_async_context(served(ledger, freshness, witnessed, server.health, lifecycle))
        yield server


async def _closing(watch: LeaseWatch, overtaken: asyncio.Event, lifecycle: Lifecycle) -> None:
    """End the streams when the service stops, or stands by: they would hold the drain up to the end of its grace."""
    await lifecycle.unless_stopped(overtaken.wait())
    watch.close()


def private_folder(folder: Path) -> Path:
    """A folder that is this user's alone: made so, or found so.

    Raises:
        NotReady: It cannot be made, or others can look into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise NotReady(f"state_dir {folder} cannot be used: {error.strerror}", reason="state_dir.unusable") from error
    if mode & 0o077:
        raise NotReady(f"state_dir {folder} is open to other users: chmod 700", reason="state_dir.unusable")
    return folder
