"""Files that several people sign: what is read is what will count, and nothing else is read."""

from __future__ import annotations

import json

import pytest

from cloister import dsse
from cloister.client.owner_documents import (
    DocumentKind,
    OwnerDocument,
    policy_bytes,
    policy_draft,
    read_document,
    signer_set_draft,
)
from cloister.errors import InvalidRequest
from cloister.kit.signed_policy import MANIFEST_TYPE, POLICY_TYPE
from cloister.kit.signer_set import SIGNER_SET_TYPE
from fakes.release_desk import signed_manifest
from fakes.results import good_policy
from fakes.signer_sets import ALICE, BOB, FIRST, OWNER, public, signer_set

POLICY = good_policy(platforms={"ppid_sha256": ["c3" * 32]}, releases_per_hour=60, signer_set=1, allow_plain=True)
SIGNERS = signer_set(1, 1, ALICE, BOB)
MANIFEST = signed_manifest(OWNER).manifest


def both(document: OwnerDocument) -> OwnerDocument:
    return read_document(read_document(document.signed(ALICE).envelope).signed(BOB).envelope)


def test_a_policy_goes_through_its_draft_and_two_hands_unchanged() -> None:
    draft = read_document(policy_draft(POLICY))
    assert (draft.kind, draft.content, draft.signers) == (DocumentKind.POLICY, policy_bytes(POLICY), frozenset())
    signed = both(draft)
    assert (signed.kind, signed.content, signed.policy()) == (DocumentKind.POLICY, draft.content, POLICY)
    assert signed.signers == {public(ALICE), public(BOB)}
    assert dsse.verified(signed.envelope, POLICY_TYPE, signed.signers, threshold=2) == draft.content


def test_a_draft_says_what_it_says_in_names_that_a_person_knows() -> None:
    said = json.loads(policy_draft(POLICY))
    assert (said["releases_per_hour"], said["platforms"]["ppid_sha256"]) == (60, ["c3" * 32])
    said["lease_s"] = 120
    assert read_document(json.dumps(said, indent=3).encode()).policy().lease_s == 120


def test_a_signer_set_is_read_from_any_layout_and_signed_in_one() -> None:
    draft = read_document(signer_set_draft(SIGNERS))
    assert (draft.kind, draft.content) == (DocumentKind.SIGNER_SET, SIGNERS.document())
    assert both(draft).signer_set() == SIGNERS
    assert read_document(FIRST).kind.value == SIGNER_SET_TYPE


def test_a_manifest_is_signed_as_the_bytes_that_it_is() -> None:
    signed = both(read_document(MANIFEST))
    assert (signed.kind, signed.content) == (DocumentKind.MANIFEST, MANIFEST)
    assert dsse.verified(signed.envelope, MANIFEST_TYPE, signed.signers, threshold=2) == MANIFEST


@pytest.mark.attack("C07")
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b" " * (512 * 1024 + 1),
        policy_draft(POLICY).replace(b"lease_s", b"lease"),
        policy_draft(POLICY).replace(b'"lease_s": 600', b'"lease_s": "any"'),
        policy_draft(POLICY).replace(b'"lease_s": 600', b'"lease_s": 600, "lease_s": 700'),
        policy_draft(good_policy(mrenclave=[], signers=[])),
        policy_draft(good_policy(platforms={})),
        signer_set_draft(SIGNERS).replace(b'"threshold": 1', b'"threshold": 0'),
        signer_set_draft(SIGNERS).replace(b"iris", b"../iris"),
        dsse.sign(b"{}", "application/vnd.cloister.other", [ALICE]),
        dsse.sign(b"\x99", POLICY_TYPE, [ALICE]),
        dsse.sign(b"{}", SIGNER_SET_TYPE, [ALICE]),
    ],
    ids=range(16),
)
def test_what_is_none_of_them_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_document(raw)
