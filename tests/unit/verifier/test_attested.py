from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from cloister.errors import EvidenceRejected, Overloaded, Unavailable
from cloister.verifier.attested import AttestedWorkers
from cloister.verifier.member import Change, Event, Keys, Member
from fakes.results import CLUSTER, INSTANCE, NOW, WORKER, Clock

KEYS = Keys(tls_spki_sha256=b"t" * 32, receipt_key=b"r" * 32, hpke_suite="x25519", hpke_public=b"h" * 32)
MEMBER = Member(
    instance=INSTANCE,
    spiffe_id=WORKER,
    server_name=f"{INSTANCE}.worker.{CLUSTER}",
    endpoint="127.0.0.1:9000",
    keys=KEYS,
    claims=b"claims",
    quote=b"quote",
    collateral=b"{}",
    attestation_result="ear",
    expires_at=NOW,
    simulated=False,
)


def other(number: int) -> Member:
    return replace(MEMBER, instance=f"{number:032x}", endpoint=f"127.0.0.1:{number}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workers(clock: Clock) -> AttestedWorkers:
    return AttestedWorkers(monotonic=clock, capacity=4, queue_limit=3, watcher_limit=2)


async def next_event(events: AsyncIterator[Event]) -> Event:
    async with asyncio.timeout(5):
        return await anext(events)


async def test_a_watcher_hears_of_everyone_and_then_of_changes(workers: AttestedWorkers, clock: Clock) -> None:
    await workers.admit(MEMBER, life_s=60)
    with workers.watching() as events:
        assert await next_event(events) == Event(Change.JOINED, MEMBER)
        assert await next_event(events) == Event(Change.CURRENT)
        await workers.admit(replace(MEMBER, attestation_result="second"), life_s=60)
        renewed = await next_event(events)
        assert renewed.change is Change.RENEWED
        assert renewed.member is not None
        assert renewed.member.attestation_result == "second"
        assert workers.leave(INSTANCE)
        gone = await next_event(events)
        assert (gone.change, gone.reason) == (Change.GONE, "left")
    assert not workers.leave(INSTANCE)


async def test_a_revoked_member_is_gone_and_its_keys_stay_pinned(workers: AttestedWorkers) -> None:
    await workers.admit(MEMBER, life_s=60)
    with workers.watching() as events:
        assert workers.revoke(INSTANCE)
        heard = [await next_event(events) for _ in range(3)]
    assert heard[-1] == Event(Change.GONE, MEMBER, "revoked")
    assert not workers.revoke(INSTANCE)
    with pytest.raises(EvidenceRejected):
        await workers.pin(INSTANCE, replace(KEYS, receipt_key=b"x" * 32), life_s=60)


async def test_a_member_ends_with_its_result(workers: AttestedWorkers, clock: Clock) -> None:
    await workers.admit(MEMBER, life_s=60)
    await workers.admit(other(1), life_s=90)
    assert workers.expire() == 60
    with workers.watching() as events:
        for _ in range(3):
            await next_event(events)
        clock.pass_s(60)
        assert workers.expire() == 30
        gone = await next_event(events)
    assert gone == Event(Change.GONE, MEMBER, "expired")
    assert workers.get(INSTANCE) is None
    assert len(workers) == 1


async def test_expiry_happens_by_itself(clock: Clock) -> None:
    loop = asyncio.get_running_loop()
    workers = AttestedWorkers(monotonic=loop.time)
    async with asyncio.TaskGroup() as group:
        expiring = group.create_task(workers.expiring())
        await workers.admit(MEMBER, life_s=0.01)
        with workers.watching() as events:
            heard = [await next_event(events) for _ in range(3)]
        expiring.cancel()
    assert [event.change for event in heard] == [Change.JOINED, Change.CURRENT, Change.GONE]


@pytest.mark.attack("C10")
async def test_who_comes_later_and_ends_sooner_is_taken_out_in_time() -> None:
    workers = AttestedWorkers(monotonic=asyncio.get_running_loop().time)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        expiring = group.create_task(workers.expiring())
        await workers.admit(MEMBER, life_s=60)
        await asyncio.sleep(0)  # it waits for that end now
        await workers.admit(replace(MEMBER, instance="later"), life_s=0.01)
        with workers.watching() as events:
            heard = [await next_event(events) for _ in range(4)]
        expiring.cancel()
    assert (heard[-1].change, heard[-1].member and heard[-1].member.instance) == (Change.GONE, "later")
    assert len(workers) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"tls_spki_sha256": b"x" * 32},
        {"hpke_suite": "xwing"},
        {"receipt_key": b"x" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_the_same_instance_with_another_key_is_refused(
    workers: AttestedWorkers, change: dict[str, bytes]
) -> None:
    await workers.admit(MEMBER, life_s=60)
    with pytest.raises(EvidenceRejected) as refused:
        await workers.admit(replace(MEMBER, keys=replace(KEYS, **change)), life_s=60)  # type: ignore[arg-type]  # by name
    assert refused.value.reason == "instance.keys_changed"
    assert workers.get(INSTANCE) == MEMBER


async def test_the_same_instance_may_have_another_hpke_key(workers: AttestedWorkers) -> None:
    await workers.admit(MEMBER, life_s=60)
    renewed = replace(MEMBER, keys=replace(KEYS, hpke_public=b"x" * 32))
    await workers.admit(renewed, life_s=60)
    assert workers.get(INSTANCE) == renewed


async def test_keys_stay_pinned_after_leaving_until_the_result_ends(workers: AttestedWorkers, clock: Clock) -> None:
    await workers.admit(MEMBER, life_s=60)
    workers.leave(INSTANCE)
    another = replace(MEMBER, keys=replace(KEYS, receipt_key=b"x" * 32))
    with pytest.raises(EvidenceRejected):
        await workers.admit(another, life_s=60)
    clock.pass_s(60)
    await workers.admit(another, life_s=60)
    assert workers.get(INSTANCE) == another


async def test_the_list_is_bounded(workers: AttestedWorkers, clock: Clock) -> None:
    for number in range(4):
        await workers.admit(other(number), life_s=60)
    with pytest.raises(Overloaded):
        await workers.admit(MEMBER, life_s=60)
    await workers.admit(other(0), life_s=60)
    clock.pass_s(60)
    await workers.admit(MEMBER, life_s=60)


async def test_a_slow_watcher_is_cut_and_begins_again(workers: AttestedWorkers) -> None:
    with workers.watching() as slow, workers.watching() as quick:
        await next_event(slow)
        for _ in range(4):
            await workers.admit(MEMBER, life_s=60)
            while (await next_event(quick)).change is Change.CURRENT:
                pass
        with pytest.raises(Overloaded) as cut:
            await next_event(slow)
        assert cut.value.reason == "watcher.cut"
        workers.leave(INSTANCE)
        assert (await next_event(quick)).change is Change.GONE
    with workers.watching() as again:
        assert await next_event(again) == Event(Change.CURRENT)


async def test_watchers_are_bounded(workers: AttestedWorkers) -> None:
    with workers.watching(), workers.watching(), pytest.raises(Overloaded), workers.watching():
        pass
    with workers.watching():
        pass


async def test_watchers_are_told_when_the_service_goes(workers: AttestedWorkers) -> None:
    with workers.watching() as events:
        await next_event(events)
        workers.close()
        with pytest.raises(Unavailable):
            await next_event(events)
