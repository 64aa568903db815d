"""What one tenant may have lying in Redis: answers, ends, dead letters; counts of them put themselves right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.errors import Overloaded, Unavailable
from cloister.gateway.jobs.job import Accepted, Claimed, Ending, Job, State
from cloister.gateway.jobs.keeping import end_scripts
from cloister.gateway.jobs.keeping.kept_scripts import RECORD_BYTES
from cloister.rpc.status import reason_of
from fakes.job_store_on_redis import (
    BOUNDS,
    MODEL,
    OTHER,
    TENANT,
    Clock,
    Kept,
    accepted,
    jobs_redis,
    key_of,
    new_job,
    store_on,
)
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer
from fakes.redis_topologies import DURABLE

ROOM = 4 * RECORD_BYTES
TIGHT = replace(BOUNDS, tenant_kept_bytes=ROOM)


@pytest.fixture
def durable(tmp_path: Path, pki: MeshPki) -> Iterator[RedisServer]:
    with jobs_redis(tmp_path / "durable", pki, lines=DURABLE) as server:
        yield server


async def end(kept: Kept, claimed: list[Claimed], size_bytes: int = 0) -> None:
    await kept.store.settle(MODEL, [Ending(each, response=bytes(size_bytes)) for each in claimed])


async def fill(kept: Kept, clock: Clock, *, result_ttl_s: int = 3600) -> list[Job]:
    """Two jobs of a tenant whose ends fill its room."""
    jobs = [await accepted(kept, new_job(clock, result_ttl_s=result_ttl_s)) for _ in range(2)]
    await end(kept, await kept.store.claim(MODEL, 2, 0), RECORD_BYTES)
    return jobs


async def refusal(kept: Kept, clock: Clock, tenant: str = TENANT) -> str:
    """Why one more job of a tenant is not taken; empty if it is."""
    (outcome,) = await kept.store.submit([new_job(clock, tenant=tenant)], TIGHT)
    return reason_of(outcome) if isinstance(outcome, Overloaded) else ""


def counted(server: RedisServer, kept: Kept, tenant: str = TENANT) -> int:
    """What is counted of a tenant's ended jobs."""
    return int(server.admin("HGET", key_of(kept, f"kept:{tenant}"), "sum") or 0)


