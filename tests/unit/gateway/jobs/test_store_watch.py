"""Whether jobs may be kept: only once Redis was found fit, and again after it was away."""

from __future__ import annotations

from typing import Any

import pytest

from cloister.errors import CloisterError, NotReady, Unavailable
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.opening import consumer_name
from cloister.gateway.jobs.settings import JobsSettings
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.kit.metrics import Metrics
from fakes.job_store import MemoryJobStore, Shelf
from fakes.run_jobs import kept_job, now_ms


class Checked:
    """A store and what is found of its Redis."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.found: CloisterError | None = None
        self.checks = 0
        self.store = MemoryJobStore(self.shelf, now_ms)
        self.stores = StoreWatch(self.store, self._check)

    async def _check(self) -> None:
        self.checks += 1
        if self.found is not None:
            raise self.found

    def refused(self) -> str:
        with pytest.raises((NotReady, Unavailable)) as caught:
            self.stores.store()
        reason: str = caught.value.reason
        return reason


async def test_until_it_was_looked_at_nothing_is_kept_and_then_it_is() -> None:
    rig = Checked()
    assert rig.refused() == "jobs.unchecked"
    await rig.stores.look()
    assert rig.stores.store() is rig.store
    assert rig.stores.state == "ready"


@pytest.mark.attack("H06")
async def test_a_redis_that_is_open_to_strangers_is_not_used_before_it_is_closed() -> None:
    rig = Checked()
    rig.found = NotReady("set tls-auth-clients yes", reason="redis.exposed")
    for _ in range(2):
        await rig.stores.look()
        assert (rig.refused(), rig.stores.state) == ("redis.exposed", "redis.exposed")
    assert rig.shelf.calls == {}
    rig.found = None
    await rig.stores.look()
    assert rig.stores.store() is rig.store


@pytest.mark.attack("H06")
async def test_one_that_was_away_is_looked_at_again_for_it_may_be_another() -> None:
    rig = Checked()
    await rig.stores.look()
    rig.shelf.away = True
    await rig.stores.look()
    assert rig.stores.state == "state.unavailable"
    assert rig.stores.store() is rig.store  # whether it is back, each call finds out for itself
    rig.shelf.away, rig.found = False, NotReady("open", reason="redis.exposed")
    await rig.stores.look()
    assert rig.refused() == "redis.exposed"
    assert rig.checks == 2


async def test_as_long_as_it_answers_it_is_looked_at_once() -> None:
    rig = Checked()
    for _ in range(3):
        await rig.stores.look()
    assert rig.checks == 1


async def test_where_there_is_none_the_words_say_what_to_set() -> None:
    off = StoreWatch.off()
    with pytest.raises(NotReady, match=r"\[redis\].*jobs\.enabled") as caught:
        off.store()
    assert caught.value.reason == "jobs.off"
    told: list[bool] = []

    async def serving(ready: bool) -> None:
        told.append(ready)

    await off.watching(serving)
    assert told == []


async def test_the_page_shows_how_the_queues_are_and_whether_jobs_can_be_kept() -> None:
    rig = Checked()
    metrics = Metrics()
    jobs = JobMetrics(metrics, rig.stores)
    assert sample(jobs, "cloister_jobs_ready") == 0
    await rig.store.submit([kept_job(), kept_job()], JobsSettings().bounds())
    await rig.stores.look()
    assert sample(jobs, "cloister_jobs_ready") == 1
    assert sample(jobs, "cloister_jobs_waiting", model="tiny") == 2
    assert sample(jobs, "cloister_jobs_idle_seconds") is None  # this process gives none to workers
    jobs.held = lambda: {"tiny": 7}
    assert sample(jobs, "cloister_jobs_held", model="tiny") == 7


async def test_names_and_reasons_beyond_a_limit_are_counted_as_one() -> None:
    jobs = JobMetrics(Metrics(), Checked().stores)
    jobs.held = dict
    for number in range(1200):
        jobs.attempted(f"model-{number}", f"reason.{number}")
    samples = [each for family in jobs.collect() for each in family.samples if each.name.endswith("attempts_total")]
    assert len(samples) <= 1001
    assert sum(each.value for each in samples) == 1200


@pytest.mark.parametrize("name", ["gateway", "Gateway of the 3rd floor ", "x" * 200])
def test_a_process_has_a_name_of_its_own_that_redis_takes(name: str) -> None:
    names = {
        consumer_name(name, listen, number) for listen in ("127.0.0.1:8440", "127.0.0.1:8441") for number in (1, 2)
    }
    assert len(names) == 4
    assert all(len(each) <= 63 and each.isascii() and " " not in each for each in names)
    assert consumer_name(name, "h:1", 1) == consumer_name(name, "h:1", 1)


def sample(jobs: JobMetrics, name: str, **labels: str) -> Any:
    found = [each for family in jobs.collect() for each in family.samples if each.name == name]
    return next((each.value for each in found if each.labels == labels), None)
