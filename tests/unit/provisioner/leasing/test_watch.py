"""What a worker hears of its leases: what is withdrawn, what has changed, nothing that is another's (F13, J14, H05)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress

import pytest

from cloister.api.v1.provisioner_pb2 import LeaseEvent
from cloister.errors import InvalidRequest, Overloaded, Unavailable
from cloister.provisioner.leasing.watch import (
    MAX_LEASES,
    MAX_OF_INSTANCE,
    MOST_WITHIN_MS,
    GivenLease,
    LeaseDesk,
    LeaseWatch,
    Terms,
)

MINE, OTHERS = "a" * 32, "b" * 32


class Desk:
    """Leases by instance, and terms by name, as a test sets them."""

    def __init__(self) -> None:
        self.leases: dict[str, dict[str, GivenLease]] = {
            MINE: {
                "one": GivenLease("iris", 1, 10),
                "two": GivenLease("iris", 2, 11),
                "wine": GivenLease("wine", 1, 12),
            },
            OTHERS: {"theirs": GivenLease("iris", 1, 10)},
        }
        self.known = {"iris": Terms(5), "wine": Terms(6)}
        self.watch = LeaseWatch(
            LeaseDesk(self.given, lambda name: self.known[name]), asyncio.get_running_loop(), sign_of_life_s=0.01
        )

    def given(self, instance: str, lease_ids: Collection[str]) -> Mapping[str, GivenLease]:
        return {key: each for key, each in self.leases.get(instance, {}).items() if key in lease_ids}

    async def change(self, name: str, changed_at: int, *withdrawn: int) -> None:
        """As after a line of the record."""
        self.known[name] = Terms(changed_at, frozenset(withdrawn))
        await asyncio.to_thread(self.watch.tell, name)

    @asynccontextmanager
    async def watching(self, *lease_ids: str, instance: str = MINE) -> AsyncIterator[AsyncIterator[LeaseEvent]]:
        events = self.watch.events(instance, lease_ids)
        try:
            async with asyncio.timeout(10):
                yield events
        finally:
            await events.aclose()


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def said(events: AsyncIterator[LeaseEvent]) -> LeaseEvent:
    """The next event that says something."""
    async for event in events:
        if event.ended or event.changed:
            return event
    raise AssertionError("the stream ended")


async def lives(events: AsyncIterator[LeaseEvent], times: int = 3) -> None:
    """So many signs of life, and no news."""
    for _ in range(times):
        event = await anext(events)
        assert not event.ended
        assert not event.changed


@pytest.mark.attack("H05")
async def test_a_sign_of_life_comes_without_news_and_events_are_numbered(desk: Desk) -> None:
    async with desk.watching("one") as events:
        assert [(await anext(events)).sequence for _ in range(3)] == [1, 2, 3]


@pytest.mark.attack("J14")
async def test_a_withdrawn_version_ends_its_leases_and_has_the_others_asked_for_again(desk: Desk) -> None:
    async with desk.watching("one", "two", "wine") as events:
        await lives(events)
        await desk.change("iris", 20, 2)
        event = await said(events)
        assert (list(event.ended), list(event.changed)) == (["two"], ["one"])
        await lives(events)


@pytest.mark.attack("J14")
async def test_a_withdrawn_model_ends_all_its_leases_and_no_other(desk: Desk) -> None:
    async with desk.watching("one", "two", "wine") as events:
        await lives(events)
        await desk.change("iris", 20, 0)
        event = await said(events)
        assert (sorted(event.ended), list(event.changed)) == (["one", "two"], [])
        await lives(events)


@pytest.mark.attack("F13")
async def test_a_change_of_the_model_has_its_leases_asked_for_again_once(desk: Desk) -> None:
    async with desk.watching("one", "wine") as events:
        await lives(events)
        await desk.change("iris", 20)
        event = await said(events)
        assert (list(event.ended), list(event.changed)) == ([], ["one"])
        await desk.change("iris", 21)
        await lives(events)


@pytest.mark.attack("J14")
async def test_what_was_missed_is_said_at_once(desk: Desk) -> None:
    await desk.change("iris", 20, 1)
    await desk.change("wine", 21)
    async with desk.watching("one", "wine") as events:
        event = await anext(events)
        assert (list(event.ended), list(event.changed)) == (["one"], ["wine"])


async def test_what_was_given_after_the_change_is_not_asked_for_again(desk: Desk) -> None:
    """So a restart of the provisioner brings nobody who need not come."""
    await desk.change("iris", 9)
    async with desk.watching("one") as events:
        await lives(events)


async def test_what_changes_while_a_stream_begins_is_said(desk: Desk) -> None:
    """The change is on record once the leases were looked up, and before what holds for them was."""
    loop, before = asyncio.get_running_loop(), desk.watch._desk.terms

    def terms(name: str) -> Terms:
        looked_up = before(name)
        desk.known[name] = Terms(20)
        loop.call_soon_threadsafe(desk.watch._adopt, name, Terms(20))
        return looked_up

    desk.watch._desk = LeaseDesk(desk.given, terms)
    async with desk.watching("one") as events:
        assert list((await said(events)).changed) == ["one"]


async def test_a_lease_of_another_worker_is_as_one_that_nobody_was_given(desk: Desk) -> None:
    await desk.change("iris", 20, 0)
    async with desk.watching("theirs", "nobody's") as events:
        await lives(events)
        await desk.change("wine", 21)
        event = await said(events)
        assert (list(event.ended), list(event.changed)) == ([], ["nobody's", "theirs"])
        await desk.change("iris", 22, 0)
        await lives(events)


@pytest.mark.attack("J13")
async def test_the_more_workers_have_changed_leases_the_longer_they_are_given_to_ask(desk: Desk) -> None:
    for number in range(300):
        desk.leases[f"{number:032x}"] = {f"of {number}": GivenLease("iris", 1, 10)}
    async with desk.watching("one") as mine:
        await lives(mine)
        await desk.change("iris", 20)
        assert (await said(mine)).within_ms == 10
    streams = [desk.watch.events(instance, list(desk.leases[instance])) for instance in list(desk.leases)[2:]]
    desk.known["iris"] = Terms(5)
    for events in streams:
        await anext(events)
    await desk.change("iris", 30)
    assert (await said(streams[0])).within_ms == 3000 < MOST_WITHIN_MS
    for events in streams:
        await events.aclose()


async def test_streams_and_what_they_name_are_bounded(desk: Desk) -> None:
    with pytest.raises(InvalidRequest):
        await anext(desk.watch.events(MINE, ["x"] * (MAX_LEASES + 1)))
    with pytest.raises(InvalidRequest):
        await anext(desk.watch.events(MINE, ["x" * 65]))
    streams = [desk.watch.events(MINE, ["one"]) for _ in range(MAX_OF_INSTANCE)]
    for events in streams:
        await anext(events)
    with pytest.raises(Overloaded):
        await anext(desk.watch.events(MINE, ["one"]))
    async with desk.watching("theirs", instance=OTHERS) as others:
        await anext(others)
    await streams.pop().aclose()
    async with desk.watching("one") as events:
        await anext(events)
    for each in streams:
        await each.aclose()


async def test_everybody_is_sent_away_when_the_service_goes(desk: Desk) -> None:
    async with desk.watching("one") as events:
        await lives(events)
        desk.watch.close()
        with pytest.raises(Unavailable) as ended:
            await anext(events)
        assert ended.value.reason == "peer.draining"
    with pytest.raises(Unavailable), suppress(StopAsyncIteration):
        await anext(desk.watch.events(MINE, ["one"]))
