"""The verifier, wired: what `cloister-verifier` runs, and the simulator's program under a root of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from cloister.api.v1.verifier_pb2_grpc import add_VerifierServicer_to_server
from cloister.evidence.gramine import GramineQuoter
from cloister.evidence.quoter import Quoter
from cloister.kit import lag
from cloister.kit.audit import AuditLog
from cloister.kit.config import settings_error
from cloister.kit.exporter import exporter
from cloister.kit.host_clock import HostClock
from cloister.kit.https import https_server
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.metrics import Metrics
from cloister.kit.server import Server
from cloister.rpc.identity import TlsIdentity
from cloister.verifier.appraiser import ACCEPTED, Appraiser
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.collateral import CollateralStore
from cloister.verifier.collateral_record import CollateralRecord
from cloister.verifier.disagreements import Disagreements
from cloister.verifier.endorsing import collateral_store, keep_fresh
from cloister.verifier.endpoints import endpoints
from cloister.verifier.grounds import Grounds, opened_grounds, trust_anchor, utc_now
from cloister.verifier.judge_pool import judging
from cloister.verifier.judges import Judge
from cloister.verifier.lift_orders import LiftOrders, lift_orders
from cloister.verifier.mesh_ca import MeshCa
from cloister.verifier.own_evidence import OwnAttester, mesh_trust
from cloister.verifier.places import Places
from cloister.verifier.policy_desk import PolicyDesk
from cloister.verifier.revocations import Revocations
from cloister.verifier.revoker import Revoker
from cloister.verifier.servicer import ROLES, SERVICE, VerifierServicer
from cloister.verifier.settings import Settings
from cloister.verifier.signing_keys import LOOK_S, SigningKeys
from cloister.verifier.standing import Standing
from cloister.verifier.state import State, kept_state
from cloister.verifier.trust_watch import MAX_WATCHERS, TrustWatch
from cloister.verifier.turns import Turns
from cloister.verifier.witness import Witness

MAX_MESSAGE_BYTES = 4 << 20
# Besides the watches: every worker of the mesh keeps one open. A thousand workers that renew at once wait in `Turns`,
# which knows whom to serve first, and not before it.
MAX_CALLS = 4096
# Answers under way at once: enough that judging, signing and one write to disk for all of them overlap.
IN_FLIGHT = 32


async def serve_genuine(settings: Settings, lifecycle: Lifecycle) -> None:
    """Run the verifier under Intel's root, with Gramine's quotes for its own evidence: there is no other in production.

    Raises:
        InvalidRequest: The settings name another root.
    """
    if trust_anchor(settings.anchor_root).simulated:
        raise settings_error(
            "anchor_root", "is not Intel's SGX root; simulated evidence is for 'cloister-simulator verifier' to judge"
        )
    await serve(settings, lifecycle, GramineQuoter())


async def serve(settings: Settings, lifecycle: Lifecycle, quoter: Quoter) -> None:
    """Run the verifier until told to stop, then drain."""
    async with assembled(settings, lifecycle, quoter) as server:
        lag.spare_collections()
        await server.run()


@asynccontextmanager
async def assembled(settings: Settings, lifecycle: Lifecycle, quoter: Quoter | None = None) -> AsyncIterator[Server]:
    """The verifier's server with all behind it, bound and not yet answering.

    Args:
        settings: Of the service.
        lifecycle: Of the process.
        quoter: For the verifier's own evidence; Gramine's if not given, which outside an enclave says that it has none.

    Raises:
        NotReady: A file is missing, not what it should be, or open to others, or the policy names no code; the message
            says which.
    """
    async with AsyncExitStack() as stack:
        grounds = await stack.enter_async_context(opened_grounds(settings))
        metrics = Metrics()
        kept = await stack.enter_async_context(_remembered(settings, grounds, lifecycle, metrics))
        judge = await stack.enter_async_context(judging(grounds.anchor, settings.appraisal_processes, lifecycle))
        await stack.enter_async_context(exporter(settings.metrics_listen, metrics.registry, lifecycle.ready))
        revoker = Revoker(kept.state.revocations, kept.state.attested, kept.audit, orders=kept.orders, now=utc_now)
        standing = _standing(grounds, kept, judge, revoker)
        desk = PolicyDesk(grounds.policies, standing, kept.audit)
        attester = _attester(grounds, kept, quoter or GramineQuoter())
        await stack.enter_async_context(_https(settings, grounds, attester, lifecycle))
        _go_on(settings, grounds, kept, lifecycle, metrics, desk=desk, standing=standing)
        server = await stack.enter_async_context(_listening(settings, grounds.identity, lifecycle, metrics))
        appraiser = _appraiser(settings, grounds, kept, judge, metrics)
        servicer = _servicer(grounds, kept, appraiser, revoker=revoker, desk=desk, attester=attester)
        server.add(add_VerifierServicer_to_server, servicer)
        await server.health.set(SERVICE, True)
        grounds.say_what_counts()
        yield server


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a verifier remembers: on record, of members and collateral, and of the log that it witnesses."""

    audit: AuditLog
    clock: HostClock
    orders: LiftOrders
    state: State
    collateral: CollateralStore
    witness: Witness


