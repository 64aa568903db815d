"""The contract of `Challenges`, kept by the store in memory and by the one in Redis (attacks D01, D02, D11)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloister.errors import ChallengeExpired, InvalidRequest
from cloister.verifier.nonces import Challenge, Challenges, Nonces, Purpose
from fakes.pki import MeshPki
from fakes.redis_server import redis_running
from fakes.replicas import replica
from fakes.results import Clock

KEY, OTHER_KEY = hashlib.sha256(b"a TLS key").digest(), hashlib.sha256(b"another").digest()
FLOODING, GOOD = "spiffe://demo.cloister.internal/enrol/main", "spiffe://demo.cloister.internal/worker/w"
CAPACITY, PER_PEER = 60, 20


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, pki: MeshPki) -> AsyncIterator[Challenges]:
    if request.param == "memory":
        yield Nonces(ttl_s=60, monotonic=Clock(), capacity=CAPACITY, per_peer=PER_PEER)
        return
    with redis_running(tmp_path / "redis", pki) as server:
        async with replica(server, capacity=CAPACITY, per_peer=PER_PEER) as one:
            yield one.nonces


async def issued(store: Challenges, peer: str = GOOD) -> Challenge:
    return await store.issue(Purpose.MESH, peer=peer, tls_spki_sha256=KEY)


async def is_held(store: Challenges, challenge: Challenge) -> bool:
    try:
        return await store.consume(challenge.challenge_id, peer=challenge.peer, tls_spki_sha256=KEY) == challenge
    except ChallengeExpired:
        return False


@pytest.mark.attack("D01")
async def test_a_challenge_serves_once(store: Challenges) -> None:
    challenge = await issued(store)
    assert await is_held(store, challenge)
    assert not await is_held(store, challenge)


@pytest.mark.attack("D01")
async def test_of_1000_uses_at_once_one_succeeds(store: Challenges) -> None:
    challenge = await issued(store)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(is_held(store, challenge)) for _ in range(1000)]
    assert sum(task.result() for task in tasks) == 1


@pytest.mark.attack("D02")
@pytest.mark.parametrize(("peer", "key"), [(FLOODING, KEY), (GOOD, OTHER_KEY)], ids=["peer", "key"])
async def test_another_caller_or_key_uses_it_up_and_gets_nothing(store: Challenges, peer: str, key: bytes) -> None:
    challenge = await issued(store)
    with pytest.raises(ChallengeExpired):
        await store.consume(challenge.challenge_id, peer=peer, tls_spki_sha256=key)
    assert not await is_held(store, challenge)


@pytest.mark.parametrize("challenge_id", [b"", bytes(16), bytes(17), b"*" * 16])
async def test_what_was_never_issued_is_refused(store: Challenges, challenge_id: bytes) -> None:
    with pytest.raises(ChallengeExpired):
        await store.consume(challenge_id, peer=GOOD, tls_spki_sha256=KEY)


async def test_a_hash_of_another_length_is_refused(store: Challenges) -> None:
    with pytest.raises(InvalidRequest):
        await store.issue(Purpose.MESH, peer=GOOD, tls_spki_sha256=b"short")


@pytest.mark.attack("D11")
async def test_a_peer_that_asks_and_asks_crowds_out_its_own_oldest(store: Challenges) -> None:
    good = await issued(store)
    made = [await issued(store, FLOODING) for _ in range(3 * PER_PEER)]
    held = [challenge for challenge in made if await is_held(store, challenge)]
    assert held == made[-PER_PEER:]
    assert await is_held(store, good)


@pytest.mark.attack("D11")
async def test_many_peers_that_ask_and_ask_leave_the_good_ones_alone(store: Challenges) -> None:
    good = await issued(store)
    made = [await issued(store, f"{FLOODING}{number % 7}") for number in range(200)]
    held = [challenge for challenge in made if await is_held(store, challenge)]
    assert len(held) == CAPACITY - 1
    assert await is_held(store, good)
