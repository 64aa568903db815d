from __future__ import annotations

import asyncio

import pytest

from cloister.errors import ChallengeExpired
from cloister.provisioner.releases.nonces import Nonces
from fakes.results import Clock

KEY = b"k" * 32
PEER = "spiffe://demo.cloister.internal/worker/a"
OTHER = "spiffe://demo.cloister.internal/worker/b"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nonces(clock: Clock) -> Nonces:
    return Nonces(ttl_s=60, monotonic=clock, capacity=8, per_peer=3)


def test_a_nonce_serves_once(nonces: Nonces) -> None:
    nonce = nonces.issue(peer=PEER, tls_spki_sha256=KEY)
    assert len(nonce) == 32
    nonces.consume(nonce, peer=PEER, tls_spki_sha256=KEY)
    with pytest.raises(ChallengeExpired):
        nonces.consume(nonce, peer=PEER, tls_spki_sha256=KEY)


@pytest.mark.parametrize(("peer", "key"), [(OTHER, KEY), (PEER, b"x" * 32)], ids=["peer", "key"])
def test_another_caller_uses_it_up_and_gets_nothing(nonces: Nonces, peer: str, key: bytes) -> None:
    nonce = nonces.issue(peer=PEER, tls_spki_sha256=KEY)
    with pytest.raises(ChallengeExpired):
        nonces.consume(nonce, peer=peer, tls_spki_sha256=key)
    with pytest.raises(ChallengeExpired):
        nonces.consume(nonce, peer=PEER, tls_spki_sha256=KEY)


def test_time_ends_a_nonce(nonces: Nonces, clock: Clock) -> None:
    nonce = nonces.issue(peer=PEER, tls_spki_sha256=KEY)
    clock.pass_s(60)
    with pytest.raises(ChallengeExpired):
        nonces.consume(nonce, peer=PEER, tls_spki_sha256=KEY)


def test_the_store_is_bounded_and_fair(nonces: Nonces, clock: Clock) -> None:
    good = nonces.issue(peer=OTHER, tls_spki_sha256=KEY)
    for peer in (PEER, "c", "d"):
        for _ in range(5):
            nonces.issue(peer=peer, tls_spki_sha256=KEY)
    assert len(nonces) == 8
    nonces.consume(good, peer=OTHER, tls_spki_sha256=KEY)
    clock.pass_s(61)
    nonces.issue(peer=OTHER, tls_spki_sha256=KEY)
    assert len(nonces) == 1


async def test_of_200_concurrent_uses_one_succeeds(nonces: Nonces) -> None:
    nonce = nonces.issue(peer=PEER, tls_spki_sha256=KEY)
    gate = asyncio.Event()

    async def use() -> bool:
        await gate.wait()
        try:
            nonces.consume(nonce, peer=PEER, tls_spki_sha256=KEY)
        except ChallengeExpired:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(use()) for _ in range(200)]
        gate.set()
    assert sum(task.result() for task in tasks) == 1
