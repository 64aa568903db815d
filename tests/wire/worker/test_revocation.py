"""A worker that is revoked ends; one whose verifier's keys are rotated goes on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import ear
from cloister.api.v1.verifier_pb2 import PURPOSE_KEY_RELEASE, PURPOSE_MESH, REVOCATION_KIND_PLATFORM, Revocation
from cloister.errors import EvidenceRejected
from cloister.kit.key_set import timed
from fakes.key_ring import SignedKeys, public


async def run_until_it_ends(mesh):
    """Run a worker whose platform is revoked meanwhile."""
    async with mesh.worker():
        await mesh.verifier.tell(Revocation(kind=REVOCATION_KIND_PLATFORM, value="c3" * 32))
        async with asyncio.timeout(10):
            await asyncio.Event().wait()


@pytest.mark.attack("E11")
@pytest.mark.attack("J14")
async def test_a_worker_that_hears_of_its_revocation_ends(mesh):
    with pytest.raises(EvidenceRejected, match="platform is revoked") as ended:
        await run_until_it_ends(mesh)
    assert ended.value.reason == "platform.revoked"
    (shown,) = set(mesh.verifier.shown)
    assert ear.unverified(shown).audience == "mesh"


def signed_settings(mesh, keys):
    path = mesh.folder / "key_set.json"
    path.write_bytes(keys.first())
    return mesh.settings(verifier_keys=path, key_signers=(public(keys.signer),))


@pytest.fixture
def keys(mesh):
    """The verifier's keys: `old` signs now, `new` will."""
    made = SignedKeys()
    mesh.verifier.key = mesh.verifier.signs_with = made.old
    return made


def at_once(keys):
    """The set in which the new key has taken over by now."""
    keys.turns_at = datetime.now(UTC) - timedelta(seconds=5)
    return keys.second()


@pytest.mark.attack("E08")
async def test_a_result_by_a_new_key_is_believed_after_one_look(mesh, keys):
    mesh.verifier.membership_s = 3.0
    async with mesh.worker(signed_settings(mesh, keys)):
        await mesh.verifier.until(lambda: mesh.verifier.shown)
        first = mesh.verifier.count(PURPOSE_MESH)
        mesh.verifier.key_set = at_once(keys)  # and nobody says so
        mesh.verifier.key = mesh.verifier.signs_with = keys.new
        await mesh.verifier.until(lambda: mesh.verifier.count(PURPOSE_MESH) >= first + 3)
    assert mesh.verifier.keys_asked == 1


@pytest.mark.attack("E08")
async def test_a_key_set_that_is_told_needs_no_look(mesh, keys):
    mesh.verifier.membership_s = 3.0
    async with mesh.worker(signed_settings(mesh, keys)):
        await mesh.verifier.until(lambda: mesh.verifier.shown)
        first = mesh.verifier.count(PURPOSE_MESH)
        await mesh.verifier.tell(key_set=at_once(keys))
        mesh.verifier.key = mesh.verifier.signs_with = keys.new
        await mesh.verifier.until(lambda: mesh.verifier.count(PURPOSE_MESH) >= first + 3)
    assert mesh.verifier.keys_asked == 0


@pytest.mark.attack("E08")
async def test_a_worker_whose_verifiers_key_is_disowned_attests_anew_at_once(mesh, keys):
    async with mesh.worker(signed_settings(mesh, keys)):
        await mesh.verifier.until(lambda: mesh.verifier.shown)
        mesh.verifier.key = mesh.verifier.signs_with = keys.new
        began = datetime.now(UTC) - timedelta(minutes=5)
        alone = keys.write([timed(keys.new.jwk(), began, began + timedelta(days=1))], version=2)
        await mesh.verifier.tell(key_set=alone)
        await mesh.verifier.until(lambda: mesh.verifier.count(PURPOSE_MESH) == 2)


@pytest.mark.attack("E09")
async def test_a_key_that_no_signer_names_is_not_believed(mesh, keys):
    settings = signed_settings(mesh, keys)
    mesh.verifier.key_set = keys.second(signers=[Ed25519PrivateKey.generate()])
    mesh.verifier.signs_with = keys.new
    async with mesh.worker(settings):
        await mesh.verifier.until(lambda: mesh.verifier.count(PURPOSE_MESH) >= 3)
        assert mesh.verifier.keys_asked == 1
        assert not mesh.verifier.shown  # nobody joined
        mesh.verifier.signs_with = keys.old
        await mesh.verifier.until(lambda: mesh.verifier.count(PURPOSE_KEY_RELEASE) >= 1)
