"""When keys change, by a clock that the test moves (attacks G16, J08)."""

from __future__ import annotations

import asyncio

import pytest

from cloister.errors import CloisterError, NotReady, Unavailable
from cloister.seal.hpke import X25519, KeyPair
from cloister.worker.epochs import KeyRotation
from fakes.results import Clock
from fakes.sealed import FakeClient, FakeWorker

OVERLAP_S = 660.0


class Rotating(FakeWorker):
    """A worker whose keys are in turn, and whose verifier believes all of them."""

    def __init__(self) -> None:
        super().__init__(X25519, seal_version=2)
        self.clock = Clock()
        self.rotation = KeyRotation(self.pair, self.sessions.epochs, overlap_s=OVERLAP_S, counter_s=self.clock)
        self.renew("ear-1")

    def renew(self, ear_id: str, life_s: float = 3600) -> None:
        """Renew the membership."""
        self.pair = self.rotation.offered()
        self.rotation.attested(self.pair, ear_id, life_s)


@pytest.fixture
def worker() -> Rotating:
    return Rotating()


def test_a_key_serves_for_an_overlap_at_least_however_often_memberships_are_renewed(worker: Rotating) -> None:
    first = worker.pair
    for number in range(3):
        worker.clock.pass_s(OVERLAP_S / 4)
        worker.renew(f"ear-{number + 2}")
        assert worker.pair is first
    assert worker.open(FakeClient().seal(worker)[0]).ear_id == "ear-4"
    worker.clock.pass_s(OVERLAP_S / 4)
    worker.renew("ear-5")
    assert worker.pair is not first
    assert worker.open(FakeClient().seal(worker)[0]).ear_id == "ear-5"


@pytest.mark.attack("G16")
def test_the_old_key_opens_for_the_overlap_and_then_nobody_can(worker: Rotating) -> None:
    client = FakeClient()
    sealed = [client.seal(worker)[0] for _ in range(3)]
    worker.open(sealed[0])
    worker.clock.pass_s(2400)
    worker.renew("ear-2")
    worker.clock.pass_s(OVERLAP_S - 1)
    assert worker.rotation.drop_ended() == 1
    assert worker.open(sealed[1])
    worker.clock.pass_s(1)
    assert worker.rotation.drop_ended() is None
    for recorded in sealed:
        with pytest.raises(NotReady) as refused:
            worker.open(recorded)
        assert refused.value.reason == "seal.stale"


@pytest.mark.attack("G16")
def test_a_host_that_slows_time_keeps_a_key_until_the_next_but_one_at_most(worker: Rotating) -> None:
    sealed, _ = FakeClient().seal(worker)
    for number in range(2):
        worker.clock.pass_s(OVERLAP_S)  # and nobody calls `drop_ended`
        worker.renew(f"ear-{number + 2}")
    with pytest.raises(NotReady):
        worker.open(sealed)


def test_no_key_opens_for_longer_than_its_result_lasts(worker: Rotating) -> None:
    worker.clock.pass_s(2400)
    worker.renew("ear-2", life_s=900)
    worker.clock.pass_s(OVERLAP_S)
    worker.renew("ear-3")
    assert worker.rotation.drop_ended() == 900 - OVERLAP_S


def test_a_key_whose_answer_was_lost_is_offered_again(worker: Rotating) -> None:
    worker.clock.pass_s(OVERLAP_S)
    offered = worker.rotation.offered()
    assert worker.rotation.offered() is offered
    assert offered is not worker.pair
    old, worker.pair = worker.pair, offered
    sealed, _ = FakeClient().seal(worker)  # the verifier told others, and not us
    with pytest.raises(Unavailable):
        worker.open(sealed)
    worker.rotation.attested(old, "ear-2", 3600)  # an answer about the old key changes nothing of this
    assert worker.rotation.offered() is offered
    worker.rotation.attested(offered, "ear-3", 3600)
    assert worker.open(sealed).ear_id == "ear-3"


def test_the_suite_stays_the_same() -> None:
    pair, worker = KeyPair.generate("xwing"), FakeWorker("xwing")
    rotation = KeyRotation(pair, worker.sessions.epochs, overlap_s=0, counter_s=Clock())
    assert rotation.offered() is not pair
    assert rotation.offered().suite == "xwing"


async def test_old_keys_are_dropped_while_nobody_asks() -> None:
    worker, loop = FakeWorker(X25519, seal_version=2), asyncio.get_running_loop()
    rotation = KeyRotation(worker.pair, worker.sessions.epochs, overlap_s=0.01, counter_s=loop.time)
    rotation.attested(worker.pair, "ear-1", 3600)
    sealed, _ = FakeClient().seal(worker)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        dropping = group.create_task(rotation.dropping())
        await asyncio.sleep(0.02)
        rotation.attested(rotation.offered(), "ear-2", 3600)
        while refusal(worker, sealed) != "seal.stale":  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
        dropping.cancel()


def refusal(worker: FakeWorker, sealed: bytes) -> str:
    """Why it does not open, if so."""
    try:
        worker.open(sealed)
    except CloisterError as error:
        return error.reason
    return ""
