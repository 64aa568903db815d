from __future__ import annotations

import asyncio
import hashlib

import pytest

from cloister.errors import ChallengeExpired, InvalidRequest
from cloister.verifier.nonces import Challenge, Nonces, Purpose
from fakes.results import Clock

KEY = hashlib.sha256(b"a TLS key").digest()
PEER = "spiffe://demo.cloister.internal/enrol/enrol"
OTHER = "spiffe://demo.cloister.internal/worker/w"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nonces(clock: Clock) -> Nonces:
    return Nonces(ttl_s=60, monotonic=clock, capacity=8, per_peer=3)


async def test_a_challenge_serves_once(nonces: Nonces) -> None:
    issued = await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=KEY)
    assert len(issued.nonce) == 32
    assert await nonces.consume(issued.challenge_id, peer=PEER, tls_spki_sha256=KEY) == issued
    with pytest.raises(ChallengeExpired):
        await nonces.consume(issued.challenge_id, peer=PEER, tls_spki_sha256=KEY)


async def test_the_purpose_comes_back_as_it_was_asked_for(nonces: Nonces) -> None:
    issued = await nonces.issue(Purpose.KEY_RELEASE, peer=PEER, tls_spki_sha256=KEY)
    taken = await nonces.consume(issued.challenge_id, peer=PEER, tls_spki_sha256=KEY)
    assert taken.purpose is Purpose.KEY_RELEASE
    assert taken.purpose.audience == "provisioner"


@pytest.mark.attack("D02")
@pytest.mark.parametrize(
    ("peer", "key"), [(OTHER, KEY), (PEER, hashlib.sha256(b"another key").digest())], ids=["peer", "key"]
)
async def test_another_caller_or_key_uses_it_up_and_gets_nothing(nonces: Nonces, peer: str, key: bytes) -> None:
    issued = await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=KEY)
    with pytest.raises(ChallengeExpired):
        await nonces.consume(issued.challenge_id, peer=peer, tls_spki_sha256=key)
    with pytest.raises(ChallengeExpired):
        await nonces.consume(issued.challenge_id, peer=PEER, tls_spki_sha256=KEY)


@pytest.mark.attack("D02")
async def test_time_ends_a_challenge(nonces: Nonces, clock: Clock) -> None:
    kept = await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=KEY)
    late = await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=KEY)
    clock.pass_s(59)
    await nonces.consume(kept.challenge_id, peer=PEER, tls_spki_sha256=KEY)
    clock.pass_s(1)
    with pytest.raises(ChallengeExpired):
        await nonces.consume(late.challenge_id, peer=PEER, tls_spki_sha256=KEY)


@pytest.mark.attack("D10")
async def test_a_restart_voids_all_challenges(nonces: Nonces, clock: Clock) -> None:
    issued = await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=KEY)
    restarted = Nonces(ttl_s=60, monotonic=clock)
    with pytest.raises(ChallengeExpired):
        await restarted.consume(issued.challenge_id, peer=PEER, tls_spki_sha256=KEY)


async def test_a_peer_crowds_out_its_own_oldest_only(nonces: Nonces) -> None:
    good = await nonces.issue(Purpose.MESH, peer=OTHER, tls_spki_sha256=KEY)
    first, *rest = [await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=KEY) for _ in range(4)]
    with pytest.raises(ChallengeExpired):
        await nonces.consume(first.challenge_id, peer=PEER, tls_spki_sha256=KEY)
    for challenge in rest:
        await nonces.consume(challenge.challenge_id, peer=PEER, tls_spki_sha256=KEY)
    await nonces.consume(good.challenge_id, peer=OTHER, tls_spki_sha256=KEY)


async def test_a_full_store_takes_from_whoever_holds_most(nonces: Nonces) -> None:
    good = await nonces.issue(Purpose.MESH, peer=OTHER, tls_spki_sha256=KEY)
    for peer in ("a", "b", "c"):
        for _ in range(3):
            await nonces.issue(Purpose.MESH, peer=peer, tls_spki_sha256=KEY)
    assert len(nonces) == 8
    await nonces.consume(good.challenge_id, peer=OTHER, tls_spki_sha256=KEY)


async def test_what_has_expired_is_forgotten(nonces: Nonces, clock: Clock) -> None:
    for _ in range(3):
        await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=KEY)
    clock.pass_s(61)
    await nonces.issue(Purpose.MESH, peer=OTHER, tls_spki_sha256=KEY)
    assert len(nonces) == 1


@pytest.mark.attack("D01")
async def test_of_200_concurrent_uses_one_succeeds(nonces: Nonces) -> None:
    issued = await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=KEY)
    gate = asyncio.Event()

    async def use() -> Challenge | None:
        await gate.wait()
        try:
            return await nonces.consume(issued.challenge_id, peer=PEER, tls_spki_sha256=KEY)
        except ChallengeExpired:
            return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(use()) for _ in range(200)]
        gate.set()
    assert [task.result() for task in tasks if task.result()] == [issued]


async def test_a_hash_of_another_length_is_refused(nonces: Nonces) -> None:
    with pytest.raises(InvalidRequest):
        await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=b"short")


async def test_a_challenge_does_not_show_its_nonce(nonces: Nonces) -> None:
    issued = await nonces.issue(Purpose.MESH, peer=PEER, tls_spki_sha256=KEY)
    assert repr(issued.nonce)[2:10] not in repr(issued)
