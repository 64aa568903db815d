"""Revocations of several replicas: bans and lifts hold at all, whatever Redis does (attacks E11, H03-H05, J14)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.errors import EvidenceRejected
from cloister.kit.revocation import ORDER_TYPE, Kind, Name, lift_order
from cloister.verifier.lift_orders import LiftOrders, milliseconds
from cloister.verifier.replicas import scripts
from cloister.verifier.replicas.entries import Kind as Entry
from cloister.verifier.rulings import Revocation, succeeding
from fakes.key_ring import public
from fakes.members import member
from fakes.pki import CLUSTER
from fakes.redis_server import RedisServer
from fakes.replicas import Kept, Replica, met, replica, until
from fakes.results import INSTANCE

BY = f"spiffe://{CLUSTER}/operator/main"
NAME = Name(Kind.INSTANCE, INSTANCE)
PROMISED_S = 1.0


def revocation(name: Name = NAME, **changes: object) -> Revocation:
    made = Revocation(name=name, reason="a drill", by=BY, revoked_at=datetime.now(UTC))
    return replace(made, **changes)  # type: ignore[arg-type]


def refuses(at: Replica, name: Name = NAME) -> bool:
    try:
        at.revocations.check((name,))
    except EvidenceRejected as refused:
        return refused.reason == name.kind.refusal
    return False


async def reaches(*replicas: Replica, refused: bool, within_s: float = PROMISED_S) -> None:
    await until(lambda: all(refuses(at) is refused for at in replicas), within_s=within_s)


async def agree(*replicas: Replica) -> None:
    """Wait until all know the same, lifts included."""
    await until(lambda: len({frozenset(at.revocations.rulings) for at in replicas}) == 1)


@pytest.mark.attack("J14")
async def test_a_ban_and_its_lift_hold_everywhere_within_a_second(redis_server: RedisServer) -> None:
    kept = Kept()
    async with replica(redis_server) as a, replica(redis_server, kept=kept) as b, replica(redis_server) as c:
        await a.revocations.add(revocation())
        await reaches(a, b, c, refused=True)
        assert b.revocations.in_force == a.revocations.in_force == [each.revocation for each in kept.rulings]
        await b.revocations.lift(NAME)
        await reaches(a, b, c, refused=False)
        await c.revocations.add(revocation())
        await reaches(a, b, c, refused=True)


@pytest.mark.attack("E11")
async def test_its_members_leave_every_replica_and_watchers_hear(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await b.attested.admit(member(), life_s=60)
        before = b.revocations.version
        await until(lambda: bool(a.attested.members))
        await a.revocations.add(revocation())
        async with asyncio.timeout(PROMISED_S):
            await b.revocations.changed(before)
        await until(lambda: not b.attested.members and not a.attested.members)


@pytest.mark.attack("H03")
async def test_a_flushed_redis_lifts_nothing(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        await a.revocations.add(revocation())
        await reaches(b, refused=True)
        redis_server.admin("FLUSHALL")
        async with replica(redis_server) as c:
            await reaches(c, refused=True, within_s=10)
        assert refuses(a)
        assert refuses(b)


@pytest.mark.attack("H03")
async def test_a_redis_set_back_neither_lifts_a_ban_nor_brings_back_a_lifted_one(redis_server: RedisServer) -> None:
    other = Name(Kind.MEASUREMENT, "a1" * 32)
    async with replica(redis_server) as a, replica(redis_server) as b:
        empty = redis_server.dumped()
        await a.revocations.add(revocation())
        await a.revocations.add(revocation(other))
        await until(lambda: refuses(b) and refuses(b, other))
        banned = redis_server.dumped()
        await b.revocations.lift(other)
        await until(lambda: not refuses(a, other))
        for older in (empty, banned):
            redis_server.set_back(older)
            async with replica(redis_server) as c:
                await agree(a, b, c)
                for at in (a, b, c):
                    assert (refuses(at), refuses(at, other)) == (True, False)


@pytest.mark.attack("H03")
async def test_a_replica_with_an_old_file_is_put_right_and_puts_nobody_wrong(redis_server: RedisServer) -> None:
    lifted, banned = Name(Kind.SIGNER, "b2" * 32), Name(Kind.PLATFORM, "c3" * 32)
    old = Kept()
    async with replica(redis_server, kept=old) as a:
        await a.revocations.add(revocation(lifted))
        await a.revocations.add(revocation(banned))
        await a.revocations.lift(banned)
    async with replica(redis_server, kept=Kept(old.rulings)) as b:
        await b.revocations.lift(lifted)
        await b.revocations.add(revocation(banned))
        async with replica(redis_server, kept=old) as a:
            await agree(a, b)
            for at in (a, b):
                assert (refuses(at, banned), refuses(at, lifted)) == (True, False)
    assert {(each.name, each.lifted) for each in old.rulings} == {(banned, False), (lifted, True)}


@pytest.mark.attack("H03")
async def test_a_member_that_only_redis_still_lists_is_put_out(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a:
        for number in (1, 2):
            await a.attested.admit(member(number), life_s=60)
    banned = succeeding(None, revocation(Name(Kind.INSTANCE, member(1).instance)))
    async with replica(redis_server, kept=Kept([banned])) as b:
        assert [each.instance for each in b.attested.members] == [member(2).instance]


async def test_what_is_ruled_while_redis_is_away_is_told_later(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        copy = redis_server.saved()
        redis_server.kill()
        await a.revocations.add(revocation())
        redis_server.restart_from(copy)
        await reaches(b, refused=True, within_s=10)


async def test_a_replica_that_begins_is_told_more_than_one_entry_holds(redis_server: RedisServer) -> None:
    names = [Name(Kind.INSTANCE, f"{number:032x}") for number in range(200)]
    async with replica(redis_server) as a:
        for name in names:
            await a.revocations.add(revocation(name, reason="ß" * 256))
        async with replica(redis_server) as b:
            await until(lambda: b.revocations.names == frozenset(names))
            assert not b.refusals


@pytest.mark.attack("H04")
async def test_what_somebody_without_the_shared_key_says_bans_and_lifts_nothing(redis_server: RedisServer) -> None:
    other = Name(Kind.PLATFORM, "c3" * 32)
    async with replica(redis_server) as a:
        await a.revocations.add(revocation())
        known = Kept(a.revocations.rulings)
        async with replica(redis_server, shared_key=b"x" * 32, kept=known) as stranger:
            await stranger.revocations.lift(NAME)
            await stranger.revocations.add(revocation(other))
            await until(lambda: not stranger.link._writes._waiting)
            await until(lambda: len(a.refusals) >= 3)
            await a.settle()
        assert set(a.refusals) == {"state.forged"}
        assert (refuses(a), refuses(a, other)) == (True, False)


@pytest.mark.attack("H05")
async def test_a_ban_that_is_kept_from_the_stream_is_heard_all_the_same(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.admin("SCRIPT", "LOAD", scripts._WRITING)  # counts an entry, and appends none
    async with replica(redis_server) as a, replica(redis_server) as b:
        await met(a, b)
        write, kept_from = a.link.write, asyncio.Event()

        async def suppressed(script: str, kind: Entry, about: bytes) -> tuple[int, Any]:
            if kind is Entry.RULED and not kept_from.is_set():
                script = scripts._WRITING
                kept_from.set()
            return await write(script, kind, about)

        monkeypatch.setattr(a.link, "write", suppressed)
        await a.revocations.add(revocation())
        await reaches(b, refused=True, within_s=10)
        assert kept_from.is_set()
        assert b.refusals == ["sequence.broken"]


@pytest.mark.attack("H04")
async def test_rulings_that_are_none_are_refused_and_the_next_are_heard(redis_server: RedisServer) -> None:
    async with replica(redis_server) as a, replica(redis_server) as b:
        for junk in (b"", b"{}", b'[{"kind": "model"}]', b"\xff"):
            await a.link.write(scripts.WRITE, Entry.RULED, junk)
        await a.revocations.add(revocation())
        await reaches(b, refused=True)
        assert b.refusals == ["state.malformed"] * 4


@pytest.mark.attack("J14")
async def test_a_lift_holds_only_where_as_many_signed_as_must(redis_server: RedisServer) -> None:
    people = [Ed25519PrivateKey.generate() for _ in range(2)]
    strict = LiftOrders(CLUSTER, [public(key) for key in people], 2)
    unsigned = "revocation.lift_unsigned"
    async with replica(redis_server) as lax, replica(redis_server, orders=strict) as b:

        async def ordered() -> bytes:
            """Revoke, and write the order to lift that."""
            made = revocation()
            await lax.revocations.add(made)
            await until(lambda: b.revocations.in_force == [made])
            return lift_order(CLUSTER, NAME, milliseconds(made.revoked_at))

        first = await ordered()
        await lax.revocations.lift(NAME, dsse.sign(first, ORDER_TYPE, people[:1]))
        await until(lambda: b.refusals == [unsigned])
        await ordered()
        await lax.revocations.lift(NAME, dsse.sign(first, ORDER_TYPE, people))
        await until(lambda: b.refusals == [unsigned, unsigned])
        assert refuses(b)
        third = await ordered()
        await lax.revocations.lift(NAME, dsse.sign(third, ORDER_TYPE, people))
        await reaches(b, refused=False)


@pytest.mark.attack("B18")
async def test_who_is_put_out_for_an_hour_is_put_out_everywhere_and_for_no_longer(redis_server: RedisServer) -> None:
    ahead = timedelta()
    async with replica(redis_server) as a, replica(redis_server, now=lambda: datetime.now(UTC) + ahead) as b:
        await a.revocations.add(revocation(ends_at=datetime.now(UTC) + timedelta(hours=1)))
        await reaches(b, refused=True)
        ahead = timedelta(hours=1, seconds=1)
        assert not refuses(b)
        assert not b.revocations.rulings