@asynccontextmanager
async def _remembered(
    settings: Settings, grounds: Grounds, lifecycle: Lifecycle, metrics: Metrics
) -> AsyncIterator[_Kept]:
    folder, orders = settings.state_dir, lift_orders(settings)
    async with AsyncExitStack() as stack:
        audit = stack.enter_context(AuditLog.opened(folder / "audit.db"))
        clock = HostClock(utc_now)
        clock.start_after(audit.latest_at(ACCEPTED), was_ahead=settings.clock_was_ahead)
        state = await stack.enter_async_context(kept_state(settings, folder, lifecycle, metrics, orders=orders))
        record = CollateralRecord(audit, metrics)
        collateral = collateral_store(settings, grounds.anchor, state.collateral_memory, record, utc_now())
        _show_workers(metrics, state.attested)
        witness = Witness.opened(
            folder,
            settings.cluster,
            audit=audit,
            now=clock.now,
            monotonic=time.monotonic,
            refused=metrics.witness_refused,
        )
        yield _Kept(audit, clock, orders, state, collateral, stack.enter_context(witness))


def _appraiser(settings: Settings, grounds: Grounds, kept: _Kept, judge: Judge, metrics: Metrics) -> Appraiser:
    turns, places = Turns(IN_FLIGHT), Places(time.monotonic)
    metrics.queued.set_function(partial(len, turns))
    metrics.platform_addresses.labels(str(grounds.anchor.simulated).lower()).set_function(places.most)
    return Appraiser(
        audience=str(grounds.identity.spiffe_id),
        policy=grounds.policies.current,
        anchor=grounds.anchor,
        judge=judge,
        turns=turns,
        collateral=kept.collateral,
        ca=grounds.ca,
        signing_keys=grounds.signing_keys,
        nonces=kept.state.challenges,
        attested=kept.state.attested,
        places=places,
        revocations=kept.state.revocations,
        audit=kept.audit,
        disagreements=Disagreements(settings.state_dir / "disagreements"),
        metrics=metrics,
        membership=timedelta(seconds=settings.membership_s),
        clock=kept.clock,
    )


def _standing(grounds: Grounds, kept: _Kept, judge: Judge, revoker: Revoker) -> Standing:
    return Standing(
        attested=kept.state.attested,
        policy=grounds.policies.current,
        endorsed=kept.collateral.current,
        judge=judge,
        expel=partial(revoker.expel, by=str(grounds.identity.spiffe_id)),
        audit=kept.audit,
        now=utc_now,
    )


def _attester(grounds: Grounds, kept: _Kept, quoter: Quoter) -> OwnAttester:
    identity, keys, policies = grounds.identity, grounds.signing_keys, grounds.policies
    return OwnAttester(
        identity.spiffe_id,
        quoter,
        trust=lambda: mesh_trust(identity, keys, policies.current(), grounds.anchor, kept.witness.key),
        collateral=lambda quote: kept.collateral.current(quote, utc_now()).raw,
    )


