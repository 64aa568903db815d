"""The worker, wired: `cloister-worker` with the quotes of its platform, and the simulator's program with its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from cloister.api.v1.worker_pb2_grpc import add_WorkerServicer_to_server
from cloister.evidence.platform_quoter import platform_quoter
from cloister.evidence.quoter import Quoter
from cloister.kit import environment, lag
from cloister.kit.lifecycle import Lifecycle, abandon
from cloister.kit.log import get_logger
from cloister.kit.server import Health, Server
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.rpc.spiffe import server_name
from cloister.seal.hpke import KeyPair
from cloister.seal.job_worker import JobOpener
from cloister.seal.session import WorkerSessions
from cloister.worker.answers import Answers
from cloister.worker.attester import Attester, OwnResult
from cloister.worker.clock import MeshClock
from cloister.worker.epochs import KeyRotation
from cloister.worker.job_epochs import JobStatements
from cloister.worker.job_keys import JobKeys
from cloister.worker.keeper import ModelKeeper
from cloister.worker.keys import WorkerKeys
from cloister.worker.lease_news import LeaseNews
from cloister.worker.loader import Loader
from cloister.worker.membership import Membership
from cloister.worker.memory import MemoryBudget
from cloister.worker.model_folder import ModelFolder
from cloister.worker.release import KeyRelease
from cloister.worker.repository import Repository
from cloister.worker.revocation import watching
from cloister.worker.served import ServedModels
from cloister.worker.servicer import ROLES, SERVICE, WorkerServicer
from cloister.worker.settings import Settings, WantedModel
from cloister.worker.shares import Shares
from cloister.worker.tuning import Tunings
from cloister.worker.verifier_keys import VerifierKeys

_log = get_logger()


async def serve_genuine(settings: Settings, lifecycle: Lifecycle) -> None:
    """Run the worker with the quotes of the platform it is on; there are no others in production.

    Raises:
        NotReady: This process runs in no enclave and in no trust domain (`enclave.absent`).
    """
    tee, quoter = platform_quoter(hung=abandon)
    _log.info("quoter.chosen", tee=tee, enclave=environment.label())
    await serve(settings, lifecycle, quoter)


async def serve(settings: Settings, lifecycle: Lifecycle, quoter: Quoter, tunings: Tunings | None = None) -> None:
    """Attest, join the mesh, serve models until told to stop, then drain and leave.

    Args:
        settings: Of this worker.
        lifecycle: Of this process.
        quoter: Of this platform.
        tunings: Where what suits each model is measured and kept; a new one if None.

    Raises:
        NotReady: This platform makes no quotes, or a file is missing.
        EvidenceRejected: The verifier does not believe this worker.
        ClockJumped: The verifier's time and the host's counter disagree.
    """
    keys, clock = WorkerKeys.fresh(), MeshClock()
    sessions, rotation = _sealing(settings, keys, clock)
    statements = JobStatements(settings.cluster, keys.instance, keys.receipt, clock.now)
    served = ServedModels(clock.counter_s, statements.of)
    verifier_name = server_name(settings.cluster, "verifier")
    provisioner_name = server_name(settings.cluster, "provisioner")
    async with AsyncExitStack() as stack:
        enrol = await stack.enter_async_context(TlsIdentity.watching(settings.tls))
        pinned = VerifierKeys.read(
            settings.verifier_keys, settings.signers, issuer=settings.audience, monotonic=clock.counter_s
        )
        attester = Attester(
            keys,
            quoter,
            cluster=settings.cluster,
            audience=settings.audience,
            verifier_keys=pinned,
            config_digest=settings.digest(enrol.trust_roots, pinned.pinned),
            endpoint=settings.endpoint or settings.listen,
        )
        async with Peer(settings.verifier, enrol, verifier_name) as asked:
            joining = Membership.join(attester, clock, rotation, asked, enrol.trust_roots)
            member = await lifecycle.unless_stopped(joining)
        if member is None:
            return
        statements.attested(member.result.ear_id)
        verifier = await stack.enter_async_context(Peer(settings.verifier, member.identity, verifier_name))
        provisioner = await stack.enter_async_context(Peer(settings.provisioner, member.identity, provisioner_name))
        server = await stack.enter_async_context(
            Server.mtls(
                settings.listen,
                member.identity,
                lifecycle=lifecycle,
                roles=ROLES,
                grace_s=settings.grace_s,
                now_s=lambda: clock.now().timestamp(),
            )
        )
        releases = KeyRelease(
            attester,
            clock,
            hpke_suite=settings.hpke_suite,
            owners=settings.owner_keys,
            verifier=verifier,
            provisioner=provisioner,
        )
        repository = _repository(settings, lifecycle, releases, served, clock, tunings or Tunings())
        job_keys = JobKeys(
            served,
            now=clock.now,
            counter_s=clock.counter_s,
            renew=repository.renew,
            dropped=lambda key_id: jobs.drop(key_id),
        )
        jobs = JobOpener(job_keys.pair, settings.cluster)
        answers = Answers(
            served,
            sessions,
            jobs,
            clock,
            keys.receipt,
            vouched=lambda: member.result,
            instance=keys.instance,
            max_message_bytes=settings.max_message_bytes,
            drop_ended=rotation.drop_ended,
        )
        shares = Shares(settings.slots)
        lifecycle.spawn(shares.dividing(), "slots")
        server.add(
            add_WorkerServicer_to_server,
            WorkerServicer(
                answers,
                served,
                repository,
                shares=shares,
                tenants_apart=settings.tenants_apart,
                stopping=lifecycle.stopping,
                clock=clock,
            ),
        )
        lifecycle.spawn(clock.watching(), "clock")

        def renewed(result: OwnResult) -> None:
            statements.attested(result.ear_id)
            served.tell_news()

        lifecycle.spawn(member.renewing(verifier, renewed), "membership")
        lifecycle.spawn(job_keys.looking(), "job keys")
        lifecycle.spawn(rotation.dropping(), "old keys dropped")
        lifecycle.spawn(answers.conversations.forgetting(), "old conversations dropped")

        def learn(key_set: bytes) -> None:
            pinned.learn(key_set)
            if not pinned.knows(member.result.token):  # the verifier's key before was disowned
                member.renew_soon()

        listening = watching(verifier, token=lambda: member.result.token, learn=learn, monotonic=clock.counter_s)
        lifecycle.spawn(listening, "revocation")
        lifecycle.spawn(LeaseNews(repository).follow(provisioner), "leases")
        lifecycle.spawn(_report(server.health, served), "health")
        for wanted in settings.wanted:
            repository.want(wanted)
        lifecycle.spawn(repository.run(), "repository")
        lag.spare_collections()
        async with asyncio.TaskGroup() as group:
            group.create_task(_leave(member, verifier, lifecycle.stopping), name="leaving")
            await server.run()


def _sealing(settings: Settings, keys: WorkerKeys, clock: MeshClock) -> tuple[WorkerSessions, KeyRotation]:
    """The first key pair is held by these two alone: a name for it in `serve` would keep it for good."""
    first = KeyPair.generate(settings.hpke_suite)
    sessions = WorkerSessions(first, settings.cluster, keys.instance)
    overlap_s = settings.key_overlap_s
    return sessions, KeyRotation(first, sessions.epochs, overlap_s=overlap_s, counter_s=clock.counter_s)


def _repository(
    settings: Settings,
    lifecycle: Lifecycle,
    releases: KeyRelease,
    served: ServedModels,
    clock: MeshClock,
    tunings: Tunings,
) -> Repository:
    folder, memory = ModelFolder(settings.models_dir), MemoryBudget(settings.memory_bytes)
    loader = Loader(settings.models_dir, settings.threads, settings.slots, settings.max_batch_rows, tunings)

    def keeper(wanted: WantedModel) -> ModelKeeper:
        return ModelKeeper(
            wanted,
            releases=releases,
            load=loader.load,
            served=served,
            counter_s=clock.counter_s,
            memory=memory,
            sealed_bytes=folder.size_bytes,
        )

    return Repository(keeper, lifecycle.spawn, folder, loadable=settings.loadable)


async def _report(health: Health, served: ServedModels) -> None:
    """Health is SERVING while at least one model is served."""
    changed = asyncio.Event()
    with served.watching(changed.set):
        while True:
            for name in ("", SERVICE):
                await health.set(name, bool(len(served)))
            await changed.wait()
            changed.clear()


async def _leave(member: Membership, verifier: Peer, stopping: asyncio.Event) -> None:
    """Gateways send nothing new once they hear that we go, and let what is under way finish."""
    await stopping.wait()
    await member.leave(verifier)
