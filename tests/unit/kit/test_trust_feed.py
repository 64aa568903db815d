from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from cloister.api.v1 import verifier_pb2 as pb
from cloister.errors import InvalidRequest, NotReady, Unavailable
from cloister.kit import trust_feed
from cloister.kit.revocation import Kind, Name
from cloister.kit.trust_feed import TrustFeed
from cloister.rpc.channel import Peer
from fakes.results import INSTANCE, Clock

REVOKED = pb.Revocation(kind=pb.REVOCATION_KIND_INSTANCE, value=INSTANCE)
NAME = Name(Kind.INSTANCE, INSTANCE)


class Saying:
    """A verifier that says, at each listening, what a test has lined up, and is then silent."""

    def __init__(self, *listenings: list[pb.TrustEvent]) -> None:
        self.listenings = list(listenings)
        self.silent = asyncio.Event()
        self.shown: list[str] = []

    def stub(self, _kind: object) -> Saying:
        return self

    def WatchTrust(self, request: pb.WatchTrustRequest, timeout: float) -> Any:
        assert timeout > 0
        self.shown.append(request.attestation_result)
        return Events(self._events(self.listenings.pop(0)))

    async def _events(self, events: list[pb.TrustEvent]) -> AsyncIterator[pb.TrustEvent]:
        for event in events:
            yield event
        if not self.listenings:
            self.silent.set()
            await asyncio.Event().wait()
        raise Unavailable("cut")


class Events:
    def __init__(self, events: AsyncIterator[pb.TrustEvent]) -> None:
        self._events = events

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> pb.TrustEvent:
        return await anext(self._events)

    def cancel(self) -> None:
        """Nothing holds on to us."""


async def followed(verifier: Saying, **changes: Any) -> TrustFeed:
    """A feed that has heard all that is to be heard."""
    feed = TrustFeed(**{"monotonic": Clock(), "silence_s": 5.0, **changes})
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        following = group.create_task(feed.follow(cast(Peer, verifier), lambda: "mine"))
        await verifier.silent.wait()
        following.cancel()
    return feed


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_feed, "FIRST_PAUSE_S", 0.001)


def full(sequence: int, *revocations: pb.Revocation) -> pb.TrustEvent:
    return pb.TrustEvent(sequence=sequence, listed=True, revocations=revocations, key_set=b"keys")


async def test_the_last_list_is_in_force_while_nobody_can_be_heard() -> None:
    verifier, learned, heard = Saying([full(1, REVOKED), pb.TrustEvent(sequence=2)], []), [], []
    feed = await followed(verifier, learn=learned.append, heard=lambda: heard.append(1))
    assert (feed.revoked, learned, heard) == ({NAME}, [b"keys"], [1])
    assert verifier.shown == ["mine", "mine"]


async def test_a_lift_is_heard() -> None:
    assert not (await followed(Saying([full(1, REVOKED), full(2)]))).revoked


@pytest.mark.attack("H05")
@pytest.mark.parametrize("sequence", [1, 3])
async def test_after_a_gap_everything_is_asked_for_anew(sequence: int) -> None:
    gap = [full(1), pb.TrustEvent(sequence=sequence, listed=True)]
    assert (await followed(Saying(gap, [full(1, REVOKED)]))).revoked == {NAME}


@pytest.mark.attack("H05")
async def test_silence_is_noticed() -> None:
    clock = Clock()
    feed = TrustFeed(monotonic=clock, silence_s=5.0)
    with pytest.raises(NotReady, match="what is revoked"):
        feed.check_heard(10)
    verifier = Saying([full(1)])
    feed = await followed(verifier, monotonic=clock)
    clock.pass_s(10)
    feed.check_heard(10)
    clock.pass_s(0.1)
    with pytest.raises(NotReady) as refused:
        feed.check_heard(10)
    assert refused.value.reason == "revocations.unheard"


@pytest.mark.attack("H05")
async def test_a_stream_that_gives_no_sign_of_life_is_begun_anew() -> None:
    verifier = Saying([full(1, REVOKED)], [full(1)])

    async def silent(events: list[pb.TrustEvent]) -> AsyncIterator[pb.TrustEvent]:
        for event in events:
            yield event
        if not verifier.listenings:
            verifier.silent.set()
        await asyncio.Event().wait()

    verifier._events = silent  # type: ignore[method-assign]
    assert not (await followed(verifier, silence_s=0.02)).revoked


@pytest.mark.parametrize(
    "bad", [pb.Revocation(value=INSTANCE), pb.Revocation(kind=pb.REVOCATION_KIND_SIGNER, value="x")]
)
async def test_what_is_not_understood_is_not_passed_over(bad: pb.Revocation) -> None:
    """The list from before stays, and the stream is begun anew."""
    feed = await followed(Saying([full(1, REVOKED), full(2, bad)], []))
    assert feed.revoked == {NAME}


async def test_a_key_set_that_is_refused_stops_no_revocation() -> None:
    def refuse(_key_set: bytes) -> None:
        raise InvalidRequest("not signed")

    assert (await followed(Saying([full(1, REVOKED)]), learn=refuse)).revoked == {NAME}
