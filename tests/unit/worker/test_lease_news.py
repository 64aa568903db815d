"""What the provisioner says of leases: what is withdrawn goes, what has changed is asked for again (F13, H05)."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from cloister.errors import Unavailable
from cloister.worker.backoff import Backoff
from cloister.worker.lease_news import LeaseNews
from fakes.lease_events import LeaseStreams


@dataclass
class Holding:
    """Leases that are held, and what was asked of their holder."""

    lease_ids: frozenset[str] = frozenset({"a", "b"})
    ended: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    called: asyncio.Condition = field(default_factory=asyncio.Condition)

    def end(self, lease_ids):
        self.ended += lease_ids

    def ask_again(self, lease_ids):
        self.asked += sorted(lease_ids)


@asynccontextmanager
async def following(silence_s=10.0):
    streams, holding = LeaseStreams(), Holding()
    news = LeaseNews(holding, silence_s=silence_s, backoff=Backoff(0.001, 0.002))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(news.follow(streams))
        yield streams, holding
        task.cancel()


async def until(done):
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.attack("J14")
async def test_what_is_withdrawn_goes_at_once():
    async with following() as (streams, holding):
        streams.put(ended=["b"])
        await until(lambda: holding.ended == ["b"])
        assert not holding.asked
        assert streams.named == [("a", "b")]


@pytest.mark.attack("F13")
async def test_what_has_changed_is_asked_for_again_and_once_however_often_it_is_said(monkeypatch):
    monkeypatch.setattr("cloister.worker.lease_news.random.uniform", lambda _least, most: most)
    async with following() as (streams, holding):
        streams.put(changed=["a"], within_ms=1000)
        streams.put(changed=["a", "b"], within_ms=1000)
        await until(lambda: len(holding.asked) >= 2)
        assert sorted(holding.asked) == ["a", "b"]
        streams.put(changed=["a"])
        await until(lambda: len(holding.asked) == 3)


@pytest.mark.attack("J13")
async def test_workers_that_hear_of_a_change_together_ask_at_moments_of_their_own(monkeypatch):
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    async with following() as (streams, holding):
        monkeypatch.setattr("cloister.worker.lease_news.asyncio.sleep", sleep)
        for count in range(20):
            streams.put(changed=["a"], within_ms=60_000)
            await until_asked(holding, count + 1)
        monkeypatch.undo()
    assert len(set(waited)) == 20
    assert max(waited) <= 10, "nobody has us wait for longer"
    assert max(waited) > 1


async def until_asked(holding, times):
    async with asyncio.timeout(10):
        while len(holding.asked) < times:
            await asyncio.to_thread(lambda: None)  # the test has taken asyncio.sleep away


async def test_a_stream_is_begun_anew_for_other_leases_than_it_was_begun_for():
    async with following() as (streams, holding):
        await streams.until_begun(1)
        holding.lease_ids = frozenset({"c"})
        await streams.until_begun(2)
        assert streams.named[-1] == ("c",)


@pytest.mark.attack("H05")
@pytest.mark.parametrize("error", [Unavailable("gone"), None])
async def test_a_stream_that_is_lost_is_begun_anew_and_ends_no_lease(error):
    async with following() as (streams, holding):
        await streams.until_begun(1)
        streams.lose(error)
        await streams.until_begun(2)
        assert not holding.ended


@pytest.mark.attack("H05")
async def test_a_stream_without_a_sign_of_life_is_begun_anew_at_the_next_address():
    async with following(silence_s=0.05) as (streams, holding):
        streams.silent = True
        await streams.until_begun(3)
        assert not holding.ended
        assert streams.moved_on >= 2


@pytest.mark.attack("H05")
async def test_a_stream_that_leaves_an_event_out_is_begun_anew_and_what_came_after_is_not_believed(logged):
    async with following() as (streams, holding):
        streams.put(ended=["a"], sequence=999)
        await streams.until_begun(2)
        assert not holding.ended
    assert "an event of the provisioner's is missing" in logged.getvalue()
