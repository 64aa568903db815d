"""Job keys are there with a lease and not without one; what is missed is asked for, and not often."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from cloister.errors import NotReady
from cloister.worker.job_epochs import MARGIN_MS, JobEpochs, JobStatements
from cloister.worker.job_keys import ASK_AGAIN_S, ASK_ANY_S, JobKeys
from cloister.worker.served import ServedModels
from fakes.attested_worker import CLUSTER, MODEL, Inside
from fakes.job_epochs import DAY_MS, epoch_key, held

ONE, TWO = held(epoch_key(1))[0], held(epoch_key(2, seal_until_ms=2 * DAY_MS, open_until_ms=3 * DAY_MS))[0]


class Desk:
    """A worker that serves a model with epochs, on clocks that a test moves."""

    def __init__(self):
        self.inside = Inside()
        self.now_ms, self.asked, self.dropped = 0, [], []
        self.statements = JobStatements(CLUSTER, self.inside.keys.instance, self.inside.keys.receipt, self.now)
        self.statements.attested("ear-1")
        self.served = self.inside.served = ServedModels(self.inside.counter, self.statements.of)
        self.keys = JobKeys(
            self.served,
            now=self.now,
            counter_s=self.inside.counter,
            renew=self.asked.append,
            dropped=self.dropped.append,
        )

    def now(self):
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    def serve(self, *epochs, **changes):
        return self.inside.also_serve(job_epochs=JobEpochs(epochs), **changes)

    def told(self):
        return [state.job_epoch.statement for state in self.served.states()]


@pytest.fixture
def desk():
    return Desk()


def test_a_worker_has_the_pair_that_came_with_its_lease(desk):
    desk.serve(TWO, ONE)
    assert desk.keys.pair(MODEL, ONE.pair.key_id) is ONE.pair
    assert desk.keys.pair(MODEL, TWO.pair.key_id) is TWO.pair
    assert desk.asked == []


def test_a_worker_without_a_lease_has_no_pair_and_asks_for_none(desk):
    model = desk.serve(ONE)
    desk.inside.counter.pass_s(model.ends_at_s - desk.inside.counter())
    assert desk.keys.pair(MODEL, ONE.pair.key_id) is None
    desk.serve(ONE, ends_at_s=desk.inside.counter() + 60)
    assert desk.keys.pair(MODEL, ONE.pair.key_id) is ONE.pair
    desk.served.drop(model)
    assert desk.keys.pair(MODEL, ONE.pair.key_id) is None
    assert desk.asked == []


def test_a_key_of_another_model_is_none(desk):
    desk.serve(ONE)
    desk.serve(TWO, name="wine")
    assert desk.keys.pair("wine", ONE.pair.key_id) is None
    assert desk.keys.pair(MODEL, TWO.pair.key_id) is None


def test_a_key_that_any_version_brought_opens_and_the_version_that_answers_is_held_against_its_own_lease(desk):
    two, three = desk.serve(TWO, version="2"), desk.serve(TWO, ONE, version="3")
    assert desk.keys.pair(MODEL, ONE.pair.key_id) is ONE.pair
    three.job_epochs.check(ONE.number)
    two.job_epochs.check(TWO.number)
    with pytest.raises(NotReady) as refused:
        two.job_epochs.check(ONE.number)
    assert refused.value.reason == "epoch.unknown"


def test_a_key_whose_time_is_up_is_dropped_and_who_keeps_what_it_opened_is_told(desk):
    model = desk.serve(TWO, ONE)
    desk.keys.look()
    desk.now_ms = ONE.open_until_ms
    assert desk.keys.pair(MODEL, ONE.pair.key_id) is None
    desk.keys.look()
    assert model.job_epochs.newest_first == (TWO,)
    assert desk.dropped == [ONE.pair.key_id]


def test_a_key_goes_with_the_last_model_that_has_it(desk):
    two, three = desk.serve(ONE, version="2"), desk.serve(ONE, version="3")
    desk.keys.look()
    desk.served.drop(two)
    desk.keys.look()
    assert desk.dropped == []
    desk.served.drop(three)
    desk.keys.look()
    desk.keys.look()
    assert desk.dropped == [ONE.pair.key_id]


async def test_a_dropped_model_is_noticed_at_once(desk):
    model, gone = desk.serve(ONE), asyncio.Event()
    desk.keys._dropped = lambda _: gone.set()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(desk.keys.looking())
        await asyncio.sleep(0)
        desk.serve(ONE, allow_plain=False)
        await asyncio.sleep(0)
        desk.served.drop(model)
        await gone.wait()
        task.cancel()


# What is missed


def test_a_miss_asks_for_the_lease_again_and_not_for_a_while(desk):
    desk.serve(ONE)
    assert desk.keys.pair(MODEL, b"other key") is None
    assert desk.asked == [MODEL]
    desk.inside.counter.pass_s(ASK_AGAIN_S - 1)
    for _ in range(1000):
        desk.keys.pair(MODEL, b"other key")
    assert desk.asked == [MODEL]
    desk.inside.counter.pass_s(1)
    desk.keys.pair(MODEL, b"other key")
    assert desk.asked == [MODEL, MODEL]


@pytest.mark.attack("J13")
def test_misses_of_many_models_ask_far_less_than_a_worker_may(desk):
    """120 releases a minute are a worker's share; its leases must not wait for who names keys that nobody has."""
    names = [f"model-{number}" for number in range(100)]
    for name in names:
        desk.serve(ONE, name=name)
    for _ in range(60):
        for name in names:
            desk.keys.pair(name, b"other key")
        desk.inside.counter.pass_s(1)
    assert len(desk.asked) <= 60 / ASK_ANY_S <= 12


# What is told


def test_a_renewal_that_brings_another_key_is_news_and_one_that_does_not_is_none(desk):
    news = []
    desk.serve(ONE)
    (before,) = desk.told()
    with desk.served.watching(lambda: news.append(desk.told())):
        desk.serve(*held(epoch_key(1)))
        assert news == []
        desk.serve(held(epoch_key(3, policy=b"new policy"))[0], ONE)
    ((after,),) = news
    assert before
    assert after not in (before, b"")


def test_time_and_a_new_result_are_news_too(desk):
    news = []
    desk.serve(TWO, ONE)
    with desk.served.watching(lambda: news.append(desk.told())):
        desk.keys.look()
        assert news == []
        desk.now_ms = ONE.seal_until_ms - MARGIN_MS
        desk.keys.look()
        desk.statements.attested("ear-2")
        desk.served.tell_news()
        desk.served.tell_news()
        desk.now_ms = TWO.seal_until_ms
        desk.keys.look()
    assert [len(told) for (told,) in news] == [len(news[0][0]), len(news[0][0]), 0]
    assert len({told for (told,) in news}) == 3


def test_without_a_key_nothing_is_said(desk):
    desk.serve()
    (state,) = desk.served.states()
    assert not state.HasField("job_epoch")
