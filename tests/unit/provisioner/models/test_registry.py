from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.errors import AlreadyExists, InvalidRequest, NotFound, SealBroken
from cloister.kit.signed_policy import MANIFEST_TYPE, POLICY_TYPE
from cloister.kit.signer_set import SignerSet
from cloister.provisioner.ledger.database import NAME
from cloister.seal.keys import Secret
from cloister.seal.manifest import sign_policy
from fakes.release_desk import MODEL_KEY, OWNER, ReleaseDesk, release_desk, signed_manifest
from fakes.results import CLUSTER, MODEL, good_policy
from fakes.signer_sets import ALICE, BOB, CAROL, DAVE, public, set_policy, signed_set, signer_set
from fakes.signer_sets import OWNER as OWNER_KEY

OTHER = f"spiffe://{CLUSTER}/owner/bob"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ReleaseDesk]:
    with release_desk(tmp_path) as made:
        yield made


def shown(desk: ReleaseDesk, owner: str | None, **which: Any) -> list[int]:
    """Numbers of the lines that this owner is shown, or an auditor."""
    return [entry.sequence for page in desk.registry.audit(owner, **which) for entry in page]


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
    assert shown(desk, OWNER) == [2, 3]
    assert shown(desk, OTHER) == [4]
    assert shown(desk, None) == [1, 2, 3, 4]
    assert shown(desk, None, model_name="digits") == [4]
    assert shown(desk, OWNER, model_name="digits") == []
    assert shown(desk, None, after=3) == [4]


@pytest.mark.attack("F14")
def test_a_long_record_with_nothing_for_the_caller_is_gone_through_a_page_at_a_time(desk: ReleaseDesk) -> None:
    """Each page is one turn of a thread that releases need too."""
    desk.ledger.change(lambda change: [change.line("e", number=number) for number in range(1000)])
    assert [len(page) for page in desk.registry.audit(OTHER)] == [0, 0, 0, 0]
    assert max(len(page) for page in desk.registry.audit(None)) == 256


def test_the_model_key_is_nowhere_in_the_store(desk: ReleaseDesk) -> None:
    for path in desk.folder.iterdir():
        assert MODEL_KEY.reveal() not in path.read_bytes()


@pytest.mark.attack("F05")
def test_the_floor_of_versions_cannot_go_down(desk: ReleaseDesk) -> None:
    desk.allow(version=2, min_model_version=5)
    for floor in (0, 4):
        with pytest.raises(AlreadyExists) as refused:
            desk.allow(version=3, min_model_version=floor)
        assert refused.value.reason == "min_model_version.lowered"
    desk.allow(version=3, min_model_version=5)
    desk.allow(version=4, min_model_version=6)
    with pytest.raises(AlreadyExists):
        desk.allow(version=5, min_model_version=5)


# Signer sets

PEOPLE = (ALICE, BOB, CAROL)


def handed_over(desk: ReleaseDesk) -> None:
    """Two of three sign from now on."""
    desk.registry.set_signers(OWNER, signed_set(signer_set(1, 2, *PEOPLE), desk.owner, ALICE, BOB))


def policy_reason(desk: ReleaseDesk, raw: bytes, signature: bytes) -> str:
    before = len(desk.entries())
    with pytest.raises((InvalidRequest, SealBroken, AlreadyExists, NotFound)) as refused:
        desk.registry.set_policy(OWNER, raw, signature)
    assert len(desk.entries()) == before
    return refused.value.reason


def test_the_line_of_a_signer_set_says_who_signs_and_who_said_so(desk: ReleaseDesk) -> None:
    handed_over(desk)
    entry = desk.entries()[-1]
    assert (entry["event"], entry["model"], entry["owner"]) == ("signers.set", MODEL, OWNER)
    assert (entry["signer_set"], entry["threshold"], entry["signers"]) == (1, 2, sorted(map(public, PEOPLE)))
    assert entry["signed_by"] == [public(desk.owner)]


def test_enough_of_a_set_put_a_policy_in_force(desk: ReleaseDesk) -> None:
    handed_over(desk)
    desk.registry.set_policy(OWNER, *set_policy(1, [ALICE, CAROL], version=2))
    entry = desk.entries()[-1]
    assert (entry["event"], entry["policy_version"], entry["signer_set"]) == ("policy.set", 2, 1)
    assert entry["signed_by"] == sorted([public(ALICE), public(CAROL)])


@pytest.mark.attack("C08")
def test_what_the_owner_signs_alone_counts_no_more(desk: ReleaseDesk) -> None:
    handed_over(desk)
    raw = good_policy(version=2).SerializeToString()
    assert policy_reason(desk, raw, sign_policy(raw, desk.owner)) == "signer_set.superseded"
    raw, envelope = set_policy(1, [desk.owner, ALICE], version=2)
    assert policy_reason(desk, raw, envelope) == "signature.insufficient"
    assert policy_reason(desk, raw, sign_policy(raw, desk.owner)) == "signature.malformed"


