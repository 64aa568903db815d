"""The end of a conversation, and the receipts that it gives: complete, or not believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.v1.seal_pb2 import ConversationClose, ConversationEnd, OpenedResponse, Receipt
from cloister.errors import NotReady, SealBroken
from cloister.seal import receipt
from cloister.seal.conversation import nonce
from fakes.conversing import EAR_ID, Conversing
from fakes.sealed import flipped, unhurried

Kept = list[tuple[bytes, bytes, OpenedResponse]]


def asked(both: Conversing, count: int) -> Kept:
    return [(request, *both.ask(request)) for request in (b"request %d" % number for number in range(count))]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 33])
def test_every_answer_gets_a_receipt_that_verifies_like_any_other(count: int) -> None:
    both = Conversing()
    kept = asked(both, count)
    both.end()
    for request, at, opened in kept:
        bundle = both.bundle(at, request, opened)
        body = receipt.verify_bundle(
            bundle, receipt_key=both.receipt_public, instance=both.worker.instance, ear_id=EAR_ID
        )
        assert body.issued_at_ms == 1


def test_answers_may_leave_in_another_order_than_requests_came() -> None:
    both = Conversing()
    sealed = [both.ours.seal(b"%d" % number) for number in range(5)]
    chunks = [both.opened(raw) for _, raw in sealed]
    answers = {number: both.theirs.answer(chunks[number], b"answer", 1) for number in (3, 0, 4, 2, 1)}
    opened = [both.hear(sealed[number][0], b"%d" % number, answers[number]) for number in range(5)]
    both.end()
    for number in range(5):
        receipt.verify(both.ours.receipt(sealed[number][0], b"%d" % number, opened[number]), both.receipt_public)


@pytest.mark.attack("J12")
def test_before_the_end_there_is_no_receipt() -> None:
    both = Conversing()
    ((request, at, opened),) = asked(both, 1)
    with pytest.raises(NotReady, match="conclude") as raised:
        both.ours.receipt(at, request, opened)
    assert raised.value.reason == "receipt.pending"
    both.ours.close()
    with pytest.raises(NotReady):
        both.ours.receipt(at, request, opened)


@pytest.mark.attack("J12")
def test_a_receipt_of_one_answer_does_not_fit_another() -> None:
    both = Conversing()
    kept = asked(both, 4)
    both.end()
    for request, at, _ in kept[:2]:
        for _, _, other in kept[2:]:
            with pytest.raises(SealBroken):
                receipt.verify(both.ours.receipt(at, request, other), both.receipt_public)


@pytest.mark.attack("J12")
def test_a_receipt_for_an_altered_answer_or_request_does_not_verify() -> None:
    both = Conversing()
    ((request, at, opened), *_) = asked(both, 3)
    both.end()
    for changed in ({"request": request + b"!"}, {"response": opened.response + b"!"}):
        bundle = both.bundle(at, request, opened)
        for name, value in changed.items():
            setattr(bundle, name, value)
        with pytest.raises(SealBroken):
            receipt.verify_bundle(bundle, receipt_key=both.receipt_public, instance=both.worker.instance, ear_id=EAR_ID)


def _reordered(proof: Receipt) -> None:
    proof.leaf_index ^= 1


def _shortened(proof: Receipt) -> None:
    del proof.path[-1]


def _smaller(proof: Receipt) -> None:
    proof.tree_size -= 1


def _signed_by_nobody(proof: Receipt) -> None:
    proof.signature = bytes(64)


@pytest.mark.attack("J12")
@pytest.mark.parametrize("change", [_reordered, _shortened, _smaller, _signed_by_nobody])
def test_a_receipt_that_was_changed_does_not_verify(change: Callable[[Receipt], None]) -> None:
    both = Conversing()
    ((request, at, opened), *_) = asked(both, 5)
    both.end()
    proof = both.ours.receipt(at, request, opened)
    change(proof)
    with pytest.raises(SealBroken):
        receipt.verify(proof, both.receipt_public)


@pytest.mark.attack("J12")
def test_an_end_that_another_worker_signed_is_none() -> None:
    both = Conversing()
    kept = asked(both, 3)
    both_key, both.receipt_key = both.receipt_key, Ed25519PrivateKey.generate()
    at, raw = both.ours.close()
    forged = both.ended(raw)
    both.receipt_key = both_key
    with pytest.raises(SealBroken):
        both.finish(at, forged)
    with pytest.raises(NotReady):
        both.ours.receipt(kept[0][1], kept[0][0], kept[0][2])


@unhurried
@pytest.mark.attack("G11")
@given(st.data())
def test_no_changed_bit_of_either_last_chunk_makes_an_end(data: st.DataObject) -> None:
    both = Conversing()
    asked(both, 2)
    at, raw = both.ours.close()
    bit = data.draw(st.integers((len(raw) - 40) * 8, len(raw) * 8 - 1))
    if data.draw(st.booleans()):
        try:
            found = both.held.open(flipped(raw, bit), 0.0)
        except SealBroken:
            found = None
        assert found is None
    else:
        answer = both.ended(raw)
        changed = bytearray(answer)
        changed[-1 - bit % 32] ^= 1
        with pytest.raises(SealBroken):
            both.finish(at, bytes(changed))
    assert not both.ours.complete


@pytest.mark.attack("G11")
def test_nothing_but_the_end_ends_a_conversation() -> None:
    """Not an ordinary answer, not the end of another conversation, not one at another place."""
    both, other = Conversing(), Conversing()
    at, raw = both.ours.seal(b"request")
    ordinary = both.answer(raw)
    both.hear(at, b"request", ordinary)
    last, _ = both.ours.close()
    there, there_raw = other.ours.close()
    for answer in (ordinary, other.ended(there_raw)):
        with pytest.raises(SealBroken):
            both.finish(last, answer)
        both.ours.broken = False
    assert last != there
    assert not both.ours.complete


@pytest.mark.attack("G11")
def test_a_request_is_not_taken_for_the_end_nor_the_end_for_a_request() -> None:
    """The mark of the last chunk is part of the nonce."""
    both = Conversing()
    at, raw = both.ours.seal(ConversationClose().SerializeToString())
    marked = bytearray(raw)
    marked[-8] |= 0x80
    with pytest.raises(SealBroken):
        both.held.open(bytes(marked), 0.0)
    other = Conversing()
    _, raw = other.ours.close()
    unmarked = bytearray(raw)
    unmarked[-8] &= 0x7F
    with pytest.raises(SealBroken):
        other.held.open(bytes(unmarked), 0.0)
    assert at[0] == 0


def test_after_the_end_nothing_is_opened_nor_answered() -> None:
    both = Conversing()
    _, late = both.ours.seal(b"late")
    chunk = both.opened(late)
    _, after = both.ours.seal(b"after")
    both.end()
    assert not both.theirs.open
    assert both.held.open(after, 0.0) is None
    assert chunk.conversation is both.theirs


def test_what_is_closed_seals_nothing_more_and_is_closed_once() -> None:
    both = Conversing()
    both.ours.close()
    with pytest.raises(RuntimeError):
        both.ours.close()
    with pytest.raises(RuntimeError):
        both.ours.seal(b"after")


def test_answers_that_the_gateway_kept_back_do_not_cost_the_others_their_receipts() -> None:
    both = Conversing()
    kept = asked(both, 2)
    _, raw = both.ours.seal(b"kept back")
    both.answer(raw)
    kept += asked(both, 2)
    both.end()
    for request, at, opened in kept:
        receipt.verify(both.ours.receipt(at, request, opened), both.receipt_public)


def _end_of(both: Conversing, at: bytes, **changes: Any) -> bytes:
    """An end that the worker's own keys seal, and that says something else."""
    end = ConversationEnd(answered=both.theirs._tree.size)
    if both.theirs._tree.size:
        end.signature = receipt.sign_head(both.receipt_key, both.theirs._tree.size, both.theirs._tree.root())
    for name, value in changes.items():
        setattr(end, name, value)
    sealed = both.theirs._keys.answer.encrypt(nonce(at), OpenedResponse(end=end).SerializeToString(), None)
    return both.theirs._answers.around(sealed, both.subject.conversation_id + at)


