from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.errors import AlreadyExists, InvalidRequest, NotFound, SealBroken
from cloister.seal.keys import Secret
from cloister.seal.manifest import sign_policy
from fakes.release_desk import MODEL_KEY, OWNER, ReleaseDesk, release_desk, signed_manifest
from fakes.results import CLUSTER, MODEL, good_policy

OTHER = f"spiffe://{CLUSTER}/owner/bob"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ReleaseDesk]:
    with release_desk(tmp_path) as made:
        yield made


def test_registration_and_policy_are_recorded(desk: ReleaseDesk) -> None:
    _begun, registered, allowed = desk.entries()
    assert (registered["event"], registered["model"], registered["owner"]) == ("model.registered", MODEL, OWNER)
    assert (allowed["event"], allowed["policy_version"], allowed["allow_simulated"]) == ("policy.set", 1, False)


def test_a_manifest_signed_by_another_key_is_refused(desk: ReleaseDesk) -> None:
    manifest = signed_manifest(desk.owner, version=3)
    forged = signed_manifest(Ed25519PrivateKey.generate(), version=3)
    with pytest.raises(SealBroken):
        desk.registry.register(OWNER, manifest.manifest, forged.signature, manifest.public_key, MODEL_KEY)


@pytest.mark.parametrize("key", [b"", b"k" * 16, b"k" * 33])
def test_a_key_of_another_length_is_refused(desk: ReleaseDesk, key: bytes) -> None:
    with pytest.raises(InvalidRequest):
        desk.registry.register(OWNER, *signed_manifest(desk.owner, version=3), Secret(key))


def test_a_name_stays_with_its_first_owner_and_key(desk: ReleaseDesk) -> None:
    with pytest.raises(AlreadyExists):
        desk.registry.register(OTHER, *signed_manifest(desk.owner, version=3), MODEL_KEY)
    with pytest.raises(AlreadyExists):
        desk.registry.register(OWNER, *signed_manifest(Ed25519PrivateKey.generate(), version=3), MODEL_KEY)


def test_a_model_version_goes_up(desk: ReleaseDesk) -> None:
    with pytest.raises(AlreadyExists):
        desk.register(version=2)
    with pytest.raises(AlreadyExists):
        desk.register(version=1)
    desk.register(version=3)


@pytest.mark.parametrize("cluster", ["", "other.cloister.internal"])
def test_a_policy_is_meant_for_this_mesh(desk: ReleaseDesk, cluster: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        desk.allow(version=2, cluster=cluster)
    assert refused.value.reason == "policy.other_cluster"


def test_a_policy_is_signed_by_the_owners_key(desk: ReleaseDesk) -> None:
    raw = good_policy(version=2).SerializeToString()
    with pytest.raises(SealBroken):
        desk.registry.set_policy(OWNER, raw, sign_policy(raw, Ed25519PrivateKey.generate()))
    with pytest.raises(SealBroken):
        desk.registry.set_policy(OWNER, raw + b"", bytes(64))


def test_a_policy_for_anothers_model_looks_like_one_for_none(desk: ReleaseDesk) -> None:
    heard = []
    for owner, name in ((OTHER, MODEL), (OTHER, "unknown")):
        raw = good_policy(model_name=name, version=2).SerializeToString()
        with pytest.raises(NotFound) as refused:
            desk.registry.set_policy(owner, raw, sign_policy(raw, desk.owner))
        heard.append((str(refused.value), refused.value.reason))
    assert heard[0] == heard[1]


def test_an_older_policy_cannot_be_put_back(desk: ReleaseDesk) -> None:
    desk.allow(version=5)
    for version in (1, 5):
        with pytest.raises(AlreadyExists):
            desk.allow(version=version)


def test_what_is_refused_leaves_no_record(desk: ReleaseDesk) -> None:
    before = len(desk.entries())
    with pytest.raises(AlreadyExists):
        desk.register(version=1)
    assert len(desk.entries()) == before


def test_an_owner_sees_its_own_models_in_the_record(desk: ReleaseDesk) -> None:
    bob = Ed25519PrivateKey.generate()
    desk.registry.register(OTHER, *signed_manifest(bob, name="digits"), MODEL_KEY)
    assert [entry.sequence for entry in desk.registry.audit(OWNER)] == [2, 3]
    assert [entry.sequence for entry in desk.registry.audit(OTHER)] == [4]
    assert [entry.sequence for entry in desk.registry.audit(None)] == [1, 2, 3, 4]
    assert [entry.sequence for entry in desk.registry.audit(None, model_name="digits")] == [4]
    assert [entry.sequence for entry in desk.registry.audit(OWNER, model_name="digits")] == []
    assert [entry.sequence for entry in desk.registry.audit(None, after=3)] == [4]


def test_the_model_key_is_nowhere_in_the_store(desk: ReleaseDesk) -> None:
    for path in desk.folder.iterdir():
        assert MODEL_KEY.reveal() not in path.read_bytes()
