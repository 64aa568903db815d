"""Owners' recovery cards, and who may hold shares together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.errors import InvalidRequest
from cloister.kit.recovery_cards import CARD_TYPE, RecoveryCard, card, check_holders, deal_order
from cloister.rpc.spiffe import SpiffeId
from cloister.seal.hpke import KeyPair

CLUSTER = "demo.cloister.internal"
KEY, PAIR = Ed25519PrivateKey.generate(), KeyPair.generate()
ALICE = SpiffeId(CLUSTER, "owner", "alice")


def made(name: str = "alice", *, key: Ed25519PrivateKey | None = None, pair: KeyPair | None = None) -> RecoveryCard:
    owner = SpiffeId(CLUSTER, "owner", name)
    key, pair = key or Ed25519PrivateKey.generate(), pair or KeyPair.generate()
    return RecoveryCard.read(card(owner, pair.public, key), cluster=CLUSTER)


def test_a_card_says_whose_it_is_and_what_to_seal_to() -> None:
    found = RecoveryCard.read(card(ALICE, PAIR.public, KEY), cluster=CLUSTER)
    assert (found.owner, found.public_key) == (str(ALICE), PAIR.public)
    assert found.signing_key == KEY.public_key().public_bytes_raw().hex()


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster": "other.cloister.internal"},
        {"owner": "spiffe://other.cloister.internal/owner/alice"},
        {"owner": f"spiffe://{CLUSTER}/operator/alice"},
        {"suite": "x25519"},
        {"public_key": "00"},
        {"public_key": "no hex"},
        {"more": 1},
    ],
    ids=str,
)
def test_what_is_no_card_of_this_mesh_is_refused(changes: dict[str, Any]) -> None:
    said = json.loads(dsse.payload(card(ALICE, PAIR.public, KEY), CARD_TYPE))
    envelope = dsse.sign(json.dumps({**said, **changes}).encode(), CARD_TYPE, [KEY])
    with pytest.raises(InvalidRequest) as refused:
        RecoveryCard.read(envelope, cluster=CLUSTER)
    assert refused.value.reason == "recovery_card.refused"


def test_a_card_is_signed_by_its_owner_alone() -> None:
    envelope = card(ALICE, PAIR.public, KEY)
    twice = dsse.countersigned(envelope, CARD_TYPE, Ed25519PrivateKey.generate())
    changed = json.loads(envelope)
    changed["signatures"][0]["sig"] = changed["signatures"][0]["sig"][::-1]
    for wrong in (twice, json.dumps(changed).encode(), b"{}", b"x" * 20_000):
        with pytest.raises(InvalidRequest):
            RecoveryCard.read(wrong, cluster=CLUSTER)


def test_who_may_hold_shares_together() -> None:
    cards = [made(name) for name in ("alice", "bob", "carol")]
    for threshold, holders in ((2, cards), (3, cards), (2, cards[:2]), (1, cards[:1])):
        check_holders(holders, threshold)
    key, pair = Ed25519PrivateKey.generate(), KeyPair.generate()
    for threshold, holders in (
        (0, cards),
        (4, cards),
        (1, cards),
        (1, []),
        (2, cards * 6),
        (2, [cards[0], made("alice")]),
        (2, [made("bob", key=key), made("carol", key=key)]),
        (2, [made("bob", pair=pair), made("carol", pair=pair)]),
    ):
        with pytest.raises(InvalidRequest) as refused:
            check_holders(holders, threshold)
        assert refused.value.reason == "recovery.holders_unfit"


def test_an_order_is_for_one_dealing() -> None:
    cards = [made(name) for name in ("alice", "bob", "carol")]
    orders = {
        deal_order(CLUSTER, 2, 2, cards),
        deal_order("other.cloister.internal", 2, 2, cards),
        deal_order(CLUSTER, 3, 2, cards),
        deal_order(CLUSTER, 2, 3, cards),
        deal_order(CLUSTER, 2, 2, cards[:2]),
    }
    assert len(orders) == 5
    assert deal_order(CLUSTER, 2, 2, cards[::-1]) in orders
