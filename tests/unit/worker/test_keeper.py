"""A wanted model: served while its lease goes, gone at once when it does not (attacks F13)."""

import asyncio
import gc
import json
import time
import weakref
from contextlib import asynccontextmanager

import pytest

from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import EvidenceRejected, InvalidRequest, KeyRefused, NotFound, NotReady, SealBroken, Unavailable
from cloister.worker.backoff import Backoff, renewal_s
from cloister.worker.keeper import ModelKeeper
from cloister.worker.memory import MemoryBudget, estimated_bytes
from cloister.worker.served import ServedModels
from cloister.worker.settings import WantedModel
from fakes.engines import FakeEngine
from fakes.job_epochs import epoch_key, held
from fakes.releases import FakeReleases


class Desk:
    """A keeper with all that it needs; real time, short leases."""

    def __init__(self):
        self.served = ServedModels(time.monotonic)
        self.releases = FakeReleases(time.monotonic)
        self.engines = []
        self.memory, self.sealed_bytes = MemoryBudget(0), 1
        self.load_error = None
        self.loads_failed = 0
        self.changed = asyncio.Condition()
        self.keeper = self.made()

    def made(self):
        return ModelKeeper(
            WantedModel("iris", 0),
            releases=self.releases,
            load=self.load,
            served=self.served,
            counter_s=time.monotonic,
            memory=self.memory,
            sealed_bytes=lambda wanted: self.sealed_bytes,
            backoff=Backoff(0.001, 0.002),
            linger_s=0.0,
        )

    async def load(self, release, room):
        if self.load_error is not None:
            self.loads_failed += 1
            raise self.load_error
        self.engines.append(FakeEngine())
        return self.engines[-1]

    @asynccontextmanager
    async def keeping(self):
        changed = asyncio.Event()
        self.changes = changed
        with self.served.watching(changed.set):
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                task = group.create_task(self.keeper.keep())
                yield self
                task.cancel()

    async def until(self, done):
        async with asyncio.timeout(10):
            while not done():
                await self.changes.wait()
                self.changes.clear()


@pytest.fixture
async def desk():
    return Desk()


async def test_a_model_that_may_be_served_is(desk, logged):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        model = desk.served.find("iris", "")
        assert (model.version, model.allow_plain) == ("2", False)
    assert len(desk.served) == 0
    assert desk.engines[0].closed
    assert "model.served" in logged.getvalue()


async def test_a_refusal_is_tried_again_and_says_no_more_than_that(desk, logged):
    desk.releases.error = KeyRefused("the measurement is not in the policy", reason="policy.mrenclave")
    async with desk.keeping():
        await desk.releases.until_asked(3)
        assert len(desk.served) == 0
        desk.releases.error = None
        await desk.until(lambda: len(desk.served) == 1)
    lines = [line for line in logged.getvalue().splitlines() if "key.refused" in line]
    assert len(lines) >= 3
    assert not any("measurement" in line or "policy" in line for line in lines)


@pytest.mark.attack("F13")
@pytest.mark.parametrize("error", [KeyRefused("no"), EvidenceRejected("no")])
async def test_a_refused_renewal_drops_the_model_at_once(desk, error):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        model = desk.served.find("iris", "2")
        desk.releases.error = error
        desk.keeper.renew_now()  # as at two thirds
        await desk.until(lambda: len(desk.served) == 0)
        assert time.monotonic() < model.ends_at_s - 3000
        assert model.engine.closed


@pytest.mark.attack("F13")
async def test_a_lease_that_cannot_be_renewed_ends(desk, logged):
    desk.releases.lease_s = 0.2
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        model = desk.served.find("iris", "2")
        desk.releases.error = Unavailable("the provisioner is down")
        await desk.until(lambda: len(desk.served) == 0)
        assert time.monotonic() >= model.ends_at_s
        assert model.engine.closed
        assert "lease.ended" in logged.getvalue()
        desk.releases.error = None
        await desk.until(lambda: len(desk.served) == 1)
        assert len(desk.engines) == 2


