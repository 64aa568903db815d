"""Challenges of several replicas: once, whatever Redis becomes in the meantime (attacks D01, D10, D11, H03, H04)."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress

import pytest

from cloister.errors import ChallengeExpired, NotReady, Unavailable
from cloister.verifier.nonces import Challenge, Purpose
from fakes.redis_server import RedisServer
from fakes.replicas import PREFIX, Replica, met, replica, until
from fakes.results import Clock

KEY = hashlib.sha256(b"a TLS key").digest()
PEER = "spiffe://demo.cloister.internal/enrol/main"


async def issued(at: Replica, purpose: Purpose = Purpose.MESH) -> Challenge:
    return await at.nonces.issue(purpose, peer=PEER, tls_spki_sha256=KEY)


async def used(at: Replica, challenge: Challenge) -> Challenge:
    return await at.nonces.consume(challenge.challenge_id, peer=PEER, tls_spki_sha256=KEY)


async def test_what_one_issues_another_consumes_as_it_was(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await met(a, b)
        challenge = await issued(a, Purpose.KEY_RELEASE)
        assert await used(b, challenge) == challenge


@pytest.mark.attack("D01")
async def test_of_1000_parallel_uses_over_two_replicas_one_succeeds(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await met(a, b)
        challenge = await issued(a)

        async def attempt(at: Replica) -> Challenge | None:
            try:
                return await used(at, challenge)
            except ChallengeExpired:
                return None

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempt((a, b)[number % 2])) for number in range(1000)]
        assert [task.result() for task in tasks if task.result()] == [challenge]


async def test_1000_that_ask_at_once_are_all_served(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(issued(a)) for _ in range(1000)]
        async with asyncio.TaskGroup() as group:
            taken = [group.create_task(used(a, each.result())) for each in asked]
        assert [each.result() for each in taken] == [each.result() for each in asked]


async def refused(at: Replica, challenge: Challenge) -> None:
    """It is not taken: neither while the session is lost, nor in the next."""
    with suppress(Unavailable):
        with pytest.raises(ChallengeExpired):
            await used(at, challenge)
        return
    await at.session_after()
    with pytest.raises(ChallengeExpired):
        await used(at, challenge)


def key_of(challenge: Challenge) -> bytes:
    return f"{PREFIX}challenge:{challenge.challenge_id.hex()}".encode()


@pytest.mark.attack("D10")
@pytest.mark.attack("H03")
async def test_a_redis_set_back_in_place_revives_nothing(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await met(a, b)
        challenge, unused = await issued(a), await issued(a)
        older = redis_server.dumped()
        assert {key_of(challenge), key_of(unused)} < older.keys()
        assert await used(b, challenge)
        await a.settle()
        for at in (a, b):
            redis_server.set_back(older)
            await refused(at, challenge)
            await refused(at, unused)
        await works(a, b)


@pytest.mark.attack("D10")
@pytest.mark.attack("H03")
async def test_a_redis_restarted_from_an_older_snapshot_revives_nothing(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await met(a, b)
        challenge, unused = await issued(a), await issued(a)
        older = redis_server.saved()
        assert await used(b, challenge)
        redis_server.restart_from(older)
        assert redis_server.admin("EXISTS", key_of(challenge)) == 1
        for at in (a, b):
            await refused(at, challenge)
            await refused(at, unused)
        await works(a, b)


@pytest.mark.attack("D10")
async def test_a_redis_that_restarts_and_has_lost_nothing_voids_what_was_outstanding(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        challenge = await issued(a)
        redis_server.restart_whole()
        assert redis_server.admin("EXISTS", key_of(challenge)) == 1
        await refused(a, challenge)
        await works(a, a)


@pytest.mark.attack("D10")
@pytest.mark.attack("H03")
async def test_a_flushed_redis_voids_what_was_outstanding(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await met(a, b)
        challenge = await issued(a)
        older = redis_server.dumped()[key_of(challenge)]
        redis_server.admin("FLUSHALL")
        redis_server.admin("RESTORE", key_of(challenge), *older)
        for at in (a, b):
            await refused(at, challenge)
        await works(a, b)


@pytest.mark.attack("D10")
async def test_a_record_put_back_by_itself_does_not_count_at_any_replica(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await met(a, b)
        challenge = await issued(a)
        older = redis_server.dumped()[key_of(challenge)]
        assert await used(b, challenge)
        await a.settle()
        for at in (a, b):
            redis_server.admin("RESTORE", key_of(challenge), *older, "REPLACE")
            with pytest.raises(ChallengeExpired):
                await used(at, challenge)


@pytest.mark.attack("D10")
async def test_a_replica_that_starts_takes_nothing_from_before(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        challenge = await issued(a)
        async with replica(redis_server) as b:
            with pytest.raises(ChallengeExpired):
                await used(b, challenge)
            await works(a, b)


@pytest.mark.attack("D02")
async def test_redis_cannot_make_a_challenge_live_longer(redis_server: RedisServer) -> None:
    clock = Clock()
    async with replica(redis_server, monotonic=clock, ttl_s=15) as a:
        challenge, early = await issued(a), await issued(a)
        for each in (challenge, early):
            redis_server.admin("PERSIST", key_of(each))
        await pass_s(a, clock, 5)
        assert await used(a, early)
        for _ in range(3):
            await pass_s(a, clock, 5)
        assert redis_server.admin("EXISTS", key_of(challenge)) == 1
        with pytest.raises(ChallengeExpired):
            await used(a, challenge)


async def pass_s(at: Replica, clock: Clock, seconds: float) -> None:
    """Let time go by, and let the replica notice."""
    journal = at.link.journal
    number = journal.number
    clock.pass_s(seconds)
    await until(lambda: journal.number > number)
    await at.settle()


@pytest.mark.attack("H03")
async def test_a_lost_entry_voids_what_was_issued_before(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await met(a, b)
        challenge = await issued(a)
        # As if an entry of b had been taken out of the stream before a read it.
        missing = b.link.journal.next_number()
        redis_server.admin("SET", f"{PREFIX}head:{b.link.journal.session.hex()}", missing)
        await until(lambda: bool(a.refusals))
        assert a.refusals == ["sequence.broken"]
        await refused(a, challenge)
        await works(a, b)


@pytest.mark.attack("H04")
@pytest.mark.parametrize(
    "junk",
    [b"", b"junk", bytes(1 << 20), b"cos\nsystem\n(S'true'\ntR.", b"\x80\x04N."],
    ids=["nothing", "junk", "a MiB", "pickle 0", "pickle 4"],
)
async def test_junk_in_the_place_of_a_challenge_is_refused(redis_server: RedisServer, junk: bytes) -> None:
    async with replica(redis_server) as a:
        challenge = await issued(a)
        redis_server.admin("SET", key_of(challenge), junk)
        with pytest.raises(ChallengeExpired):
            await used(a, challenge)
        assert a.refusals == ["state.forged"]
        await works(a, a)


@pytest.mark.attack("H04")
async def test_a_challenge_of_another_type_is_none(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        challenge = await issued(a)
        redis_server.admin("DEL", key_of(challenge))
        redis_server.admin("LPUSH", key_of(challenge), "a")
        with pytest.raises(ChallengeExpired):
            await used(a, challenge)


@pytest.mark.attack("H04")
async def test_the_record_of_one_challenge_is_none_of_another(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        spent, other = await issued(a), await issued(a)
        redis_server.admin("COPY", key_of(spent), key_of(other), "REPLACE")
        await used(a, spent)
        with pytest.raises(ChallengeExpired):
            await used(a, other)
        assert a.refusals == ["state.forged"]


@pytest.mark.attack("H04")
async def test_a_record_by_somebody_without_the_shared_key_is_none(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        async with replica(redis_server, shared_key=b"x" * 32) as stranger:
            forged = await issued(stranger)
            with pytest.raises(ChallengeExpired):
                await used(a, forged)
        assert set(a.refusals) == {"state.forged"}
        await works(a, a)


@pytest.mark.attack("H04")
async def test_a_stream_that_is_none_fails_closed_until_it_is_gone(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        challenge = await issued(a)
        redis_server.admin("SET", f"{PREFIX}stream", "junk")
        with pytest.raises((Unavailable, NotReady)):
            await used(a, challenge)
        redis_server.admin("DEL", f"{PREFIX}stream")
        await a.session_after()
        await refused(a, challenge)
        await works(a, a)


async def test_without_redis_nothing_is_issued_or_taken_and_it_is_said_in_time(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        challenge = await issued(a)
        redis_server.kill()
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await used(a, challenge)
            with pytest.raises(Unavailable):
                await issued(a)
        redis_server.start()
        await works(a, a)


async def works(issuer: Replica, consumer: Replica) -> None:
    """What is issued from now on is good, within a moment."""
    async with asyncio.timeout(20):
        while True:
            with suppress(ChallengeExpired, Unavailable, NotReady):
                challenge = await issued(issuer)
                assert await used(consumer, challenge) == challenge
                return
            await asyncio.sleep(0.05)
