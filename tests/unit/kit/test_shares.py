"""Shares: counted until the task is done, refused beyond, forgotten after."""

from __future__ import annotations

import asyncio

import pytest

from cloister.errors import Overloaded
from cloister.kit.shares import Shares


async def call(shares: Shares, peer: str, until: asyncio.Event, answer_bytes: int = 0) -> None:
    shares.enter(peer)
    if answer_bytes:
        shares.answered(peer, answer_bytes)
    await until.wait()


async def test_a_peer_has_its_share_and_another_has_its_own() -> None:
    shares, until = Shares(2, 100), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(call(shares, "ann", until))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            shares.enter("ann")
        assert caught.value.reason == "calls.open"
        group.create_task(call(shares, "bob", until))
        await asyncio.sleep(0)
        assert shares.open_calls == 3
        until.set()
    await asyncio.sleep(0)
    assert shares.open_calls == 0
    await call(shares, "ann", until)


@pytest.mark.attack("G26")
async def test_peers_of_one_party_have_one_share_and_keep_it_when_they_change_sides() -> None:
    party_of = {"ann": "ward", "ben": "ward", "cid": "lab"}
    shares, until = Shares(2, 100, party_of.__getitem__), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(call(shares, "ann", until))
        group.create_task(call(shares, "ben", until))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            shares.enter("ann")
        group.create_task(call(shares, "cid", until))
        await asyncio.sleep(0)
        party_of["ann"] = "nobody yet"
        shares.answered("ann", 1000)
        until.set()
    await asyncio.sleep(0)
    assert shares.open_calls == 0


async def test_answers_that_have_not_left_are_counted_in_bytes() -> None:
    shares, until = Shares(10, 100), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(call(shares, "ann", until, 99))
        await asyncio.sleep(0)
        group.create_task(call(shares, "ann", until, 1))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            shares.enter("ann")
        assert caught.value.reason == "answers.unread"
        until.set()
    await asyncio.sleep(0)
    await call(shares, "ann", until, 1)
