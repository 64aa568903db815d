"""Who gets which epoch's key, how epochs begin and end, and what an altered store gives."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloister.errors import KeyRefused, Unavailable
from cloister.kit.host_clock import HostClock
from cloister.kit.signed_policy import verified_policy
from cloister.provisioner.ledger.database import NAME
from cloister.provisioner.models.epoch_terms import DAY_S, MOST_BY_POLICY, OVERLAP_S
from cloister.provisioner.models.epochs import destroying
from cloister.seal.grant import ModelGrant
from cloister.seal.hpke import X25519, KeyPair
from fakes.release_desk import OWNER, ReleaseDesk, open_ledger, release_desk
from fakes.results import MODEL, MRENCLAVE, good_policy
from fakes.signer_sets import ALICE, BOB, CAROL, set_policy, signed_set, signer_set

OTHER = "e5" * 32
LEASE_S = 600


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ReleaseDesk]:
    with release_desk(tmp_path) as made:
        yield made


async def grant(desk: ReleaseDesk, **result: Any) -> ModelGrant:
    """What a worker of this code gets now."""
    ear_id = secrets.token_hex(8)
    token = desk.token(ear_id=ear_id, **result)
    return desk.opened(await desk.releaser.release(desk.request(token=token), desk.worker.peer()), ear_id)


async def numbers(desk: ReleaseDesk, **result: Any) -> list[int]:
    return [key.epoch for key in (await grant(desk, **result)).epochs]


def events(desk: ReleaseDesk, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in desk.entries() if entry["event"] == kind]


async def test_the_first_release_begins_an_epoch_and_the_next_have_the_same_key(desk: ReleaseDesk) -> None:
    first, second = await grant(desk), await grant(desk)
    assert first.epochs == second.epochs
    (key,) = first.epochs
    began_ms = int(desk.now.timestamp() * 1000)
    assert (key.epoch, key.suite) == (1, X25519)
    assert key.seal_until_ms == began_ms + (DAY_S + LEASE_S + OVERLAP_S) * 1000
    assert key.open_until_ms == key.seal_until_ms + DAY_S * 1000
    assert key.policy == good_policy().SerializeToString()


async def test_a_refused_release_begins_none(desk: ReleaseDesk) -> None:
    with pytest.raises(KeyRefused):
        await grant(desk, tcb_status="OutOfDate")
    assert events(desk, "epoch.begun") == []


async def test_the_record_tells_of_each_epoch_and_who_got_it_and_holds_no_key(desk: ReleaseDesk) -> None:
    (key,) = (await grant(desk)).epochs
    (begun,) = events(desk, "epoch.begun")
    pair = KeyPair.from_seed(key.suite, key.seed.view)
    assert (begun["model"], begun["epoch"], begun["key_id"]) == (MODEL, 1, pair.key_id.hex())
    assert begun["policy_digest"] == desk.entries()[-1]["policy_digest"]
    assert (begun["seal_until_ms"], begun["open_until_ms"]) == (key.seal_until_ms, key.open_until_ms)
    assert desk.entries()[-1]["epochs"] == ["1"]
    written = b"".join(entry.record for entry in desk.ledger.log.records())
    kept = b"".join(path.read_bytes() for path in desk.folder.iterdir())
    for secret in (key.seed.reveal(), key.seed.reveal().hex().encode()):
        assert secret not in written
        assert secret not in kept


async def test_a_restart_keeps_epochs(tmp_path: Path) -> None:
    with release_desk(tmp_path) as desk:
        before = await grant(desk)
    with open_ledger(tmp_path) as ledger:
        again = replace(desk, ledger=ledger)
        assert (await grant(again)).epochs == before.epochs != ()


async def test_concurrent_first_releases_begin_one_epoch(desk: ReleaseDesk) -> None:
    requests = [desk.request() for _ in range(8)]
    async with asyncio.TaskGroup() as group:
        for request in requests:
            group.create_task(desk.releaser.release(request, desk.worker.peer()))
    assert len(events(desk, "epoch.begun")) == 1


async def test_models_have_epochs_of_their_own(desk: ReleaseDesk) -> None:
    desk.register(name="wine")
    desk.allow(model_name="wine")
    iris = await grant(desk)
    await desk.releaser.release(desk.request(model="wine"), desk.worker.peer())
    assert [(entry["model"], entry["epoch"]) for entry in events(desk, "epoch.begun")] == [(MODEL, 1), ("wine", 1)]
    ids = {entry["key_id"] for entry in events(desk, "epoch.begun")}
    assert len(ids) == 2
    assert (await grant(desk)).epochs == iris.epochs


# The next epoch


async def test_the_next_begins_by_age_and_the_one_before_is_kept_for_its_jobs(desk: ReleaseDesk) -> None:
    (first,) = (await grant(desk)).epochs
    desk.now += timedelta(seconds=DAY_S - 1)
    assert await numbers(desk) == [1]
    desk.now += timedelta(seconds=1)
    second, kept = (await grant(desk)).epochs
    assert (second.epoch, kept) == (2, first)
    assert second.seed != first.seed


async def test_whoever_has_a_lease_has_a_key_that_jobs_may_be_sealed_to(desk: ReleaseDesk) -> None:
    """For as long as the lease goes, whenever it began: over three epochs."""
    for _ in range(3 * DAY_S * 3 // (LEASE_S * 20)):
        newest = (await grant(desk)).epochs[0]
        lease_ends_ms = int(desk.now.timestamp() * 1000) + LEASE_S * 1000
        assert newest.seal_until_ms >= lease_ends_ms + OVERLAP_S * 1000
        desk.now += timedelta(seconds=LEASE_S * 20 / 3)
    assert len(events(desk, "epoch.begun")) >= 3


@pytest.mark.parametrize(
    ("policy", "result", "expected"),
    [
        ({}, {}, [2, 1]),  # the same terms, signed anew
        ({"mrenclave": [MRENCLAVE, OTHER]}, {}, [2, 1]),  # more code: who was let in before has both
        ({"mrenclave": [MRENCLAVE, OTHER]}, {"mrenclave": OTHER, "isvsvn": 0}, [2]),  # who was not has the new alone
        ({"tcb_statuses": ["OutOfDate"]}, {"tcb_status": "OutOfDate"}, [2]),
        ({"allow_simulated": True}, {"simulated": True, "hardware": 96}, [2]),
    ],
    ids=["signed anew", "before and now", "only now by code", "only now by status", "only now simulated"],
)
async def test_a_changed_policy_begins_the_next_and_the_one_before_is_for_who_satisfies_both(
    desk: ReleaseDesk, policy: dict[str, Any], result: dict[str, Any], expected: list[int]
) -> None:
    assert await numbers(desk) == [1]
    desk.allow(version=2, **policy)
    assert await numbers(desk, **result) == expected
    assert desk.entries()[-1]["epochs"] == [str(number) for number in expected]


async def test_who_satisfies_the_old_policy_alone_gets_nothing(desk: ReleaseDesk) -> None:
    assert await numbers(desk) == [1]
    desk.allow(version=2, mrenclave=[OTHER], signers=[])
    with pytest.raises(KeyRefused):
        await grant(desk)


async def test_a_platform_that_an_epochs_policy_does_not_name_does_not_have_its_key(desk: ReleaseDesk) -> None:
    here, there = "c3" * 32, "d4" * 32
    desk.allow(version=2, platforms={"ppid_sha256": [here]})
    assert await numbers(desk, ppid_sha256=here) == [1]
    desk.allow(version=3, platforms={"ppid_sha256": [here, there]})
    assert await numbers(desk, ppid_sha256=there) == [2]
    assert await numbers(desk, ppid_sha256=here) == [2, 1]


async def test_an_epoch_that_began_under_an_earlier_signer_set_goes_on(desk: ReleaseDesk) -> None:
    people = [ALICE, BOB]
    assert await numbers(desk) == [1]
    desk.registry.set_signers(OWNER, signed_set(signer_set(1, 2, *people), desk.owner, *people))
    desk.registry.set_policy(OWNER, *set_policy(1, people, version=2))
    assert await numbers(desk) == [2, 1]
    desk.registry.set_signers(OWNER, signed_set(signer_set(2, 1, CAROL), *people, CAROL))
    granted = await grant(desk)
    assert [key.epoch for key in granted.epochs] == [2, 1]
    owner = desk.owner.public_key().public_bytes_raw()
    policies = [verified_policy(key.policy, key.policy_signature, owner, granted.signer_sets) for key in granted.epochs]
    assert [policy.signer_set for policy in policies] == [1, 0]


async def test_a_policy_that_changes_again_and_again_does_not_make_epochs_without_end(desk: ReleaseDesk) -> None:
    """Beyond a few it waits: jobs go on under the epoch before, for who satisfies both; nothing is destroyed early."""
    for version in range(2, MOST_BY_POLICY + 6):
        kept = await numbers(desk)
        desk.allow(version=version, mrenclave=[MRENCLAVE, OTHER])
    assert kept == list(range(MOST_BY_POLICY, 0, -1))
    assert await numbers(desk, mrenclave=OTHER, isvsvn=0) == list(range(MOST_BY_POLICY, 1, -1))
    desk.allow(version=100, mrenclave=["f6" * 32], signers=[])
    assert await numbers(desk, mrenclave="f6" * 32, isvsvn=0) == []
    desk.now += timedelta(seconds=DAY_S)
    assert await numbers(desk, mrenclave="f6" * 32, isvsvn=0) == [MOST_BY_POLICY + 1]


# The end


async def test_after_its_end_a_key_is_released_to_nobody_and_destroyed(desk: ReleaseDesk) -> None:
    (key,) = (await grant(desk)).epochs
    await passes(desk, key.open_until_ms - 1000)
    assert (await numbers(desk))[-1] == 1
    desk.epochs.destroy_ended(desk.now)
    assert events(desk, "epoch.destroyed") == []
    await passes(desk, key.open_until_ms)
    assert (await numbers(desk))[-1] == 2
    assert stored(desk)[0][0] == 1
    desk.epochs.destroy_ended(desk.now)
    desk.epochs.destroy_ended(desk.now)
    (destroyed,) = events(desk, "epoch.destroyed")
    assert (destroyed["model"], destroyed["epoch"]) == (MODEL, 1)
    assert stored(desk)[0][0] == 2


async def test_nothing_of_a_destroyed_key_is_left_in_the_store(desk: ReleaseDesk) -> None:
    (key,) = (await grant(desk)).epochs
    ((_, wrapped),) = stored(desk)
    await passes(desk, key.open_until_ms)
    desk.epochs.destroy_ended(desk.now)
    assert not any(wrapped in path.read_bytes() for path in desk.folder.glob(f"{NAME}*"))


@pytest.mark.attack("H07")
async def test_without_a_record_no_epoch_begins_and_none_is_destroyed(desk: ReleaseDesk) -> None:
    with full_record(desk), pytest.raises(Unavailable):
        await grant(desk)
    assert stored(desk) == []
    (key,) = (await grant(desk)).epochs
    desk.now += timedelta(days=10)
    with full_record(desk), pytest.raises(Unavailable):
        desk.epochs.destroy_ended(desk.now)
    assert [number for number, _ in stored(desk)] == [key.epoch]
    desk.epochs.destroy_ended(desk.now)
    assert stored(desk) == []


@pytest.mark.attack("I03")
async def test_while_the_clock_is_set_back_nothing_is_destroyed_and_then_it_is(desk: ReleaseDesk) -> None:
    await grant(desk)
    looks = 0

    def told() -> datetime:
        nonlocal looks
        looks += 1
        return desk.now

    clock = HostClock(told)
    clock.vouched(desk.now + timedelta(days=20))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        desk.now += timedelta(days=10)
        task = group.create_task(destroying(desk.epochs, clock, look_s=0.001))
        while looks < 3:  # noqa: ASYNC110 - a thread looks
            await asyncio.sleep(0.001)
        assert len(stored(desk)) == 1
        desk.now += timedelta(days=10)
        while stored(desk):  # noqa: ASYNC110 - a thread destroys it
            await asyncio.sleep(0.001)
        task.cancel()


# The store


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE epoch SET wrapped_seed = (SELECT wrapped_seed FROM epoch WHERE number = 1)",
        "UPDATE epoch SET wrapped_seed = (SELECT wrapped_seed FROM epoch WHERE name = 'wine')",
        "UPDATE epoch SET wrapped_seed = zeroblob(61)",
        "UPDATE epoch SET number = 3 WHERE number = 2",
        "UPDATE epoch SET suite = 'xwing'",
        "UPDATE epoch SET began_ms = began_ms + 1",
        "UPDATE epoch SET seal_until_ms = seal_until_ms + 1",
        "UPDATE epoch SET open_until_ms = open_until_ms + 86400000",
        "UPDATE epoch SET policy = CAST(policy || 'x' AS BLOB)",
        "UPDATE epoch SET signature = zeroblob(64)",
        "UPDATE epoch SET (policy, signature) = (SELECT policy, signature FROM policy WHERE version = 1)"
        " WHERE number = 2",
        "UPDATE epoch SET (policy, signature) = (SELECT policy, signature FROM policy WHERE name = 'wine')",
    ],
)
async def test_an_edited_or_swapped_record_does_not_open(desk: ReleaseDesk, edit: str) -> None:
    desk.register(name="wine")
    desk.allow(model_name="wine")
    await desk.releaser.release(desk.request(model="wine"), desk.worker.peer())
    await grant(desk)
    desk.allow(version=2, mrenclave=[MRENCLAVE, OTHER])
    assert await numbers(desk) == [2, 1]
    connection = sqlite3.connect(desk.folder / NAME, isolation_level=None)
    connection.execute(edit)
    connection.close()
    with pytest.raises(KeyRefused):
        await grant(desk)
    assert desk.entries()[-1]["reason"] == "store.altered"


async def passes(desk: ReleaseDesk, until_ms: int) -> None:
    """Let time pass, with a release in each epoch."""
    until = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=until_ms)
    while desk.now + timedelta(seconds=DAY_S) < until:
        desk.now += timedelta(seconds=DAY_S)
        await grant(desk)
    desk.now = until


@contextmanager
def full_record(desk: ReleaseDesk) -> Iterator[None]:
    """The disk has no room for lines of the record."""
    connection = sqlite3.connect(desk.folder / NAME, isolation_level=None)
    connection.execute("CREATE TRIGGER full BEFORE INSERT ON line BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    try:
        yield
    finally:
        connection.execute("DROP TRIGGER full")
        connection.close()


def stored(desk: ReleaseDesk) -> list[tuple[int, bytes]]:
    """What the store has, number and wrapped seed."""
    with desk.ledger.looking() as look:
        return look.cursor.execute("SELECT number, wrapped_seed FROM epoch ORDER BY number").fetchall()
