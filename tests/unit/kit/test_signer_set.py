"""A model's signer sets: a chain that is wholly good, and one thing wrong with it in each test."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloister import dsse
from cloister.errors import InvalidRequest
from cloister.kit.signer_set import MAX_SETS, SIGNER_SET_TYPE, SignerSet, follow, owner_alone, read_signer_set
from fakes.results import CLUSTER, MODEL
from fakes.signer_sets import ALICE, BOB, CAROL, DAVE, FIRST, OWNER, SECOND, public, signed_set, signer_set

OWNER_KEY = OWNER.public_key().public_bytes_raw()
ORDER = "application/vnd.cloister.tests"


def followed(*envelopes: bytes, **changes: Any) -> SignerSet:
    return follow(OWNER_KEY, envelopes, **{"model_name": MODEL, "cluster": CLUSTER, **changes})


def reason(*envelopes: bytes, **changes: Any) -> str:
    with pytest.raises(InvalidRequest) as refused:
        followed(*envelopes, **changes)
    return refused.value.reason


def test_without_sets_the_owner_signs() -> None:
    signers = followed()
    assert (signers.version, signers.threshold, signers.keys) == (0, 1, (public(OWNER),))
    assert signers == owner_alone(MODEL, CLUSTER, OWNER_KEY)
    assert signers.verified(dsse.sign(b"x", ORDER, [OWNER]), ORDER) == b"x"


def test_the_chain_leads_from_the_owners_key_to_the_newest_set() -> None:
    assert followed(FIRST) == signer_set(1, 2, ALICE, BOB, CAROL)
    assert followed(FIRST, SECOND) == signer_set(2, 2, BOB, CAROL, DAVE)


@pytest.mark.attack("C08")
@pytest.mark.parametrize("signers", [[ALICE], [ALICE, OWNER], [ALICE, DAVE], [OWNER]])
def test_too_few_of_a_set_sign_for_nothing(signers: list[Any]) -> None:
    envelope = dsse.sign(b"x", ORDER, signers)
    with pytest.raises(InvalidRequest) as refused:
        followed(FIRST).verified(envelope, ORDER)
    assert refused.value.reason == "signature.insufficient"
    assert followed(FIRST).verified(dsse.sign(b"x", ORDER, [ALICE, CAROL]), ORDER) == b"x"


@pytest.mark.attack("C08")
def test_who_was_removed_signs_for_nothing_any_more() -> None:
    envelope = dsse.sign(b"x", ORDER, [ALICE, BOB])
    assert followed(FIRST).verified(envelope, ORDER) == b"x"
    with pytest.raises(InvalidRequest) as refused:
        followed(FIRST, SECOND).verified(envelope, ORDER)
    assert refused.value.reason == "signature.insufficient"


_NEXT = signer_set(2, 2, BOB, CAROL, DAVE)


@pytest.mark.attack("C08")
@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([signed_set(signer_set(1, 2, ALICE, BOB, CAROL), ALICE, BOB)], "signature.insufficient"),
        ([signed_set(signer_set(1, 2, ALICE, BOB, CAROL), OWNER, ALICE)], "signature.insufficient"),
        ([FIRST, signed_set(_NEXT, ALICE, DAVE, OWNER)], "signature.insufficient"),
        ([FIRST, signed_set(_NEXT, ALICE, BOB)], "signature.insufficient"),
        ([SECOND], "signature.insufficient"),
        ([FIRST, SECOND, SECOND], "signer_set.gap"),
        ([FIRST, FIRST], "signer_set.gap"),
        ([FIRST, signed_set(signer_set(3, 2, BOB, CAROL, DAVE), ALICE, BOB, CAROL)], "signer_set.gap"),
        ([signed_set(signer_set(2, 2, ALICE, BOB, CAROL), OWNER, ALICE, BOB)], "signer_set.gap"),
        ([FIRST, signed_set(signer_set(2, 2, BOB, CAROL, model_name="other"), BOB, CAROL)], "signer_set.other"),
        ([FIRST, signed_set(signer_set(2, 2, BOB, CAROL, cluster="other.mesh"), BOB, CAROL)], "signer_set.other"),
        ([dsse.sign(signer_set(1, 1, ALICE).document(), ORDER, [OWNER, ALICE])], "signature.malformed"),
        ([dsse.sign(b"{}", SIGNER_SET_TYPE, [OWNER])], "signer_set.invalid"),
        ([FIRST[:-40]], "signature.malformed"),
        ([b" " * 20_000 + FIRST], "signer_set.invalid"),
    ],
    ids=[
        "first not by the owner",
        "too few of its own",
        "next by one of the set before",
        "too few of its own again",
        "gap at the beginning",
        "twice",
        "older again",
        "gap",
        "begins at two",
        "another model's",
        "another mesh's",
        "another purpose",
        "no set",
        "no envelope",
        "too long",
    ],
)
def test_a_chain_with_one_thing_wrong_leads_nowhere(chain: list[bytes], expected: str) -> None:
    assert reason(*chain) == expected


@pytest.mark.attack("C08")
def test_a_chain_of_another_owner_model_or_mesh_says_nothing_here() -> None:
    assert reason(FIRST, model_name="other") == "signer_set.other"
    assert reason(FIRST, cluster="other.mesh") == "signer_set.other"
    with pytest.raises(InvalidRequest, match="of the keys that may sign this"):
        follow(b"\x07" * 32, [FIRST], model_name=MODEL, cluster=CLUSTER)


def test_a_chain_ends_somewhere() -> None:
    assert reason(*[FIRST] * (MAX_SETS + 1)) == "signer_set.too_many"


def _changed(**changes: Any) -> bytes:
    said = {**json.loads(signer_set(1, 2, ALICE, BOB, CAROL).document()), **changes}
    return json.dumps(said, separators=(",", ":")).encode()


KEYS = sorted([public(ALICE), public(BOB), public(CAROL)])


@pytest.mark.attack("C08")
@pytest.mark.parametrize(
    "document",
    [
        _changed(threshold=0),
        _changed(threshold=4),
        _changed(threshold=-1),
        _changed(threshold=True),
        _changed(threshold=2.0),
        _changed(threshold="2"),
        _changed(version=0),
        _changed(version=True),
        _changed(version=1 << 63),
        _changed(keys=[], threshold=0),
        _changed(keys=[]),
        _changed(keys=KEYS[::-1]),
        _changed(keys=[KEYS[0], KEYS[0], KEYS[1]]),
        _changed(keys=[*KEYS[:2], KEYS[2].upper()]),
        _changed(keys=[*KEYS[:2], KEYS[2][:-2]]),
        _changed(keys=[*KEYS[:2], 3]),
        _changed(keys=sorted(f"{n:064x}" for n in range(17))),
        _changed(model="../iris"),
        _changed(cluster=""),
        _changed(more=1),
        signer_set(1, 2, ALICE, BOB, CAROL).document().replace(b",", b", "),
        signer_set(1, 2, ALICE, BOB).document().replace(b'"threshold":2', b'"threshold":1,"threshold":2'),
        b"[" * 100_000,
        b"\xff",
        b"null",
    ],
)
def test_what_is_no_set_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_signer_set(document)
    good = signer_set(1, 2, ALICE, BOB, CAROL)
    assert read_signer_set(good.document()) == good