@pytest.mark.attack("J12")
@pytest.mark.parametrize(
    "changes",
    [
        {"answered": 2},
        {"answered": 4},
        {"answered": 0, "signature": b""},
        {"leaves": bytes(96)},
        {"leaves": bytes(95)},
        {"leaves": bytes(128), "answered": 4},
        {"signature": bytes(64)},
        {"signature": b""},
    ],
)
def test_an_end_that_does_not_fit_the_answers_is_none(changes: dict[str, Any]) -> None:
    both = Conversing()
    asked(both, 3)
    at, _ = both.ours.close()
    with pytest.raises(SealBroken):
        both.finish(at, _end_of(both, at, **changes))
    assert not both.ours.complete


@pytest.mark.parametrize(
    ("number", "close"),
    [(1, {"sent": 2}), (1, {"sent": 0}), (1, {"sent": 1, "received": 2})],
)
def test_a_close_that_does_not_fit_what_came_is_refused(number: int, close: dict[str, int]) -> None:
    both = Conversing()
    asked(both, number)
    at, _ = both.ours.close()
    content = ConversationClose(**close).SerializeToString()
    chunk = both.opened(both.ours._sealed(content, at))
    with pytest.raises(SealBroken):
        both.held.end(chunk, both.receipt_key)
    assert not both.theirs.open