@pytest.mark.attack("F13")
async def test_a_hanging_provisioner_does_not_lengthen_a_lease(desk):
    desk.releases.lease_s = 0.2
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)

        async def hang(wanted):
            await asyncio.Event().wait()

        desk.releases.release = hang
        await desk.until(lambda: len(desk.served) == 0)


async def test_a_renewed_lease_keeps_the_engine(desk):
    desk.releases.lease_s = 0.1
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        first = desk.served.find("iris", "2")
        await desk.releases.until_asked(4)
        assert len(desk.engines) == 1
        assert not first.engine.closed
        assert desk.served.find("iris", "2").ends_at_s > first.ends_at_s


async def test_new_terms_take_effect_with_the_renewal(desk):
    desk.releases.lease_s = 0.1
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        desk.releases.allow_plain = True
        await desk.until(lambda: desk.served.find("iris", "2").allow_plain)


async def test_a_newer_version_takes_the_place_of_the_old(desk, logged):
    desk.releases.lease_s = 0.2
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        old = desk.served.find("iris", "")
        desk.releases.version = 3
        await desk.until(lambda: desk.served.digest_of("iris", "3") is not None and len(desk.served) == 1)
        await desk.releases.until_asked(3)
        assert old.engine.closed
        assert not desk.engines[1].closed
        with pytest.raises(NotFound):
            desk.served.find("iris", "2")
    assert desk.engines[1].closed
    assert "model.replaced" in logged.getvalue()


BROKEN = [
    InvalidRequest("the model is refused", reason="model.refused"),
    NotReady("model.sealed cannot be opened", reason="model.missing"),
    SealBroken(),
]


@pytest.mark.parametrize("error", BROKEN)
async def test_a_newer_version_that_does_not_load_leaves_the_old_one_served_and_renewed(desk, logged, error):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        old = desk.served.find("iris", "")
        desk.releases.version, desk.load_error = 3, error
        for asked in (3, 5, 6):
            desk.keeper.renew_now()  # as at two thirds
            await desk.releases.until_asked(asked)
        kept = desk.served.find("iris", "")
        assert desk.releases.asked_for[:6] == [0, 0, 2, 0, 2, 0]
        assert (kept.version, kept.engine) == ("2", old.engine)
        assert kept.ends_at_s > old.ends_at_s
        assert not old.engine.closed
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    refused = [line["version"] for line in lines if line["event"] == "model.refused"]
    assert refused == ["3"] * desk.loads_failed
    assert old.engine.closed


@pytest.mark.attack("F05")
async def test_the_old_version_is_kept_under_the_policy_of_today(desk):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        desk.releases.version, desk.load_error = 3, SealBroken()
        desk.releases.allow_plain = True
        desk.keeper.renew_now()
        await desk.until(lambda: desk.served.find("iris", "2").allow_plain)
        kept = desk.served.find("iris", "2")
        desk.releases.min_version = 3
        desk.keeper.renew_now()
        await desk.until(lambda: len(desk.served) == 0)
        assert time.monotonic() < kept.ends_at_s - 3000
        assert kept.engine.closed
        desk.load_error = None
        await desk.until(lambda: len(desk.served) == 1)
        assert desk.served.find("iris", "").version == "3"


async def test_the_old_version_is_not_kept_beyond_its_lease(desk):
    desk.releases.lease_s = 0.2
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        old = desk.served.find("iris", "2")
        desk.releases.version, desk.load_error, release = 3, SealBroken(), desk.releases.release

        async def hang_for_the_old(wanted):
            if wanted.version:
                await asyncio.Event().wait()
            return await release(wanted)

        desk.releases.release = hang_for_the_old
        await desk.until(lambda: len(desk.served) == 0)
        assert time.monotonic() >= old.ends_at_s
        assert old.engine.closed


@pytest.mark.attack("F05")
async def test_an_old_version_that_is_suddenly_another_model_goes(desk):
    desk.releases.lease_s = 0.2
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        desk.releases.version, desk.load_error, release = 3, SealBroken(), desk.releases.release
        desk.releases.release = lambda wanted: release(WantedModel("iris", 3))
        await desk.until(lambda: len(desk.served) == 0)
        assert desk.engines[0].closed


