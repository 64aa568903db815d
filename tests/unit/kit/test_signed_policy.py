"""Whose signatures a release policy needs: the owner's, or those of the set that it names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloister.errors import InvalidRequest, SealBroken
from cloister.kit.signed_policy import verified_policy
from cloister.seal.manifest import sign_policy
from fakes.results import good_policy
from fakes.signer_sets import ALICE, BOB, CAROL, DAVE, FIRST, OWNER, SECOND, set_policy
from vectors import make_signer_sets_v1

OWNER_KEY = OWNER.public_key().public_bytes_raw()


def reason(raw: bytes, signature: bytes, *sets: bytes) -> str:
    with pytest.raises((InvalidRequest, SealBroken)) as refused:
        verified_policy(raw, signature, OWNER_KEY, sets)
    return refused.value.reason


def test_a_policy_that_names_no_set_goes_by_the_owners_signature() -> None:
    raw = good_policy().SerializeToString()
    signature = sign_policy(raw, OWNER)
    for sets in ((), (FIRST,)):  # it was put in force before there was one
        assert verified_policy(raw, signature, OWNER_KEY, sets).signer_set == 0
    assert reason(raw, sign_policy(raw, ALICE)) == "seal.broken"


def test_a_policy_goes_by_the_set_that_it_names() -> None:
    raw, envelope = set_policy(1, [ALICE, BOB])
    for sets in ((FIRST,), (FIRST, SECOND)):
        assert verified_policy(raw, envelope, OWNER_KEY, sets).signer_set == 1
    raw, envelope = set_policy(2, [DAVE, BOB])
    assert verified_policy(raw, envelope, OWNER_KEY, (FIRST, SECOND)).signer_set == 2


@pytest.mark.attack("C08")
def test_too_few_or_others_or_those_of_an_earlier_set_do_not_do() -> None:
    for version, by in ((1, [ALICE]), (1, [ALICE, DAVE]), (2, [ALICE, BOB]), (2, [OWNER, DAVE])):
        assert reason(*set_policy(version, by), FIRST, SECOND) == "signature.insufficient"
    raw, _ = set_policy(1, [ALICE, BOB])
    assert reason(raw, sign_policy(raw, OWNER), FIRST) == "signature.malformed"


@pytest.mark.attack("C08")
def test_signatures_over_one_policy_serve_no_other() -> None:
    _, envelope = set_policy(1, [ALICE, BOB])
    other, _ = set_policy(1, [ALICE, BOB], allow_plain=True)
    assert reason(other, envelope, FIRST) == "signature.other"


@pytest.mark.attack("C08")
def test_a_set_that_nothing_leads_to_signs_for_nothing() -> None:
    raw, envelope = set_policy(2, [BOB, CAROL])
    assert reason(raw, envelope) == "signer_set.gap"
    assert reason(raw, envelope, FIRST) == "signer_set.gap"
    assert reason(raw, envelope, SECOND) == "signature.insufficient"
    assert verified_policy(raw, envelope, OWNER_KEY, (FIRST, SECOND)).version == 1


@pytest.mark.attack("C08")
@pytest.mark.parametrize("changes", [{"model_name": "other"}, {"cluster": "other.mesh"}])
def test_a_set_signs_for_its_own_model_and_mesh_alone(changes: dict[str, str]) -> None:
    assert reason(*set_policy(1, [ALICE, BOB], **changes), FIRST) == "signer_set.other"


_VECTORS: Any = json.loads(make_signer_sets_v1.PATH.read_text())


def test_the_vectors_are_made_by_this_code() -> None:
    assert make_signer_sets_v1.vectors() == _VECTORS


@pytest.mark.attack("C08")
@pytest.mark.parametrize("entry", _VECTORS["policies"], ids=lambda entry: entry["what"])
def test_each_vector_is_believed_or_refused_for_its_reason(entry: dict[str, Any]) -> None:
    sets = [bytes.fromhex(each) for each in entry["signer_sets"]]
    found = None
    try:
        verified_policy(bytes.fromhex(entry["policy"]), bytes.fromhex(entry["signature"]), OWNER_KEY, sets)
    except (InvalidRequest, SealBroken) as error:
        found = error.reason
    assert found == entry["reason"]
