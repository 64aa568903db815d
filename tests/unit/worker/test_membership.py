"""A membership renews in time, also where the verifier has too much to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from cloister.errors import ChallengeExpired, EvidenceRejected, InvalidRequest, NotReady, Overloaded, Unavailable
from cloister.rpc.certificates import new_key
from cloister.seal.hpke import KeyPair
from cloister.seal.session import WorkerSessions
from cloister.worker.attester import OwnResult
from cloister.worker.clock import MeshClock
from cloister.worker.epochs import KeyRotation
from cloister.worker.membership import Membership
from fakes.pki import MeshPki

INSTANCE = "ab" * 16


@dataclass
class BusyVerifier:
    """Has evidence appraised, except for so many times when it is full."""

    pki: MeshPki
    full: int
    served: asyncio.Event = field(default_factory=asyncio.Event)
    renewed: list[OwnResult] = field(default_factory=list)

    def __post_init__(self):
        self.keys = SimpleNamespace(tls=new_key(), instance=INSTANCE)

    def result(self, life: timedelta) -> OwnResult:
        now = datetime.now(UTC)
        chain = self.pki.identity("worker", INSTANCE, key=self.keys.tls).certificate
        return OwnResult(token="t", ear_id="e", issued_at=now, expires_at=now + life, certificate=chain)

    async def appraised(self, peer, purpose, hpke):
        if self.full:
            self.full -= 1
            raise Overloaded("too many wait to be appraised")
        self.served.set()
        return self.result(timedelta(hours=1))


async def renewing(verifier: BusyVerifier) -> Membership:
    clock, first = MeshClock(), verifier.result(timedelta(seconds=0.2))
    clock.hear(first.issued_at)
    identity = verifier.pki.identity("worker", INSTANCE, key=verifier.keys.tls).held()
    pair = KeyPair.generate("x25519")
    epochs = WorkerSessions(pair, "demo.cloister.internal", INSTANCE).epochs
    rotation = KeyRotation(pair, epochs, overlap_s=1, counter_s=clock.counter_s)
    membership = Membership(verifier, clock, rotation, identity, first)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(membership.renewing(None, verifier.renewed.append))
        served = group.create_task(verifier.served.wait())
        await asyncio.wait({task, served}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)
        task.cancel()
        served.cancel()
    return membership


@pytest.mark.attack("J13")
async def test_a_renewal_that_finds_no_place_is_tried_again_before_the_membership_ends():
    verifier = BusyVerifier(MeshPki(), full=1)
    membership = await renewing(verifier)
    assert verifier.served.is_set()
    assert membership.result.expires_at - membership.result.issued_at == timedelta(hours=1)
    assert verifier.renewed == [membership.result]


async def test_a_membership_that_could_not_be_renewed_ends_the_worker():
    with pytest.raises(ExceptionGroup) as ended:
        await renewing(BusyVerifier(MeshPki(), full=1000))
    assert ended.group_contains(NotReady, match="ended before it could be renewed")


class SilentVerifier(BusyVerifier):
    """Fails in a way of its own, so many times, and counts who asks."""

    def __init__(self, pki: MeshPki, *errors: Exception) -> None:
        super().__init__(pki, full=0)
        self.errors = list(errors)
        self.asked = 0

    async def appraised(self, peer, purpose, hpke):
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.result(timedelta(hours=1))


async def joining(verifier: SilentVerifier, patience_s: float) -> Membership:
    clock, pair = MeshClock(), KeyPair.generate("x25519")
    epochs = WorkerSessions(pair, "demo.cloister.internal", INSTANCE).epochs
    rotation = KeyRotation(pair, epochs, overlap_s=1, counter_s=clock.counter_s)
    return await Membership.join(verifier, clock, rotation, None, verifier.pki.roots_pem, patience_s=patience_s)


@pytest.fixture
def _at_once(monkeypatch):
    monkeypatch.setattr("cloister.worker.backoff.Backoff.pause", lambda self, at_most_s=0.0: asyncio.sleep(0))


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize(
    "error", [Unavailable("down"), TimeoutError(), Overloaded("full"), ChallengeExpired("too old")], ids=repr
)
async def test_what_may_pass_is_waited_out(error):
    verifier = SilentVerifier(MeshPki(), error, error)
    await joining(verifier, patience_s=60)
    assert verifier.asked == 3


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("error", [EvidenceRejected("no"), NotReady("no quotes"), InvalidRequest("what?")], ids=repr)
async def test_what_does_not_pass_is_final(error):
    verifier = SilentVerifier(MeshPki(), error, error)
    with pytest.raises(type(error)):
        await joining(verifier, patience_s=60)
    assert verifier.asked == 1


async def test_nobody_is_waited_for_beyond_patience():
    verifier = SilentVerifier(MeshPki(), *[Unavailable("down")] * 9)
    with pytest.raises(Unavailable):
        await joining(verifier, patience_s=0)
    assert verifier.asked == 1
