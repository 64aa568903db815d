"""Two verifiers over one Redis, as a worker and a gateway meet them (attacks C10, D01, D10, J14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.ear import SigningKey
from cloister.errors import ChallengeExpired, EvidenceRejected, Unavailable
from cloister.rpc.channel import Peer
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer
from fakes.running_services import CALL_S, Running, WireWorker, running_verifier, verifier_settings

Two = tuple[Running, Running]
GONE, CURRENT, JOINED = pb.AttestedEvent.KIND_GONE, pb.AttestedEvent.KIND_CURRENT, pb.AttestedEvent.KIND_JOINED


@pytest.fixture
async def two(
    tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey, redis_server: RedisServer
) -> AsyncIterator[Two]:
    @asynccontextmanager
    async def one(name: str) -> AsyncIterator[Running]:
        settings = verifier_settings(tmp_path / name, pki, platform, signing_key, redis=redis_server.settings())
        async with running_verifier(settings, pki) as running:
            yield running

    async with one("a") as a, one("b") as b:
        yield a, b


def stub_of(peer: Peer) -> Any:
    return peer.stub(VerifierStub)


async def challenged(at: Running, worker: WireWorker) -> pb.ChallengeResponse:
    async with at.as_role("enrol") as enrol:
        return await worker.challenge(stub_of(enrol), pb.PURPOSE_MESH)


async def answered(at: Running, request: pb.AppraiseRequest) -> pb.AppraiseResponse:
    async with at.as_role("enrol") as enrol:
        answer: pb.AppraiseResponse = await stub_of(enrol).Appraise(request, timeout=CALL_S)
        return answer


async def joined(issuer: Running, consumer: Running, worker: WireWorker) -> pb.AppraiseResponse:
    """A challenge from one and an answer to the other, begun again as a worker begins again."""
    async with asyncio.timeout(CALL_S):
        while True:
            try:
                return await answered(consumer, worker.answer(await challenged(issuer, worker)))
            except (ChallengeExpired, Unavailable):
                await asyncio.sleep(0.1)


async def test_a_worker_that_asks_one_and_answers_the_other_is_known_to_both(two: Two, worker: WireWorker) -> None:
    a, b = two
    async with a.as_role("gateway") as gateway:
        events = aiter(stub_of(gateway).WatchAttested(pb.WatchAttestedRequest(), timeout=CALL_S))
        assert (await anext(events)).kind == CURRENT
        mesh = await joined(a, b, worker)
        async with asyncio.timeout(1.0):
            event = await anext(events)
        assert (event.kind, event.worker.instance) == (JOINED, worker.instance)
        assert event.worker.bundle.attestation_result == mesh.attestation_result
        async with b.peer(worker.identity(mesh.certificate_chain)) as member:
            await stub_of(member).Leave(pb.LeaveRequest(), timeout=CALL_S)
        async with asyncio.timeout(1.0):
            gone = await anext(events)
        assert (gone.kind, gone.reason) == (GONE, "left")


@pytest.mark.attack("D01")
async def test_one_piece_of_evidence_sent_to_both_many_times_is_believed_once(two: Two, worker: WireWorker) -> None:
    await joined(*two, WireWorker(worker.pki, worker.platform))
    request = worker.answer(await challenged(two[0], worker))

    async def attempt(peer: Peer) -> bool:
        try:
            await stub_of(peer).Appraise(request, timeout=CALL_S)
        except ChallengeExpired:
            return False
        return True

    async with two[0].as_role("enrol") as first, two[1].as_role("enrol") as second, asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempt((first, second)[number % 2])) for number in range(100)]
    assert sum(task.result() for task in tasks) == 1


@pytest.mark.attack("C10")
async def test_a_fork_of_an_instance_is_refused_by_the_other_verifier_too(two: Two, worker: WireWorker) -> None:
    a, b = two
    await joined(a, a, worker)
    fork = WireWorker(worker.pki, worker.platform, instance=worker.instance)
    with pytest.raises(EvidenceRejected):
        await joined(b, b, fork)
    async with b.as_role("auditor") as auditor:
        listed = stub_of(auditor).ListAppraisals(pb.ListAppraisalsRequest(), timeout=CALL_S)
        assert b'"instance.keys_changed"' in [entry.record async for entry in listed][-1]


@pytest.mark.attack("D10")
async def test_without_redis_no_challenge_and_members_stay(
    two: Two, worker: WireWorker, redis_server: RedisServer
) -> None:
    a, b = two
    await joined(a, b, worker)
    outstanding = worker.answer(await challenged(a, worker))
    older = redis_server.saved()
    redis_server.kill()
    with pytest.raises(Unavailable):
        await challenged(a, worker)
    async with b.as_role("gateway") as gateway:
        events = aiter(stub_of(gateway).WatchAttested(pb.WatchAttestedRequest(), timeout=CALL_S))
        assert (await anext(events)).worker.instance == worker.instance
    redis_server.restart_from(older)
    await joined(a, b, WireWorker(worker.pki, worker.platform))
    with pytest.raises(ChallengeExpired):
        await answered(b, outstanding)


async def told(trust: AsyncIterator[pb.TrustEvent]) -> list[str]:
    """What is revoked, as soon as there is news, which is within a second."""
    async with asyncio.timeout(1.0):
        while not (event := await anext(trust)).listed:
            pass
    return [each.value for each in event.revocations]


@pytest.mark.attack("J14")
async def test_what_is_revoked_at_one_is_refused_by_the_other_until_it_is_lifted_anywhere(
    two: Two, worker: WireWorker
) -> None:
    a, b = two
    what = {"kind": pb.REVOCATION_KIND_MEASUREMENT, "value": worker.enclave.mrenclave.hex(), "reason": "a drill"}
    another = WireWorker(worker.pki, worker.platform)
    async with (
        a.as_role("operator") as operator_a,
        b.as_role("operator") as operator_b,
        a.as_role("gateway") as gateway_a,
        b.as_role("gateway") as gateway_b,
    ):
        await joined(a, b, worker)
        members = aiter(stub_of(gateway_b).WatchAttested(pb.WatchAttestedRequest(), timeout=CALL_S))
        assert [(await anext(members)).kind for _ in range(2)] == [JOINED, CURRENT]
        trust_a, trust_b = (
            aiter(stub_of(gateway).WatchTrust(pb.WatchTrustRequest(), timeout=CALL_S))
            for gateway in (gateway_a, gateway_b)
        )
        assert await told(trust_a) == await told(trust_b) == []
        await stub_of(operator_a).Revoke(pb.RevokeRequest(**what), timeout=CALL_S)
        assert await told(trust_b) == await told(trust_a) == [what["value"]]
        gone = await anext(members)
        assert (gone.kind, gone.worker.instance, gone.reason) == (GONE, worker.instance, "revoked")
        with pytest.raises(EvidenceRejected):
            await joined(b, b, another)
        await stub_of(operator_b).LiftRevocation(pb.LiftRevocationRequest(**what), timeout=CALL_S)
        assert await told(trust_a) == []
        await joined(a, a, another)
