"""A model key: whose model it may be, and how long its lease lasts whatever anybody says of the time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.model_pb2 import SignedReleasePolicy
from cloister.api.v1.provisioner_pb2 import EpochKey
from cloister.errors import KeyRefused, SealBroken
from cloister.seal.hpke import X25519, KeyPair
from cloister.seal.keys import Secret
from cloister.worker.clock import ClockJumped
from cloister.worker.settings import WantedModel
from fakes.release_peers import ReleaseRig
from fakes.results import NOW

WANTED = WantedModel("iris", 0)


@pytest.fixture
def rig():
    return ReleaseRig()


async def test_a_key_comes_with_what_its_owner_signed(rig):
    release = await rig.releases.release(WANTED)
    assert (release.manifest.name, release.manifest.version) == ("iris", 2)
    assert release.signed.public_key == rig.provisioner.owner.public_key().public_bytes_raw()
    assert rig.clock.now() == NOW


async def test_a_model_of_an_owner_whom_the_settings_do_not_name_is_refused(rig):
    rig.provisioner.owner = Ed25519PrivateKey.generate()
    with pytest.raises(KeyRefused) as refused:
        await rig.releases.release(WANTED)
    assert refused.value.reason == "owner.other"


async def test_a_lease_begins_before_the_worker_asks(rig):
    began_s = rig.counter()
    rig.provisioner.before_answer = lambda: rig.counter.pass_s(100)
    release = await rig.releases.release(WANTED)
    assert release.ends_at_s == began_s + 600
    assert release.life_s == 600


async def test_no_lease_is_longer_than_a_day(rig):
    rig.provisioner.lease_s = 2**32 - 1
    release = await rig.releases.release(WANTED)
    assert release.ends_at_s == rig.counter() + 86_400


async def test_what_the_clock_hears_on_the_way_does_not_lengthen_a_lease(rig):
    rig.provisioner.before_answer = lambda: rig.clock.hear(NOW - timedelta(minutes=4))
    release = await rig.releases.release(WANTED)
    assert release.ends_at_s == rig.counter() + 600


async def test_a_verifiers_time_that_jumps_ends_the_release_and_not_as_something_to_try_again(rig):
    await rig.releases.release(WANTED)
    rig.verifier.now = NOW + timedelta(hours=1)
    with pytest.raises(ClockJumped, match="3600 s"):
        await rig.releases.release(WANTED)


async def test_another_model_than_the_wanted_one_is_not_taken(rig):
    with pytest.raises(SealBroken):
        await rig.releases.release(WantedModel("iris", 3))


async def test_the_keys_that_jobs_are_sealed_to_come_along_and_their_seeds_do_not_stay(rig):
    policy = SignedReleasePolicy(policy=b"policy", signature=b"s" * 64)
    rig.provisioner.epochs = [
        EpochKey(epoch=4, hpke_suite=X25519, seed=b"4" * 32, seal_until_ms=1, open_until_ms=2, policy=policy)
    ]
    release = await rig.releases.release(WANTED)
    (epoch,) = release.job_epochs.newest_first
    assert (epoch.number, epoch.pair.public) == (4, KeyPair.from_seed(X25519, b"4" * 32).public)
    assert [key.seed for key in release.grant.epochs] == [Secret(bytes(32))]
