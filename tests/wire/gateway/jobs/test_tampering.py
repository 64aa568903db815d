"""Somebody with every power over Redis changes what jobs lie there (attacks H01, H02, H04).

Nothing that was changed is believed, nobody gets another's answer, and the jobs beside it are answered.
"""

from __future__ import annotations

import asyncio
import pickle  # noqa: TID251  # an attacker's
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from cloister.errors import CloisterError
from cloister.gateway.jobs.job import Accepted, Ending, Job, Priority, State
from cloister.gateway.jobs.keeping import scripts
from fakes.job_store_on_redis import (
    BOUNDS,
    MINUTE_MS,
    MODEL,
    OTHER,
    TENANT,
    Clock,
    Kept,
    accepted,
    answered,
    key_of,
    lives_ms,
    new_job,
    only,
    put_before,
    store_on,
)
from fakes.pki import MeshPki
from fakes.redis_server import RedisServer


@dataclass
class Root:
    """Who may do anything in Redis."""

    kept: Kept
    server: RedisServer

    def do(self, command: str, kind: str, job: Job | None, *words: Any) -> Any:
        model_name = job.model_name if job else MODEL
        return self.server.admin(command, key_of(self.kept, kind, job, model_name=model_name), *words)

    def header(self, job: Job) -> bytes:
        return bytes(self.do("HGET", "job", job, "h"))

    def let_wait(self, job: Job, priority: str = "normal", tenant: str = TENANT) -> None:
        """Have a job wait, there too."""
        put_before(self.server, self.kept, job, priority, tenant)


@pytest.fixture
def root(kept: Kept, server: RedisServer) -> Root:
    return Root(kept, server)


async def taken(kept: Kept, model_name: str = MODEL) -> list[bytes]:
    return [each.job.job_id for each in await kept.store.claim(model_name, 10, 0)]


async def still_works(kept: Kept, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    await answered(kept, job, b"an answer")
    assert (await only(kept, job)).response == b"an answer"


EDITS: dict[str, Callable[[bytes, Job], bytes]] = {
    "tenant": lambda header, job: header.replace(TENANT.encode(), b"attacker"),
    "model": lambda header, job: header.replace(b'"tiny"', b'"huge"'),
    "priority": lambda header, job: header.replace(b'"low"', b'"high"'),
    "id": lambda header, job: header.replace(job.job_id.hex().encode(), b"0" * 32),
    "deadline": lambda header, job: header.replace(str(job.not_after_ms).encode(), str(job.not_after_ms * 2).encode()),
    "mac": lambda header, job: bytes([header[0] ^ 1]) + header[1:],
    "cut": lambda header, job: header[:-1],
    "short": lambda header, job: header[:20],
    "junk": lambda header, job: bytes(range(256)),
}


@pytest.mark.attack("H01")
@pytest.mark.parametrize("what", EDITS)
async def test_an_edited_job_is_dropped_and_those_beside_it_go_on(
    kept: Kept, root: Root, clock: Clock, what: str
) -> None:
    job, beside = [await accepted(kept, new_job(clock, priority=Priority.LOW)) for _ in range(2)]
    edited = EDITS[what](root.header(job), job)
    assert edited != root.header(job)
    root.do("HSET", "job", job, "h", edited)
    assert await kept.store.read(MODEL, TENANT, [job.job_id]) == [None]
    assert await kept.store.read(MODEL, "attacker", [job.job_id]) == [None]
    assert await taken(kept) == [beside.job_id]
    assert set(kept.dropped) == {"job.forged"}
    assert await kept.store.submit([job], BOUNDS) == [Accepted(job.job_id)], "its client submits it again"
    assert await taken(kept) == [job.job_id]
    clock.ms += 11 * MINUTE_MS
    await kept.store.expire(MODEL)
    assert await kept.store.queues() == [each for each in await kept.store.queues() if each.waiting == 0]


@pytest.mark.attack("H01")
async def test_a_job_moved_to_another_model_is_dropped(kept: Kept, root: Root, clock: Clock) -> None:
    job, theirs = await accepted(kept, new_job(clock)), await accepted(kept, new_job(clock, model_name="huge"))
    root.do("COPY", "job", job, key_of(kept, "job", job, model_name="huge"))
    waits = key_of(kept, f"wait:normal:{TENANT}", model_name="huge")
    root.server.admin("ZADD", waits, 1, job.job_id.hex())
    assert await taken(kept, "huge") == [theirs.job_id]
    assert kept.dropped == ["job.moved"]
    assert await kept.store.read("huge", TENANT, [job.job_id]) == [None]


@pytest.mark.attack("H01")
async def test_a_job_among_anothers_or_in_another_priority_is_what_it_was(kept: Kept, root: Root, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock, priority=Priority.LOW))
    root.let_wait(job, "high", OTHER)
    (claimed,) = await kept.store.claim(MODEL, 10, 0)
    assert (claimed.job.tenant, claimed.job.priority) == (TENANT, Priority.LOW)
    assert kept.dropped == ["job.doubled"]


