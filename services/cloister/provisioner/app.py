"""The key provisioner, wired."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from cloister.api.v1.provisioner_pb2_grpc import add_ProvisionerServicer_to_server
from cloister.api.v1.recovery_pb2_grpc import add_RecoveryServicer_to_server
from cloister.errors import NotReady
from cloister.kit.exporter import exporter
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.server import Server
from cloister.kit.shares import Shares
from cloister.kit.state_folder import private_folder
from cloister.provisioner.leasing.leases import Leases
from cloister.provisioner.leasing.watch import MAX_WATCHERS, LeaseDesk, LeaseWatch
from cloister.provisioner.leasing.withdrawals import Withdrawals, model_signers, terms_of
from cloister.provisioner.ledger.opening import utc_now
from cloister.provisioner.models.epoch_store import EpochStore
from cloister.provisioner.models.epochs import Epochs, destroying
from cloister.provisioner.models.registry import Registry
from cloister.provisioner.models.rotation import Rotation, rotating
from cloister.provisioner.models.store import ModelStore
from cloister.provisioner.owner_listener import owner_listener, roles_at_the_door
from cloister.provisioner.recovery.dealing import Recovery
from cloister.provisioner.recovery.servicer import RecoveryServicer
from cloister.provisioner.recovery_app import recover
from cloister.provisioner.releases.following import Following, following
from cloister.provisioner.releases.nonces import Nonces
from cloister.provisioner.releases.rates import Rates
from cloister.provisioner.releases.release import Releaser
from cloister.provisioner.releases.used_results import UsedResults
from cloister.provisioner.servicer import ProvisionerServicer
from cloister.provisioner.serving import ready, served
from cloister.provisioner.settings import Settings
from cloister.provisioner.standing_by import OTHER, stand_by
from cloister.provisioner.state import State, opened_state
from cloister.provisioner.vaults.keyring import UNKNOWN
from cloister.provisioner.vaults.threads import VaultThreads
from cloister.provisioner.witnesses.log_desk import LogDesk
from cloister.provisioner.witnesses.resuming import Resuming
from cloister.rpc.identity import TlsIdentity

NONCE_TTL_S = 60.0
# A worker renews each of its models' leases; a platform holds several workers.
WORKERS_PER_PLATFORM = 10
MAX_MESSAGE_BYTES = 1 << 20
# A grant has the release policy of each epoch in it.
MAX_ANSWER_BYTES = 8 << 20
# Beside the streams of those who watch their leases.
MAX_CALLS = 1024
# Of one worker: its streams, and releases of several models at once; of an owner, models that it hands in. A quarter of
# what may wait for the vault (vaults/threads.py), so that no single peer takes all of it from others while it is slow.
CALLS_OF_A_PEER = 64
UNREAD_BYTES_OF_A_PEER = 32 << 20


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
        folder, metrics = private_folder(settings.state_dir), Metrics()
        verifier = await stack.enter_async_context(following(settings.followed, folder, identity, lifecycle))
        state = await stack.enter_async_context(opened_state(settings, folder, identity, metrics, overtaken))
        await stack.enter_async_context(exporter(settings.metrics_listen, metrics.registry, lifecycle.ready))
        threads = stack.enter_context(VaultThreads.running())
        parts = await _parts(settings, state, verifier, metrics, threads)
        server = await stack.enter_async_context(_listening(settings, lifecycle, identity, metrics, state, parts))
        for task in parts.going_on(state, lifecycle):
            stack.callback(task.cancel)
        await stack.enter_async_context(
            served(state.ledger, state.freshness, state.witnessed, server.health, lifecycle)
        )
        yield server


@dataclass(frozen=True, slots=True)
class _Parts:
    """What answers calls, and what of it goes on by itself."""

    calls: ProvisionerServicer
    recovery_calls: RecoveryServicer
    epochs: Epochs
    rotation: Rotation
    watch: LeaseWatch

    def add_to(self, server: Server) -> None:
        server.add(add_ProvisionerServicer_to_server, self.calls)
        server.add(add_RecoveryServicer_to_server, self.recovery_calls)

    def going_on(self, state: State, lifecycle: Lifecycle) -> list[asyncio.Task[None]]:
        return [
            lifecycle.spawn(destroying(self.epochs, state.clock), "epochs.destroyed"),
            lifecycle.spawn(rotating(self.rotation, state.roots), "root.rotated"),
            lifecycle.spawn(_closing(self.watch, state.witnessed.overtaken, lifecycle), "leases.closing"),
        ]


async def _parts(
    settings: Settings, state: State, verifier: Following, metrics: Metrics, threads: VaultThreads
) -> _Parts:
    epochs, nonces = _epochs(settings, state), Nonces(ttl_s=NONCE_TTL_S, monotonic=time.monotonic)
    leases, rotation = Leases(state.ledger, state.clock.now), Rotation(state.ledger, state.roots, settings.cluster)
    desk = LeaseDesk(leases.given, partial(terms_of, state.ledger))
    watch = LeaseWatch(desk, asyncio.get_running_loop())
    calls = ProvisionerServicer(
        releaser=_releaser(settings, state, verifier, metrics, epochs=epochs, nonces=nonces, threads=threads),
        registry=_registry(settings, state, watch),
        nonces=nonces,
        leases=leases,
        lease_watch=watch,
        withdrawals=_withdrawals(settings, state, watch),
        resuming=Resuming(state.ledger, state.freshness, state.witnessed.witnessed),
        witnessed=state.witnessed,
        log_desk=LogDesk(state.ledger.log, state.witnessed),
        rotation=rotation,
        threads=threads,
    )
    recovery = await asyncio.to_thread(Recovery, cluster=settings.cluster, ledger=state.ledger, keyring=state.keyring)
    return _Parts(calls, RecoveryServicer(recovery, state.witnessed), epochs, rotation, watch)


def _epochs(settings: Settings, state: State) -> Epochs:
    store = EpochStore(state.ledger)
    return Epochs(cluster=settings.cluster, terms=settings.epoch_terms, store=store, keyring=state.keyring)


def _releaser(
    settings: Settings,
    state: State,
    verifier: Following,
    metrics: Metrics,
    *,
    epochs: Epochs,
    nonces: Nonces,
    threads: VaultThreads,
) -> Releaser:
    per_minute = settings.releases_per_minute
    return Releaser(
        cluster=settings.cluster,
        verifier_id=settings.verifier_id,
        verifier_keys=verifier.keys,
        standing=verifier.standing,
        look_for_keys=verifier.look_for_keys,
        epochs=epochs,
        keyring=state.keyring,
        ledger=state.ledger,
        metrics=metrics,
        nonces=nonces,
        used=UsedResults(started_at=utc_now(), last_release_at=state.last_release_at),
        per_instance=Rates(per_minute=per_minute, monotonic=time.monotonic),
        per_platform=Rates(per_minute=per_minute * WORKERS_PER_PLATFORM, monotonic=time.monotonic),
        clock=state.clock,
        threads=threads,
    )


def _registry(settings: Settings, state: State, watch: LeaseWatch) -> Registry:
    return Registry(
        cluster=settings.cluster,
        store=ModelStore(state.ledger),
        keyring=state.keyring,
        ledger=state.ledger,
        told=watch.tell,
    )


def _withdrawals(settings: Settings, state: State, watch: LeaseWatch) -> Withdrawals:
    return Withdrawals(
        cluster=settings.cluster,
        ledger=state.ledger,
        signers=partial(model_signers, settings.cluster),
        told=watch.tell,
        now=state.clock.now,
    )


@asynccontextmanager
async def _listening(
    settings: Settings, lifecycle: Lifecycle, identity: TlsIdentity, metrics: Metrics, state: State, parts: _Parts
) -> AsyncIterator[Server]:
    """The listener of workers, and of everybody unless owners have their own; both are bound."""
    may_call, on_call = ready(state.freshness), metrics.call_answered
    workers = Server.mtls(
        settings.listen,
        identity,
        lifecycle=lifecycle,
        roles=roles_at_the_door(settings),
        grace_s=settings.grace_s,
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_answer_bytes=MAX_ANSWER_BYTES,
        max_concurrent=MAX_WATCHERS + MAX_CALLS,
        shares=Shares(CALLS_OF_A_PEER, UNREAD_BYTES_OF_A_PEER),
        on_call=on_call,
        ready=may_call,
    )
    owners = owner_listener(settings, lifecycle, identity, parts.add_to, ready=may_call, on_call=on_call)
    async with workers as server, owners:
        parts.add_to(server)
        yield server


async def _closing(watch: LeaseWatch, overtaken: asyncio.Event, lifecycle: Lifecycle) -> None:
    """End the streams when the service stops, or stands by: they would hold the drain up to the end of its grace."""
    await lifecycle.unless_stopped(overtaken.wait())
    watch.close()