async def test_a_newer_version_that_was_repaired_is_taken_at_the_next_renewal(desk):
    desk.releases.lease_s = 0.5
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        old, counts = desk.served.find("iris", ""), []
        with desk.served.watching(lambda: counts.append(len(desk.served))):
            desk.releases.version, desk.load_error = 3, NotReady("no file", reason="model.missing")
            await desk.releases.until_asked(3)
            desk.load_error = None
            await desk.until(lambda: desk.served.digest_of("iris", "3") is not None and len(desk.served) == 1)
            assert 0 not in counts
        assert desk.releases.asked_for == [0, 0, 2, 0]
        assert old.engine.closed
        assert not desk.engines[1].closed


async def test_a_file_that_is_not_there_yet(desk, logged):
    desk.load_error = NotReady("model.sealed cannot be opened", reason="model.missing")
    async with desk.keeping():
        await desk.releases.until_asked(2)
        assert len(desk.served) == 0
        desk.load_error = None
        await desk.until(lambda: len(desk.served) == 1)
    assert "model.not_served" in logged.getvalue()


async def test_a_lease_shorter_than_loading_never_serves(desk):
    desk.releases.lease_s = -1
    async with desk.keeping():
        await desk.releases.until_asked(3)
        assert len(desk.served) == 0
    assert all(engine.closed for engine in desk.engines)


async def test_an_engine_that_failed_is_replaced(desk, logged):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        desk.engines[0].failed.set()
        await desk.until(lambda: len(desk.engines) == 2 and len(desk.served) == 1)
        assert desk.engines[0].closed
        assert desk.served.find("iris", "2").engine is desk.engines[1]
    assert "engine.failed" in logged.getvalue()


async def test_a_bug_ends_the_keeper(desk):
    desk.load_error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(10):
            await desk.keeper.keep()


@pytest.mark.attack("J13")
def test_renewals_come_before_two_thirds_and_spread():
    times = {renewal_s(300) for _ in range(50)}
    assert len(times) > 40
    assert all(180 <= each <= 200 for each in times)


@pytest.mark.attack("I11")
async def test_a_model_that_does_not_fit_is_refused_before_its_key_is_asked_for(desk):
    desk.memory, desk.sealed_bytes = MemoryBudget(256 << 20), 1 << 30
    desk.keeper = desk.made()
    async with desk.keeping():
        with pytest.raises(NotReady) as raised:
            await desk.keeper.progress.outcome()
        assert raised.value.reason == "memory.full"
        assert desk.releases.asked == 0
        (state,) = desk.served.states()
        assert (state.name, state.version, state.state) == ("iris", "", ModelState.STATE_UNAVAILABLE)
        assert state.reason.startswith("memory.full: iris is estimated to need 3136 MiB more, and 256 of 256 MiB are ")
        desk.sealed_bytes = 1
        await desk.until(lambda: len(desk.served) == 1)
        assert [state.state for state in desk.served.states()] == [ModelState.STATE_READY]
        assert desk.memory.used_bytes == estimated_bytes(1)
    assert desk.memory.used_bytes == 0


@pytest.mark.attack("I11")
async def test_a_host_that_shows_a_short_file_gains_nothing(desk):
    desk.memory, desk.sealed_bytes = MemoryBudget(estimated_bytes(0)), 0
    desk.keeper = desk.made()
    async with desk.keeping():
        with pytest.raises(NotReady) as raised:
            await desk.keeper.progress.outcome()
        assert (raised.value.reason, desk.releases.asked, desk.engines) == ("memory.full", 1, [])
    assert desk.memory.used_bytes == 0