@pytest.mark.attack("H01")
async def test_a_job_under_anothers_id_is_dropped(kept: Kept, root: Root, clock: Clock) -> None:
    ours, theirs = await accepted(kept, new_job(clock)), await accepted(kept, new_job(clock, tenant=OTHER))
    root.do("HSET", "job", ours, "h", root.header(theirs), "q", theirs.request)
    assert await kept.store.read(MODEL, OTHER, [ours.job_id]) == [None]
    assert await kept.store.read(MODEL, TENANT, [ours.job_id]) == [None]
    assert await taken(kept) == [theirs.job_id]
    assert set(kept.dropped) == {"job.moved"}


@pytest.mark.attack("H01")
async def test_entries_that_are_doubled_are_given_out_once(kept: Kept, root: Root, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    for priority, tenant in (("high", TENANT), ("low", TENANT), ("normal", OTHER)):
        root.let_wait(job, priority, tenant)
    root.do("XADD", "taken", None, "*", "j", job.job_id.hex())
    assert await taken(kept) == [job.job_id]
    assert await taken(kept) == []
    assert kept.dropped == ["job.doubled"] * 4


@pytest.mark.attack("H01")
async def test_a_job_that_has_ended_is_not_computed_again(kept: Kept, root: Root, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    await answered(kept, job, b"an answer")
    root.let_wait(job)
    root.do("HSET", "job", job, "q", job.request)
    assert await taken(kept) == []
    assert kept.dropped == ["job.doubled"]
    assert (await only(kept, job)).response == b"an answer"
    root.do("HDEL", "job", job, "x", "q")
    record_ms = root.do("PTTL", "job", job)
    assert record_ms >= 10 * MINUTE_MS, "it is known for as long as it could be computed"


@pytest.mark.attack("H01")
async def test_a_place_that_is_taken_away_costs_time_and_nothing_else(kept: Kept, root: Root, clock: Clock) -> None:
    lost, beside = [await accepted(kept, new_job(clock)) for _ in range(2)]
    assert root.do("ZREM", f"wait:normal:{TENANT}", None, lost.job_id.hex()) == 1
    assert await taken(kept) == [beside.job_id]
    clock.ms += 11 * MINUTE_MS
    await kept.store.expire(MODEL)
    assert getattr((await only(kept, lost)).error, "reason", "") == "job.expired"


@pytest.mark.attack("H01")
async def test_entries_that_somebody_made_up_are_dropped(kept: Kept, root: Root, clock: Clock) -> None:
    for fields in (("j", "0" * 32), ("j", "x"), ("j", b"\xff" * 40), ("k", "v", "j", "0" * 32), ("", "")):
        root.do("XADD", "taken", None, "*", *fields)
    root.do("ZADD", f"wait:normal:{TENANT}", None, 1, "0" * 32, 2, "x", 3, b"\xff" * 40, 4, "1" * 32)
    root.do("ZADD", "later", None, 1, "2" * 32, 2, "x")
    root.do("HSET", "job", new_job(clock, job_id=bytes(16)), "h", b"made up", "q", b"made up", "x", "1-1")
    job = await accepted(kept, new_job(clock))
    assert await taken(kept) == [job.job_id]
    assert set(kept.dropped) <= {"job.junk", "job.missing", "job.doubled", "job.forged"}
    assert len(kept.dropped) == 9


@pytest.mark.attack("H01")
@pytest.mark.parametrize("what", ["changed", "anothers", "gone"])
async def test_a_job_with_another_request_is_a_dead_letter(kept: Kept, root: Root, clock: Clock, what: str) -> None:
    job, other = [await accepted(kept, new_job(clock)) for _ in range(2)]
    if what == "gone":
        root.do("HDEL", "job", job, "q")
    else:
        root.do("HSET", "job", job, "q", other.request if what == "anothers" else bytes(len(job.request)))
    assert await taken(kept) == [other.job_id]
    record = await only(kept, job)
    assert record.state is State.DEAD
    assert isinstance(record.error, CloisterError)
    assert record.error.reason == "job.changed"
    assert kept.dropped == ["job.changed"]


@pytest.mark.attack("H01")
async def test_a_deadline_that_is_moved_ends_no_job_early(kept: Kept, root: Root, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    root.do("ZADD", "live", None, 1, job.job_id.hex(), 2, "0" * 32, 3, "x" * 1000, 4, b"\xff\x00")
    await kept.store.expire(MODEL)
    assert await kept.store.dead_letters(MODEL, "", 10) == ("", [])
    assert root.do("ZRANGE", "live", None, 0, -1, "WITHSCORES") == [
        job.job_id.hex().encode(),
        str(job.not_after_ms).encode(),
    ]
    assert sorted(kept.dropped) == ["job.early", "job.junk", "job.junk", "job.lost"]
    await answered(kept, job, b"an answer")


@pytest.mark.attack("H01")
async def test_attempts_that_are_edited_end_no_job(kept: Kept, root: Root, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    for junk in ("many", "-7", b"\xff", "9" * 30):
        root.do("HSET", "job", job, "n", junk)
        (claimed,) = await kept.store.claim(MODEL, 10, 0)
        assert claimed.attempt == 1
        await kept.store.give_back(MODEL, [claimed])


@pytest.mark.attack("H01")
async def test_a_key_that_is_moved_names_no_other_job(kept: Kept, root: Root, clock: Clock) -> None:
    job, other = await accepted(kept, new_job(clock, key="scan 7")), await accepted(kept, new_job(clock, key="scan 8"))
    theirs = await accepted(kept, new_job(clock, tenant=OTHER))
    (name, _) = sorted(
        (key for key in lives_ms(root.server) if b":key:" in key),
        key=lambda key: root.server.admin("GET", key) != job.job_id.hex().encode(),
    )
    for elsewhere in (other.job_id.hex(), theirs.job_id.hex(), "0" * 32, b"\xff" * 1000):
        root.server.admin("SET", name, elsewhere)
        again = new_job(clock, key="scan 7")
        assert await kept.store.submit([again], BOUNDS) == [Accepted(again.job_id)]


@pytest.mark.attack("H02")
async def test_anothers_answer_is_never_handed_out(kept: Kept, root: Root, clock: Clock) -> None:
    ours, theirs = await accepted(kept, new_job(clock)), await accepted(kept, new_job(clock, tenant=OTHER))
    claimed = await kept.store.claim(MODEL, 10, 0)
    await kept.store.settle(MODEL, [Ending(each, response=b"for " + each.job.tenant.encode()) for each in claimed])
    root.do("SET", "answer", ours, root.do("GET", "answer", theirs))
    record = await only(kept, ours)
    assert (record.state, record.response) == (State.ANSWERED, b"")
    assert getattr(record.error, "reason", "") == "answer.lost"
    assert kept.dropped == ["answer.lost"]
    assert (await only(kept, theirs)).response == b"for " + OTHER.encode()


@pytest.mark.attack("H02")
@pytest.mark.parametrize("what", ["end", "end and answer", "all"])
async def test_anothers_end_is_never_believed(kept: Kept, root: Root, clock: Clock, what: str) -> None:
    ours, theirs = await accepted(kept, new_job(clock)), await accepted(kept, new_job(clock, tenant=OTHER))
    claimed = await kept.store.claim(MODEL, 10, 0)
    (their_claim,) = [each for each in claimed if each.job.job_id == theirs.job_id]
    (our_claim,) = [each for each in claimed if each.job.job_id == ours.job_id]
    await kept.store.settle(MODEL, [Ending(their_claim, response=b"theirs")])
    root.do("HSET", "job", ours, "t", root.do("HGET", "job", theirs, "t"))
    if what != "end":
        root.do("SET", "answer", ours, b"theirs")
    if what == "all":
        root.do("HSET", "job", ours, "h", root.header(theirs))
        assert await kept.store.read(MODEL, TENANT, [ours.job_id]) == [None]
        assert await kept.store.read(MODEL, OTHER, [ours.job_id]) == [None]
        return
    assert not (await only(kept, ours)).state.ended
    await kept.store.settle(MODEL, [Ending(our_claim, response=b"ours")])
    assert (await only(kept, ours)).response == b"ours"
    assert set(kept.dropped) == {"end.moved"}


@pytest.mark.attack("H02")
async def test_an_end_that_somebody_made_up_stops_no_job(kept: Kept, root: Root, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    root.do("HSET", "job", job, "t", b"x" * 32 + b'["","answered",1,2,1,"",0,null]')
    assert (await only(kept, job)).state is State.QUEUED
    await answered(kept, job, b"an answer")
    assert (await only(kept, job)).response == b"an answer"
    assert set(kept.dropped) == {"end.forged"}


@pytest.mark.attack("H02")
async def test_dead_letters_that_somebody_made_up_are_left_out(kept: Kept, root: Root, clock: Clock) -> None:
    job = await accepted(kept, new_job(clock))
    (claimed,) = await kept.store.claim(MODEL, 10, 0)
    await kept.store.settle(MODEL, [Ending(claimed, error=TimeoutError())])
    for fields in (
        ("h", "x", "t", "y"),
        ("h", root.header(job), "t", b"junk"),
        ("h", b"x" * 100_000, "t", "y"),
        ("", ""),
    ):
        root.do("XADD", "dead", None, "*", *fields)
    _, letters = await kept.store.dead_letters(MODEL, "", 10)
    assert [(tenant, record.job_id) for tenant, record in letters] == [(TENANT, job.job_id)]
    assert len(kept.dropped) == 4


WAITS = f"wait:normal:{TENANT}"
KINDS = (WAITS, "turns", "later", "taken", "news", "live", "use", "feed", "dead", f"kept:{TENANT}", f"letters:{TENANT}")


@pytest.mark.attack("H04")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", ["text", "list"])
async def test_a_key_of_another_type_stops_nothing(kept: Kept, root: Root, clock: Clock, kind: str, wrong: str) -> None:
    await accepted(kept, new_job(clock))
    root.do("DEL", kind, None)
    if wrong == "text":
        root.do("SET", kind, None, b"\x00\xff junk")
    else:
        root.do("LPUSH", kind, None, "junk")
    await kept.store.ended_after(MODEL, "$", 0)
    await kept.store.queues()
    await kept.store.reclaim(MODEL, 10, 0)
    await kept.store.recover(MODEL)
    await kept.store.expire(MODEL)
    assert await kept.store.dead_letters(MODEL, "", 10) == ("", [])
    job = await accepted(kept, new_job(clock))
    (*_, claimed) = await kept.store.claim(MODEL, 10, 0)
    await kept.store.settle(MODEL, [Ending(claimed, error=TimeoutError())])
    assert (await only(kept, job)).state is State.DEAD
    assert len((await kept.store.dead_letters(MODEL, "", 10))[1]) == 1


@pytest.mark.attack("H04")
@pytest.mark.parametrize("kind", ["job", "answer", "models"])
async def test_a_record_of_another_type_stops_nothing(kept: Kept, root: Root, clock: Clock, kind: str) -> None:
    job = await accepted(kept, new_job(clock))
    if kind == "answer":
        await answered(kept, job, b"an answer")
    name = f"{kept.cluster}:jobs:models" if kind == "models" else key_of(kept, kind, job)
    root.server.admin("DEL", name)
    root.server.admin("LPUSH", name, "junk")
    await kept.store.read(MODEL, TENANT, [job.job_id])
    await kept.store.cancel(MODEL, TENANT, [job.job_id])
    await kept.store.forget(MODEL, TENANT, [job.job_id])
    await kept.store.queues()
    await taken(kept)
    clock.ms += 11 * MINUTE_MS
    await kept.store.expire(MODEL)
    await still_works(kept, clock)


@pytest.mark.attack("H04")
@pytest.mark.parametrize("field", ["h", "q", "x", "n", "t", "i", "p", "answer", "key", "entry", "page"])
async def test_a_value_that_is_enormous_is_not_read(kept: Kept, root: Root, clock: Clock, field: str) -> None:
    job = await accepted(kept, new_job(clock, key="scan 7", order_key="patient 7"))
    if field in ("answer", "key"):
        await answered(kept, job, b"an answer")
        (name,) = [key for key in lives_ms(root.server) if f":{field}:".encode() in key]
        root.server.admin("SETRANGE", name, (512 << 20) - 1, "x")
    else:
        size = scripts.MAX_VALUE_BYTES + 1 if field == "q" else 1 << 20
        write = {"entry": "'XADD', KEYS[1]..'taken', '*', 'j'", "page": "'XADD', KEYS[1]..'feed', '*', 'j'"}
        words = write.get(field, f"'HSET', KEYS[1]..'job:'..ARGV[1], '{field}'")
        script = (
            "local huge = redis.call('GET', KEYS[2]) "
            f"if huge then redis.call({words}, huge) redis.call('DEL', KEYS[2]) end"
        )
        root.server.admin("SETRANGE", "huge", size - 1, "x")
        root.server.admin("EVAL", script, 2, key_of(kept, ""), "huge", job.job_id.hex())
    received = received_bytes(root)
    await kept.store.read(MODEL, TENANT, [job.job_id])
    await kept.store.ended_after(MODEL, "0-0", 0)
    await kept.store.submit([job, new_job(clock, key="scan 7")], BOUNDS)
    await taken(kept)
    await kept.store.cancel(MODEL, TENANT, [job.job_id])
    await still_works(kept, clock)
    assert received_bytes(root) - received < 100_000


def received_bytes(root: Root) -> int:
    """What all clients have received of the server."""
    about = root.server.admin("INFO", "stats")
    return int(about["total_net_output_bytes"])


@pytest.mark.attack("H04")
async def test_a_serialised_object_is_bytes_like_any_other(kept: Kept, root: Root, clock: Clock) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, ("raise SystemExit('unpickled')",)

    trap = pickle.dumps(Trap())
    job = await accepted(kept, new_job(clock))
    root.do("HSET", "job", job, "h", trap, "t", trap, "p", trap)
    root.do("XADD", "feed", None, "*", "j", trap)
    assert await kept.store.read(MODEL, TENANT, [job.job_id]) == [None]
    await kept.store.ended_after(MODEL, "0-0", 0)
    await taken(kept)
    await still_works(kept, clock)


@pytest.mark.attack("H04")
async def test_a_corrupt_record_does_not_stop_who_waits(kept: Kept, root: Root, second: Kept, clock: Clock) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(kept.store.claim(MODEL, 10, 60_000))
        await asyncio.sleep(0.05)
        root.do("ZADD", WAITS, None, 1, b"\xff" * 32)
        root.do("ZADD", "turns", None, 1, TENANT)
        root.do("XADD", "news", None, "*", "j", "")
        await asyncio.sleep(0.05)
        job = await accepted(second, new_job(clock))
    assert [each.job.job_id for each in waiting.result()] == [job.job_id]
    assert kept.dropped == ["job.missing"]


@pytest.mark.attack("H01")
async def test_a_gateway_with_another_key_makes_nothing_that_we_believe(
    kept: Kept, server: RedisServer, pki: MeshPki, clock: Clock
) -> None:
    async with store_on(server, pki.cluster, clock, key=b"x" * 32) as stranger:
        job = await accepted(stranger, new_job(clock))
        assert await taken(kept) == []
        assert await kept.store.read(MODEL, TENANT, [job.job_id]) == [None]
        assert set(kept.dropped) == {"job.forged"}
