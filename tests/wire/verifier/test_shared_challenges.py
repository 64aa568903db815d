"""Challenges of several replicas: once, whatever Redis becomes in the meantime (attacks D01, D10, D11, H03, H04)."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from cloister.errors import ChallengeExpired, Unavailable
from cloister.verifier.nonces import Challenge, Purpose
from fakes.redis_server import RedisServer
from fakes.replicas import PREFIX, Replica, replica

KEY = hashlib.sha256(b"a TLS key").digest()
PEER = "spiffe://demo.cloister.internal/enrol/main"


async def issued(at: Replica, purpose: Purpose = Purpose.MESH) -> Challenge:
    return await at.nonces.issue(purpose, peer=PEER, tls_spki_sha256=KEY)


async def used(at: Replica, challenge: Challenge) -> Challenge:
    return await at.nonces.consume(challenge.challenge_id, peer=PEER, tls_spki_sha256=KEY)


async def test_what_one_issues_another_consumes_as_it_was(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await a.settle()
        challenge = await issued(a, Purpose.KEY_RELEASE)
        assert await used(b, challenge) == challenge


@pytest.mark.attack("D01")
async def test_of_1000_parallel_uses_over_two_replicas_one_succeeds(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await a.settle()
        challenge = await issued(a)

        async def attempt(at: Replica) -> Challenge | None:
            try:
                return await used(at, challenge)
            except ChallengeExpired:
                return None

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempt((a, b)[number % 2])) for number in range(1000)]
        assert [task.result() for task in tasks if task.result()] == [challenge]


@pytest.mark.attack("D10")
@pytest.mark.attack("H03")
async def test_a_redis_set_back_in_place_revives_nothing(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await a.settle()
        challenge = await issued(a)
        older = redis_server.dumped()
        assert await used(b, challenge)
        await a.settle()
        for at in (a, b):
            redis_server.set_back(older)
            with pytest.raises((ChallengeExpired, Unavailable)):
                await used(at, challenge)
        assert f"{PREFIX}challenge:{challenge.challenge_id.hex()}".encode() in older