async def test_a_newer_version_that_does_not_fit_beside_the_older_leaves_that_one_served(desk):
    desk.memory, desk.releases.lease_s = MemoryBudget(2 * estimated_bytes(1) - 1), 0.5
    desk.keeper = desk.made()
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        desk.releases.version = 3
        desk.keeper.renew_now()
        with pytest.raises(NotReady):
            await desk.keeper.progress.outcome()
        await desk.releases.until_asked(3)
        told = [(state.version, state.state, state.reason.partition(":")[0]) for state in desk.served.states()]
        assert told == [("2", ModelState.STATE_READY, ""), ("3", ModelState.STATE_UNAVAILABLE, "memory.full")]


async def test_an_older_version_answers_who_has_not_heard_yet_and_what_is_under_way(desk):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        old = desk.served.find("iris", "2")
        old.engine.gate.clear()
        desk.releases.version = 3
        desk.keeper.renew_now()
        newer = await desk.keeper.progress.outcome()
        assert newer.version == "3"
        assert [state.version for state in desk.served.states()] in (["2", "3"], ["3"])
        await desk.until(lambda: [state.version for state in desk.served.states()] == ["3"])
        assert desk.served.find("iris", "") is newer
        assert desk.served.find("iris", "2") is old
        assert not old.engine.closed
        old.engine.gate.set()
        await desk.until(lambda: desk.served.digest_of("iris", "2") is None)
    assert old.engine.closed


async def test_a_refusal_does_not_wait_for_what_is_under_way_on_an_older_version(desk):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        old = desk.served.find("iris", "2")
        old.engine.gate.clear()
        desk.releases.version = 3
        desk.keeper.renew_now()
        await desk.keeper.progress.outcome()
        desk.releases.error = KeyRefused("no")
        await asyncio.sleep(0)
        desk.keeper.renew_now()
        await desk.until(lambda: len(desk.served) == 0)
        assert old.engine.closed


async def test_the_memory_of_a_model_that_goes_is_given_back_also_when_nobody_waits_for_it(desk):
    desk.memory = MemoryBudget(1 << 30)
    desk.keeper = desk.made()
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        old = desk.served.find("iris", "2")
        old.engine.left.clear()
        desk.releases.version = 3
        desk.keeper.renew_now()
        await desk.until(lambda: old.engine.closed)
        desk.releases.error = KeyRefused("no")
        desk.keeper.renew_now()
        await desk.until(lambda: len(desk.served) == 0)
    assert desk.memory.used_bytes == 0


@pytest.mark.attack("I04")
async def test_a_key_is_overwritten_as_soon_as_its_model_is_open_whatever_came_of_it(desk, monkeypatch):
    """At the first load, at one that fails, and at a renewal, which opens nothing."""
    keys = []
    release = desk.releases.release

    async def kept(wanted):
        found = await release(wanted)
        assert any(found.grant.model_key.view)
        keys.append(found.grant.model_key)
        return found

    monkeypatch.setattr(desk.releases, "release", kept)
    desk.releases.lease_s = 0.2
    desk.load_error = NotReady("no file", reason="model.missing")
    async with desk.keeping():
        await desk.releases.until_asked(2)
        desk.load_error = None
        await desk.until(lambda: len(desk.served) == 1)
        await desk.releases.until_asked(desk.releases.asked + 2)
    assert len(keys) >= 5
    assert not any(any(key.view) for key in keys[:-1])


@pytest.mark.attack("I04")
async def test_a_model_that_is_refused_is_named_by_nobody_while_the_next_is_waited_for(desk):
    """Or its engine would stay in memory for as long as the provisioner says no."""
    desk.releases.lease_s = 0.2
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        desk.releases.error = KeyRefused("no")
        await desk.until(lambda: len(desk.served) == 0)
        desk.releases.error = KeyRefused("no")  # another one: the first knows where it was raised
        await desk.releases.until_asked(desk.releases.asked + 2)
        engine = weakref.ref(desk.engines.pop())
        gc.collect()
        assert engine() is None