async def test_answers_that_nobody_forgets_keep_out_whose_they_are_and_nobody_else(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    jobs = await fill(kept, clock)
    assert counted(server, kept) == ROOM
    (outcome,) = await kept.store.submit([new_job(clock)], TIGHT)
    assert isinstance(outcome, Overloaded)
    assert outcome.reason == "tenant.results_full"
    assert "forget" in str(outcome), "it says what to do"
    assert await refusal(kept, clock, OTHER) == ""
    assert await kept.store.submit([jobs[0]], TIGHT) == [Accepted(jobs[0].job_id, existed=True)]
    await kept.store.forget(MODEL, TENANT, [jobs[0].job_id, jobs[0].job_id])
    assert counted(server, kept) == ROOM // 2
    assert await refusal(kept, clock) == ""


async def test_what_is_forgotten_counts_no_more(kept: Kept, server: RedisServer, clock: Clock) -> None:
    jobs = [
        await accepted(kept, new_job(clock, result_ttl_s=ttl_s, not_after_ms=clock() + life_ms))
        for ttl_s, life_ms in ((1, 60_000), (90, 86_400_000), (86_400, 60_000), (10_000, 10_000_000))
    ]
    dead, *rest = await kept.store.claim(MODEL, 10, 0)
    await end(kept, rest, 700)
    await kept.store.settle(MODEL, [Ending(dead, error=Unavailable("gone"))])
    assert counted(server, kept) == 4 * RECORD_BYTES + 3 * 700
    life_ms = server.admin("PTTL", key_of(kept, f"kept:{TENANT}"))
    assert 86_400_000 <= life_ms <= 86_400_000 + 2 * 3_600_000, "the count goes with what it counts"
    await kept.store.forget(MODEL, TENANT, [job.job_id for job in jobs])
    assert server.admin("EXISTS", key_of(kept, f"kept:{TENANT}")) == 0


async def test_what_waits_of_a_tenant_without_room_waits_on_and_others_are_answered(kept: Kept, clock: Clock) -> None:
    waits = [await accepted(kept, new_job(clock)) for _ in range(3)]
    await end(kept, await kept.store.claim(MODEL, 2, 0), RECORD_BYTES)
    theirs = await accepted(kept, new_job(clock, tenant=OTHER))
    for _ in range(2):
        claimed = await kept.store.claim(MODEL, 10, 0, kept_bytes=ROOM)
        assert [each.job.job_id for each in claimed] == [theirs.job_id]
        await kept.store.give_back(MODEL, claimed)
    records = await kept.store.read(MODEL, TENANT, [waits[2].job_id])
    assert [record.state for record in records if record] == [State.QUEUED]
    await kept.store.forget(MODEL, TENANT, [waits[0].job_id])
    assert len(await kept.store.claim(MODEL, 10, 0, kept_bytes=ROOM)) == 2


async def test_what_has_gone_by_itself_counts_no_more(kept: Kept, server: RedisServer, clock: Clock) -> None:
    await fill(kept, clock)
    name = key_of(kept, f"kept:{TENANT}")
    (goes,) = {int(field) for field in server.admin("HKEYS", name) if field.isdigit()}
    gone = server.admin("TIME")[0] // 60 - 1
    server.admin("HSET", name, gone, server.admin("HGET", name, goes), "at", gone)  # as it is when that has passed
    server.admin("HDEL", name, goes)
    assert await refusal(kept, clock) == ""
    assert server.admin("EXISTS", name) == 0


@pytest.mark.parametrize("how", ["sum lost", "sum wrong", "too many fields", "wrong type"])
async def test_a_count_that_was_lost_or_changed_puts_itself_right(
    kept: Kept, server: RedisServer, clock: Clock, how: str
) -> None:
    await fill(kept, clock)
    name = key_of(kept, f"kept:{TENANT}")
    full = how in ("sum lost", "sum wrong")
    if how == "sum lost":
        server.admin("HDEL", name, "sum", "at")
    elif how == "sum wrong":
        server.admin("HSET", name, "sum", "9" * 15, "at", 1)
    elif how == "too many fields":
        server.admin("HSET", name, *(word for at in range(5000) for word in (f"99{at:08}", 10**12)))
    else:
        server.admin("DEL", name)
        server.admin("SET", name, "junk")
    assert await refusal(kept, clock) == ("tenant.results_full" if full else "")
    await fill(kept, clock)
    assert counted(server, kept) == ROOM * (2 if full else 1)


async def test_what_is_counted_is_counted_after_a_kill(durable: RedisServer, pki: MeshPki, clock: Clock) -> None:
    async with store_on(durable, pki.cluster, clock) as kept:
        jobs = await fill(kept, clock)
    durable.kill()
    durable.start()
    async with store_on(durable, pki.cluster, clock, consumer="gateway-2") as kept:
        assert await refusal(kept, clock) == "tenant.results_full"
        await kept.store.forget(MODEL, TENANT, [job.job_id for job in jobs])
        assert counted(durable, kept) == 0
        assert await refusal(kept, clock) == ""


@pytest.mark.attack("H01")
@pytest.mark.parametrize("how", ["jobs", "counts", "one count"])
async def test_after_somebody_destroyed_jobs_or_counts_a_tenant_has_the_room_that_is_left(
    kept: Kept, server: RedisServer, clock: Clock, how: str
) -> None:
    bounds = replace(BOUNDS, tenant_jobs=3, tenant_bytes=300)
    jobs = [new_job(clock) for _ in range(3)]
    await kept.store.submit(jobs, bounds)
    if how == "jobs":
        server.admin("DEL", *(key_of(kept, "job", job) for job in jobs[:2]))
        server.admin("ZREM", key_of(kept, "live"), *(job.job_id.hex() for job in jobs[:2]))
    elif how == "counts":
        server.admin("DEL", key_of(kept, "use"))
    else:
        server.admin("HSET", key_of(kept, "use"), "jobs", 70, f"n:{TENANT}", 70)
    await kept.store.expire(MODEL)
    left = 1 if how == "jobs" else 3
    more = [new_job(clock) for _ in range(3)]
    outcomes = await kept.store.submit(more, bounds)
    assert [isinstance(each, Accepted) for each in outcomes] == [at < 3 - left for at in range(3)]
    assert server.admin("HGET", key_of(kept, "use"), f"b:{TENANT}") == b"300"


async def test_one_tenants_dead_letters_push_out_its_own_and_no_others(
    kept: Kept, server: RedisServer, clock: Clock
) -> None:
    theirs = await accepted(kept, new_job(clock, tenant=OTHER))
    gone = Unavailable("gone")
    await kept.store.settle(MODEL, [Ending(each, error=gone) for each in await kept.store.claim(MODEL, 1, 0)])
    most, ended = end_scripts.TENANT_LETTERS, 0
    while ended < most + 128:
        await kept.store.submit([new_job(clock) for _ in range(128)], BOUNDS)
        claimed = await kept.store.claim(MODEL, 128, 0)
        await kept.store.settle(MODEL, [Ending(each, error=gone) for each in claimed])
        ended += len(claimed)
    assert server.admin("XLEN", key_of(kept, "dead")) == most + 1
    _, letters = await kept.store.dead_letters(MODEL, "", 1)
    assert [(tenant, record.job_id) for tenant, record in letters] == [(OTHER, theirs.job_id)]


async def test_a_hundred_tenants_share_what_is_taken(kept: Kept, clock: Clock) -> None:
    await kept.store.submit([new_job(clock) for _ in range(128)], BOUNDS)
    others = [new_job(clock, tenant=f"tenant {number}") for number in range(100)]
    await kept.store.submit(others, BOUNDS)
    claimed = await kept.store.claim(MODEL, 128, 0)
    assert {each.job.tenant for each in claimed} == {TENANT, *(job.tenant for job in others)}