@asynccontextmanager
async def _https(
    settings: Settings, grounds: Grounds, attester: OwnAttester, lifecycle: Lifecycle
) -> AsyncIterator[None]:
    """What is answered over HTTPS too, where the settings have an address for it."""
    if not settings.https_listen:
        yield
        return
    served = endpoints(
        jwks=grounds.signing_keys.jwks, attester=attester, serving=lambda: not lifecycle.stopping.is_set()
    )
    async with https_server(settings.https_listen, grounds.identity, settings.tls, served, lifecycle=lifecycle):
        yield


def _go_on(
    settings: Settings,
    grounds: Grounds,
    kept: _Kept,
    lifecycle: Lifecycle,
    metrics: Metrics,
    *,
    desk: PolicyDesk,
    standing: Standing,
) -> None:
    """Begin what goes on for as long as the service runs."""
    attested, revocations = kept.state.attested, kept.state.revocations
    lifecycle.spawn(desk.running(), "policy_desk.running")
    lifecycle.spawn(attested.expiring(), "attested.expiring")
    lifecycle.spawn(attested.keeping(), "attested.keeping")
    lifecycle.spawn(revocations.expiring(), "revocations.expiring")
    lifecycle.spawn(_closing(attested, revocations, lifecycle), "watches.closing")
    lifecycle.spawn(_following(grounds.signing_keys, grounds.ca, grounds.identity, revocations), "keys.following")
    keep_fresh(kept.collateral, settings, lifecycle, metrics, review=standing.review, now=utc_now)
    lifecycle.spawn(lag.watching(metrics.loop_lagged), "lag.watching")


def _listening(
    settings: Settings, identity: TlsIdentity, lifecycle: Lifecycle, metrics: Metrics
) -> AbstractAsyncContextManager[Server]:
    return Server.mtls(
        settings.listen,
        identity,
        lifecycle=lifecycle,
        roles=ROLES,
        grace_s=settings.grace_s,
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_concurrent=MAX_WATCHERS + MAX_CALLS,
        on_call=metrics.call_answered,
    )


def _servicer(
    grounds: Grounds, kept: _Kept, appraiser: Appraiser, *, revoker: Revoker, desk: PolicyDesk, attester: OwnAttester
) -> VerifierServicer:
    keys, issuer = grounds.signing_keys, str(grounds.identity.spiffe_id)
    return VerifierServicer(
        appraiser=appraiser,
        nonces=kept.state.challenges,
        attested=kept.state.attested,
        audit=kept.audit,
        policies=grounds.policies,
        policy_desk=desk,
        attester=attester,
        identity=grounds.identity,
        signing_keys=keys,
        revocations=kept.state.revocations,
        revoker=revoker,
        trust=TrustWatch(kept.state.revocations, key_set=keys.key_set, own_keys=keys.keys, issuer=issuer),
        witness=kept.witness,
    )


def _show_workers(metrics: Metrics, attested: AttestedWorkers) -> None:
    for simulated in (False, True):
        gauge = metrics.workers.labels(str(simulated).lower())
        gauge.set_function(partial(attested.count, simulated=simulated))


async def _closing(attested: AttestedWorkers, revocations: Revocations, lifecycle: Lifecycle) -> None:
    """End the watches when the service stops: they would hold the drain up to the end of its grace."""
    await lifecycle.stopping.wait()
    attested.close()
    revocations.close()


async def _following(keys: SigningKeys, ca: MeshCa, identity: TlsIdentity, revocations: Revocations) -> None:
    """Take over new keys and a new authority as they are put in place; relying parties hear of the keys at once."""
    while True:
        await asyncio.sleep(LOOK_S)
        told = keys.key_set()
        await asyncio.to_thread(keys.look)
        if keys.key_set() != told:
            revocations.tell_again()
        await asyncio.to_thread(ca.look, identity.trust_roots)
