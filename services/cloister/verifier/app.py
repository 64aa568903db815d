"""The verifier, wired: what `cloister-verifier` runs, and the simulator's program under a root of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cloister.api.v1.verifier_pb2_grpc import add_VerifierServicer_to_server
from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.errors import InvalidRequest, NotReady
from cloister.evidence.gramine import GramineQuoter
from cloister.evidence.quoter import Quoter
from cloister.kit import lag
from cloister.kit.audit import AuditLog
from cloister.kit.config import settings_error
from cloister.kit.exporter import exporter
from cloister.kit.host_clock import HostClock
from cloister.kit.https import https_server
from cloister.kit.key_set import KeySigners
from cloister.kit.lifecycle import Lifecycle
from cloister.kit.log import get_logger
from cloister.kit.metrics import Metrics
from cloister.kit.server import Server
from cloister.rpc.identity import TlsIdentity
from cloister.verifier.appraiser import ACCEPTED, Appraiser
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.collateral_record import CollateralRecord
from cloister.verifier.disagreements import Disagreements
from cloister.verifier.endorsing import collateral_store, keep_fresh
from cloister.verifier.endpoints import endpoints
from cloister.verifier.judge_pool import judging
from cloister.verifier.lift_orders import lift_orders
from cloister.verifier.mesh_ca import MeshCa
from cloister.verifier.own_evidence import OwnAttester, mesh_trust
from cloister.verifier.places import Places
from cloister.verifier.policy_desk import PolicyDesk
from cloister.verifier.policy_in_force import PolicyInForce, Signers
from cloister.verifier.revocations import Revocations
from cloister.verifier.revoker import Revoker
from cloister.verifier.servicer import ROLES, SERVICE, VerifierServicer
from cloister.verifier.settings import Settings
from cloister.verifier.signing_keys import LOOK_S, KeyRing, PinnedKey, SigningKeys
from cloister.verifier.standing import Standing
from cloister.verifier.state import kept_state
from cloister.verifier.trust_watch import MAX_WATCHERS, TrustWatch
from cloister.verifier.turns import Turns
from cloister.verifier.witness import Witness

SIMULATED_ANCHOR = "simulated"
MAX_MESSAGE_BYTES = 4 << 20
# Besides the watches: every worker of the mesh keeps one open. A thousand workers that renew at once wait in `Turns`,
# which knows whom to serve first, and not before it.
MAX_CALLS = 4096
# Answers under way at once: enough that judging, signing and one write to disk for all of them overlap.
IN_FLIGHT = 32

_log = get_logger()


def utc_now() -> datetime:
    """The present, aware."""
    return datetime.now(UTC)


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
        anchor = trust_anchor(settings.anchor_root)
        signers = Signers(keys=settings.policy_signers, threshold=settings.policy_threshold)
        policies = PolicyInForce.opened(settings.policy, signers=signers, anchor=anchor, folder=settings.state_dir)
        ca = MeshCa.opened(settings.ca_certificate, settings.ca_private_key, cluster=settings.cluster)
        identity = await stack.enter_async_context(TlsIdentity.watching(settings.tls))
        signing_keys = opened_keys(settings, issuer=str(identity.spiffe_id))
        folder = private_folder(settings.state_dir)
        policies.remember()
        audit = stack.enter_context(AuditLog.opened(folder / "audit.db"))
        clock = HostClock(utc_now)
        clock.start_after(audit.latest_at(ACCEPTED), was_ahead=settings.clock_was_ahead)
        metrics = Metrics()
        orders = lift_orders(settings)
        kept = kept_state(settings, folder, lifecycle, metrics, orders=orders)
        state = await stack.enter_async_context(kept)
        nonces, attested, revocations = state.challenges, state.attested, state.revocations
        collateral = collateral_store(
            settings, anchor, state.collateral_memory, CollateralRecord(audit, metrics), utc_now()
        )
        places = Places(time.monotonic)
        _show_workers(metrics, attested, places, anchor)
        witness = stack.enter_context(
            Witness.opened(
                folder,
                settings.cluster,
                audit=audit,
                now=clock.now,
                monotonic=time.monotonic,
                refused=metrics.witness_refused,
            )
        )
        turns = Turns(IN_FLIGHT)
        metrics.queued.set_function(partial(len, turns))
        judge = await stack.enter_async_context(judging(anchor, settings.appraisal_processes, lifecycle))
        await stack.enter_async_context(exporter(settings.metrics_listen, metrics.registry, lifecycle.ready))
        appraiser = Appraiser(
            audience=str(identity.spiffe_id),
            policy=policies.current,
            anchor=anchor,
            judge=judge,
            turns=turns,
            collateral=collateral,
            ca=ca,
            signing_keys=signing_keys,
            nonces=nonces,
            attested=attested,
            places=places,
            revocations=revocations,
            audit=audit,
            disagreements=Disagreements(folder / "disagreements"),
            metrics=metrics,
            membership=timedelta(seconds=settings.membership_s),
            clock=clock,
        )
        revoker = Revoker(revocations, attested, audit, orders=orders, now=utc_now)
        standing = Standing(
            attested=attested,
            policy=policies.current,
            endorsed=collateral.current,
            judge=judge,
            expel=partial(revoker.expel, by=str(identity.spiffe_id)),
            audit=audit,
            now=utc_now,
        )
        policy_desk = PolicyDesk(policies, standing, audit)
        lifecycle.spawn(policy_desk.running(), "policy_desk.running")
        attester = OwnAttester(
            identity.spiffe_id,
            quoter or GramineQuoter(),
            trust=lambda: mesh_trust(identity, signing_keys, policies.current(), anchor, witness.key),
            collateral=lambda quote: collateral.current(quote, utc_now()).raw,
        )
        if settings.https_listen:
            served = endpoints(
                jwks=signing_keys.jwks, attester=attester, serving=lambda: not lifecycle.stopping.is_set()
            )
            https = https_server(settings.https_listen, identity, settings.tls, served, lifecycle=lifecycle)
            await stack.enter_async_context(https)
        lifecycle.spawn(attested.expiring(), "attested.expiring")
        lifecycle.spawn(attested.keeping(), "attested.keeping")
        lifecycle.spawn(revocations.expiring(), "revocations.expiring")
        lifecycle.spawn(_closing(attested, revocations, lifecycle), "watches.closing")
        lifecycle.spawn(_following(signing_keys, ca, identity, revocations), "keys.following")
        keep_fresh(collateral, settings, lifecycle, metrics, review=standing.review, now=utc_now)
        lifecycle.spawn(lag.watching(metrics.loop_lagged), "lag.watching")
        server = await stack.enter_async_context(
            Server.mtls(
                settings.listen,
                identity,
                lifecycle=lifecycle,
                roles=ROLES,
                grace_s=settings.grace_s,
                max_message_bytes=MAX_MESSAGE_BYTES,
                max_concurrent=MAX_WATCHERS + MAX_CALLS,
                on_call=metrics.call_answered,
            )
        )
        servicer = VerifierServicer(
            appraiser=appraiser,
            nonces=nonces,
            attested=attested,
            audit=audit,
            policies=policies,
            policy_desk=policy_desk,
            attester=attester,
            identity=identity,
            signing_keys=signing_keys,
            revocations=revocations,
            revoker=revoker,
            trust=TrustWatch(
                revocations,
                key_set=signing_keys.key_set,
                own_keys=signing_keys.keys,
                issuer=str(identity.spiffe_id),
            ),
            witness=witness,
        )
        server.add(add_VerifierServicer_to_server, servicer)
        await server.health.set(SERVICE, True)
        _say_what_counts(anchor, policies.current(), signers)
        yield server


def trust_anchor(root: Path | None) -> TrustAnchor:
    """Intel's SGX root, or the one in a file, which is simulated unless it is Intel's after all.

    Raises:
        NotReady: The file is not the root certificate of a trust anchor.
    """
    if root is None:
        return INTEL_SGX
    try:
        root_der = root.read_bytes()
        if root_der == INTEL_SGX.root_der:
            return INTEL_SGX
        return TrustAnchor(SIMULATED_ANCHOR, root_der)
    except OSError as error:
        raise NotReady(f"anchor_root {root} cannot be read: {error.strerror}", reason="anchor.refused") from error
    except InvalidRequest as error:
        raise NotReady(f"anchor_root {root}: {error}", reason="anchor.refused") from error


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


def _say_what_counts(anchor: TrustAnchor, policy: Policy, signers: Signers) -> None:
    _log.info("policy.in_force", policy_id=policy.policy_id, version=policy.version, digest=policy.digest.hex())
    if anchor.simulated:
        _log.warning("anchor.simulated", anchor=anchor.name, meaning="results say nothing about hardware")
    elif not signers.keys:
        _log.warning("policy.unsigned", meaning="whoever can write the policy's file decides what is believed")
    if not policy.pins_code:
        _log.warning("policy.unpinned", policy_id=policy.policy_id, meaning="results say nothing about code")


def opened_keys(settings: Settings, *, issuer: str) -> SigningKeys:
    """What results are signed with: the one key that others pin, or a ring that they follow."""
    if settings.signing_key is not None:
        return PinnedKey.opened(settings.signing_key)
    assert settings.signing_keys is not None  # the settings have one or the other
    signers = KeySigners(frozenset(settings.key_signers), settings.key_threshold)
    return KeyRing(settings.signing_keys, signers, issuer=issuer, now=utc_now)


def _show_workers(metrics: Metrics, attested: AttestedWorkers, places: Places, anchor: TrustAnchor) -> None:
    metrics.platform_addresses.labels(str(anchor.simulated).lower()).set_function(places.most)
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
