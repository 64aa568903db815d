"""Members of several replicas: one list, whatever becomes of Redis (attacks C10, H03, H04)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from cloister.errors import EvidenceRejected, Unavailable
from cloister.verifier.member import Change, Event
from fakes.members import KEYS, OTHER_KEYS, member
from fakes.redis_server import RedisServer
from fakes.replicas import PREFIX, Replica, replica, until

LIFE_S = 3600.0


def names(at: Replica) -> set[str]:
    return {each.instance for each in at.attested.members}


async def test_what_one_admits_others_tell_their_watchers_in_time(redis_server: RedisServer) -> None:
    worker = member(collateral=b"{}" * 1000)
    async with replica(redis_server) as a, replica(redis_server) as b:
        with b.attested.watching() as events:
            assert await anext(events) == Event(Change.CURRENT)
            heard = []
            for what in ("admit", "renew", "leave"):
                if what == "leave":
                    a.attested.leave(worker.instance)
                else:
                    await a.attested.admit(replace(worker, attestation_result=what), life_s=LIFE_S)
                async with asyncio.timeout(5.0):
                    heard.append(await anext(events))
    assert [event.change for event in heard] == [Change.JOINED, Change.RENEWED, Change.GONE]
    assert heard[0].member == replace(worker, attestation_result="admit")
    assert heard[-1].reason == "left"


async def test_a_replica_that_starts_knows_everyone(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        for number in range(1, 151):
            await a.attested.admit(member(number, collateral=b"{}" * (1 + number % 2)), life_s=LIFE_S)
        a.attested.revoke(member(7).instance)
        await until(lambda: not a.attested._unkept)
        async with replica(redis_server) as b:
            assert sorted(names(b)) == sorted(names(a))
            assert len(names(b)) == 149
            assert b.attested.get(member(8).instance) == a.attested.get(member(8).instance)
    assert len([key for key in redis_server.admin("KEYS", "*") if b":collateral:" in key]) == 2


@pytest.mark.attack("C10")
async def test_an_instance_with_other_keys_is_refused_by_every_replica(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await a.attested.pin(member().instance, KEYS, life_s=LIFE_S)
        for at in (b, a):
            with pytest.raises(EvidenceRejected) as refused:
                await at.attested.admit(member(keys=OTHER_KEYS), life_s=LIFE_S)
            assert refused.value.reason == "instance.keys_changed"
        await b.attested.pin(member().instance, KEYS, life_s=LIFE_S)


@pytest.mark.attack("C10")
async def test_of_two_forks_at_two_replicas_at_once_one_is_believed(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:

        async def attempt(at: Replica, forked: bool) -> bool:
            try:
                await at.attested.admit(member(keys=OTHER_KEYS if forked else KEYS), life_s=LIFE_S)
            except EvidenceRejected:
                return False
            return True

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempt((a, b)[n % 2], bool(n % 2))) for n in range(20)]
        won = {n % 2 for n, task in enumerate(tasks) if task.result()}
        assert len(won) == 1
        await until(lambda: a.attested.get(member().instance) == b.attested.get(member().instance) is not None)


@pytest.mark.attack("H03")
async def test_a_flushed_redis_loses_no_member_and_revives_none(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        for number in (1, 2, 3):
            await a.attested.admit(member(number), life_s=LIFE_S)
        await until(lambda: len(names(b)) == 3)
        b.attested.revoke(member(1).instance)
        await until(lambda: len(names(a)) == 2)
        redis_server.admin("FLUSHALL")
        await until(lambda: len(redis_server.admin("KEYS", f"{PREFIX}member:*")) == 3)
        await until(lambda: names(a) == names(b) == {member(2).instance, member(3).instance})
        async with replica(redis_server) as c:
            assert names(c) == names(a)
            with pytest.raises(EvidenceRejected):
                await c.attested.pin(member(1).instance, OTHER_KEYS, life_s=LIFE_S)


@pytest.mark.attack("H03")
async def test_a_redis_set_back_revives_no_revoked_member(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        for number in (1, 2):
            await a.attested.admit(member(number), life_s=LIFE_S)
        older = redis_server.saved()
        a.attested.revoke(member(1).instance)
        await until(lambda: not a.attested._unkept)
        with a.attested.watching() as events:
            assert (await anext(events)).member == a.attested.get(member(2).instance)
            redis_server.restart_from(older)
            async with replica(redis_server) as b:
                # What b reads first may be as old as Redis is; a, who knows better, puts it right.
                await until(lambda: names(b) == {member(2).instance})
            assert await anext(events) == Event(Change.CURRENT)


async def test_members_stay_while_redis_is_away_and_what_left_is_told_later(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        for number in (1, 2):
            await a.attested.admit(member(number), life_s=LIFE_S)
        copy = redis_server.saved()
        redis_server.kill()
        with pytest.raises(Unavailable):
            await a.attested.admit(member(3), life_s=LIFE_S)
        a.attested.leave(member(1).instance)
        assert names(a) == {member(2).instance}
        redis_server.restart_from(copy)
        await until(lambda: not a.attested._unkept)
        async with replica(redis_server) as b:
            assert names(b) == {member(2).instance}


@pytest.mark.attack("H04")
@pytest.mark.parametrize("junk", [b"junk", b"9" * 300, bytes(1 << 20), b"\x80\x04N."])
async def test_junk_in_the_place_of_a_member_is_left_out(redis_server: RedisServer, junk: bytes) -> None:
    async with replica(redis_server) as a:
        for number in (1, 2):
            await a.attested.admit(member(number), life_s=LIFE_S)
        redis_server.admin("SET", f"{PREFIX}member:{member(1).instance}", junk)
        async with replica(redis_server) as b:
            assert names(b) == {member(2).instance}
            assert b.refusals == (["state.forged"] if len(junk) < 1 << 16 else [])


@pytest.mark.attack("H04")
async def test_a_pin_that_is_junk_lets_nobody_in(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        redis_server.admin("SET", f"{PREFIX}pin:{member().instance}", "junk")
        with pytest.raises(Unavailable) as refused:
            await a.attested.admit(member(), life_s=LIFE_S)
        assert refused.value.reason == "state.forged"
        assert not names(a)


@pytest.mark.attack("H04")
async def test_collateral_that_was_changed_is_not_shown(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        await a.attested.admit(member(collateral=b'{"true": 1}'), life_s=LIFE_S)
        (key,) = redis_server.admin("KEYS", f"{PREFIX}collateral:*")
        redis_server.admin("SET", key, b'{"true": 0}')
        async with replica(redis_server) as b:
            assert not names(b)
            assert b.refusals == ["record.malformed"]


async def test_lists_are_one_after_any_amount_of_change(redis_server: RedisServer) -> None:
    dice = random.Random(3)
    async with replica(redis_server) as a, replica(redis_server) as b:

        async def churn(at: Replica) -> None:
            for _ in range(60):
                instance = member(dice.randrange(1, 30))
                if dice.random() < 0.3:
                    at.attested.leave(instance.instance)
                else:
                    await at.attested.admit(instance, life_s=LIFE_S)

        async with asyncio.TaskGroup() as group:
            group.create_task(churn(a))
            group.create_task(churn(b))
            await asyncio.sleep(0.05)
            async with replica(redis_server) as c:
                await churn(c)
                await until(lambda: not any(at.attested._unkept for at in (a, b, c)))
        async with replica(redis_server) as d:
            await until(lambda: names(a) == names(b) == names(d))
            assert names(d)