@pytest.mark.attack("C08")
def test_policies_of_a_set_before_and_of_signers_who_were_removed_are_refused(desk: ReleaseDesk) -> None:
    handed_over(desk)
    early = set_policy(1, [ALICE, BOB], version=2)
    desk.registry.set_signers(OWNER, signed_set(signer_set(2, 2, BOB, CAROL, DAVE), ALICE, BOB, CAROL))
    assert policy_reason(desk, *early) == "signer_set.superseded"
    assert policy_reason(desk, *set_policy(2, [ALICE, BOB], version=2)) == "signature.insufficient"
    assert policy_reason(desk, *set_policy(3, [BOB, CAROL], version=2)) == "signer_set.gap"
    desk.registry.set_policy(OWNER, *set_policy(2, [BOB, DAVE], version=2))


@pytest.mark.attack("C08")
@pytest.mark.attack("F15")
def test_neither_an_older_policy_nor_the_same_again_has_any_effect(desk: ReleaseDesk) -> None:
    handed_over(desk)
    current = set_policy(1, [ALICE, BOB], version=3)
    desk.registry.set_policy(OWNER, *current)
    assert policy_reason(desk, *set_policy(1, [ALICE, BOB], version=2)) == "version.not_higher"
    assert policy_reason(desk, *current) == "version.not_higher"


@pytest.mark.attack("C08")
@pytest.mark.parametrize(
    ("signers", "by", "expected"),
    [
        (signer_set(1, 1, DAVE), (OWNER_KEY, DAVE), "version.not_higher"),
        (signer_set(3, 1, DAVE), (ALICE, BOB, DAVE), "signer_set.gap"),
        (signer_set(2, 1, DAVE), (OWNER_KEY, DAVE), "signature.insufficient"),
        (signer_set(2, 1, DAVE), (ALICE, DAVE), "signature.insufficient"),
        (signer_set(2, 1, DAVE), (ALICE, BOB), "signature.insufficient"),
        (signer_set(2, 1, DAVE, cluster="other.mesh"), (ALICE, BOB, DAVE), "signer_set.other"),
        (signer_set(2, 1, DAVE, model_name="unknown"), (ALICE, BOB, DAVE), "name.unknown"),
    ],
    ids=["older", "a gap", "by the owner", "too few", "not by its own", "another mesh's", "no model of theirs"],
)
def test_a_set_follows_the_one_before_or_is_refused(
    desk: ReleaseDesk, signers: SignerSet, by: tuple[Ed25519PrivateKey, ...], expected: str
) -> None:
    handed_over(desk)
    before = len(desk.entries())
    keys = [desk.owner if key is OWNER_KEY else key for key in by]
    with pytest.raises((InvalidRequest, AlreadyExists, NotFound)) as refused:
        desk.registry.set_signers(OWNER, signed_set(signers, *keys))
    assert (refused.value.reason, len(desk.entries())) == (expected, before)
    desk.registry.set_signers(OWNER, signed_set(signer_set(2, 1, DAVE), ALICE, BOB, DAVE))


@pytest.mark.attack("F15")
def test_another_owner_hands_over_nothing(desk: ReleaseDesk) -> None:
    envelope = signed_set(signer_set(1, 2, *PEOPLE), desk.owner, ALICE, BOB)
    with pytest.raises(NotFound):
        desk.registry.set_signers(OTHER, envelope)
    desk.registry.set_signers(OWNER, envelope)
    with pytest.raises(AlreadyExists):
        desk.registry.set_signers(OWNER, envelope)


@pytest.mark.attack("C08")
def test_a_new_version_needs_those_who_sign_for_the_model(desk: ReleaseDesk) -> None:
    """Whoever has the owner's key alone, and a model of his own, would answer everybody's next request."""
    handed_over(desk)
    signed = signed_manifest(desk.owner, version=3)
    another = dsse.sign(signed_manifest(desk.owner, version=4).manifest, MANIFEST_TYPE, [ALICE, BOB])
    for approval, expected in (
        (b"", "signature.insufficient"),
        (dsse.sign(signed.manifest, MANIFEST_TYPE, [desk.owner, ALICE]), "signature.insufficient"),
        (another, "signature.other"),
        (dsse.sign(signed.manifest, POLICY_TYPE, [ALICE, BOB]), "signature.malformed"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            desk.registry.register(OWNER, *signed, MODEL_KEY, approval)
        assert refused.value.reason == expected
    desk.registry.register(OWNER, *signed, MODEL_KEY, dsse.sign(signed.manifest, MANIFEST_TYPE, [ALICE, BOB]))
    entry = desk.entries()[-1]
    assert (entry["version"], entry["approved_by"]) == (3, sorted([public(ALICE), public(BOB)]))


def test_sets_outlive_a_restart_and_an_edited_one_is_not_followed(desk: ReleaseDesk) -> None:
    handed_over(desk)
    (envelope,) = desk.store.signer_sets(MODEL)
    with sqlite3.connect(desk.folder / NAME) as connection:
        connection.execute(
            "UPDATE signer_set SET envelope = ?", (signed_set(signer_set(1, 1, DAVE), desk.owner, DAVE),)
        )
    connection.close()
    with pytest.raises(SealBroken):
        desk.registry.set_policy(OWNER, *set_policy(1, [DAVE], version=2))
    with sqlite3.connect(desk.folder / NAME) as connection:
        connection.execute("UPDATE signer_set SET envelope = ?", (envelope,))
    connection.close()
    desk.registry.set_policy(OWNER, *set_policy(1, [ALICE, BOB], version=2))