@pytest.mark.attack("J14")
@pytest.mark.attack("F13")
async def test_a_lease_that_is_withdrawn_takes_key_model_job_keys_and_queued_work_with_it_at_once(desk):
    desk.releases.epochs = held(epoch_key(1))
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        model, desk.releases.error = desk.served.find("iris", ""), KeyRefused("no")
        assert model.job_epochs.newest_first
        desk.keeper.end(model.lease_id)
        await desk.until(lambda: len(desk.served) == 0)
        assert model.engine.closed, "it refuses what waits and lets go of the weights"
        assert time.monotonic() < model.ends_at_s - 3000
        assert not desk.keeper.lease_ids
        (state,) = desk.served.states()
        assert state.state == ModelState.STATE_UNAVAILABLE
        assert not state.HasField("job_epoch")


@pytest.mark.attack("J14")
async def test_a_withdrawal_waits_neither_for_a_renewal_nor_for_a_newer_version_that_is_loaded(desk):
    loading = asyncio.Event()

    async def load_for_ever(release, room):
        if desk.engines:
            loading.set()
            await asyncio.Event().wait()
        return await Desk.load(desk, release, room)

    desk.load = load_for_ever
    desk.keeper = desk.made()
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        old, desk.releases.version = desk.served.find("iris", ""), 3
        desk.keeper.renew_now()
        await loading.wait()
        desk.releases.error = KeyRefused("no")
        desk.keeper.end(old.lease_id)
        await desk.until(lambda: len(desk.served) == 0)
        assert old.engine.closed
    assert desk.memory.used_bytes == 0


@pytest.mark.attack("J14")
async def test_an_older_version_that_is_withdrawn_while_it_goes_answers_no_more_and_the_newer_one_stays(desk):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        old = desk.served.find("iris", "2")
        old.engine.gate.clear()
        desk.releases.version = 3
        desk.keeper.renew_now()
        newer = await desk.keeper.progress.outcome()
        await desk.until(lambda: old.lease_id in desk.keeper.lease_ids)
        desk.keeper.end(old.lease_id)
        await desk.until(lambda: desk.served.digest_of("iris", "2") is None)
        assert desk.served.find("iris", "") is newer
        assert desk.keeper.lease_ids == {newer.lease_id}
        old.engine.gate.set()


async def test_a_version_that_is_withdrawn_is_followed_by_what_may_still_be_had(desk):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        desk.releases.version = 1  # the highest that is left
        desk.keeper.end(desk.served.find("iris", "").lease_id)
        await desk.until(lambda: desk.served.digest_of("iris", "1") is not None)
        assert desk.engines[0].closed
        assert len(desk.served) == 1


async def test_news_of_another_lease_changes_nothing(desk):
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        desk.keeper.end("another")
        await asyncio.sleep(0)
        assert len(desk.served) == 1
        assert not desk.engines[0].closed


@pytest.mark.attack("J13")
async def test_while_the_provisioner_is_away_for_less_than_the_last_third_of_a_lease_nothing_fails(desk):
    desk.releases.lease_s = 60
    async with desk.keeping():
        await desk.until(lambda: len(desk.served) == 1)
        first, counts = desk.served.find("iris", ""), []
        with desk.served.watching(lambda: counts.append(len(desk.served))):
            desk.releases.error = Unavailable("the provisioner is away")
            desk.keeper.renew_now()  # as at two thirds
            await desk.releases.until_asked(5)
            desk.releases.error = None
            renewed = await desk.keeper.progress.outcome()
            assert 0 not in counts
        assert desk.served.find("iris", "") is renewed
        assert renewed.ends_at_s > first.ends_at_s
        assert [engine.closed for engine in desk.engines] == [False]


async def test_job_keys_come_and_go_with_the_lease(desk):
    desk.releases.lease_s, desk.releases.epochs = 0.2, held(epoch_key(1))

    def numbers():
        return [epoch.number for model in desk.served for epoch in model.job_epochs.newest_first]

    async with desk.keeping():
        await desk.until(lambda: numbers() == [1])
        desk.releases.epochs, asked = held(epoch_key(2), epoch_key(1)), desk.releases.asked
        await desk.releases.until_asked(asked + 2)
        assert numbers() == [2, 1]
        desk.releases.error = KeyRefused("no")
        await desk.until(lambda: len(desk.served) == 0)
        assert numbers() == []
