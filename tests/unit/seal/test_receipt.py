from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.v1.seal_pb2 import Receipt, ReceiptBody, ReceiptBundle
from cloister.errors import SealBroken
from cloister.seal import receipt
from cloister.tlog import merkle
from fakes.sealed import DIGEST, flipped, unhurried

_KEY = Ed25519PrivateKey.generate()
_PUBLIC = _KEY.public_key().public_bytes_raw()


def _body(number: int, *, version: int = 1) -> ReceiptBody:
    request_id = number.to_bytes(16, "big")
    return ReceiptBody(
        version=version,
        request_id=request_id,
        request_sha256=receipt.content_hash(request_id, b"request"),
        response_sha256=receipt.content_hash(request_id, b"response"),
        model_name="resnet",
        model_version="1",
        model_digest=DIGEST,
        policy_digest=DIGEST,
        ear_id="ear-1",
        instance="a" * 32,
        issued_at_ms=1_772_366_400_000,
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32])
def test_one_signature_serves_a_batch(size: int) -> None:
    bodies = [_body(number) for number in range(size)]
    receipts = receipt.issue(bodies, _KEY)
    assert [receipt.verify(each, _PUBLIC) for each in receipts] == bodies
    assert len({each.signature for each in receipts}) == 1


@pytest.mark.parametrize("size", [0, receipt.MAX_BATCH + 1])
def test_a_batch_is_bounded(size: int) -> None:
    with pytest.raises(ValueError, match="a batch has"):
        receipt.issue([ReceiptBody()] * size, _KEY)


def test_a_path_lets_nobody_guess_at_a_neighbour() -> None:
    first, second = receipt.issue([_body(1), _body(2)], _KEY)
    again, _ = receipt.issue([_body(1), _body(2)], _KEY)
    assert first.path != again.path
    assert merkle.leaf_hash(second.body) not in first.path


@unhurried
@given(st.data())
def test_no_changed_bit_verifies(data: st.DataObject) -> None:
    raw = receipt.issue([_body(number) for number in range(3)], _KEY)[1].SerializeToString()
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    for broken in (flipped(raw, bit), raw[: bit // 8], raw + b"\xa2\x06\x01x"):
        try:
            parsed = Receipt.FromString(broken)
        except DecodeError:
            continue
        with pytest.raises(SealBroken):
            receipt.verify(parsed, _PUBLIC)


def test_receipts_are_not_interchangeable() -> None:
    first, second = receipt.issue([_body(1), _body(2)], _KEY)
    first.body, second.body = second.body, first.body
    for each in (first, second):
        with pytest.raises(SealBroken):
            receipt.verify(each, _PUBLIC)


def test_another_key_or_version_does_not_verify() -> None:
    (good,) = receipt.issue([_body(1)], _KEY)
    with pytest.raises(SealBroken):
        receipt.verify(good, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(SealBroken):
        receipt.verify(good, b"no key")
    (later,) = receipt.issue([_body(1, version=2)], _KEY)
    with pytest.raises(SealBroken):
        receipt.verify(later, _PUBLIC)


def test_a_tree_of_any_size_is_not_worked_through() -> None:
    (good,) = receipt.issue([_body(1)], _KEY)
    for size in (0, 1 << 40):
        good.tree_size = size
        with pytest.raises(SealBroken):
            receipt.verify(good, _PUBLIC)


def _bundle() -> ReceiptBundle:
    (issued,) = receipt.issue([_body(1)], _KEY)
    return ReceiptBundle(receipt=issued, request=b"request", response=b"response")


def test_a_bundle_proves_who_answered_what() -> None:
    body = receipt.verify_bundle(_bundle(), receipt_key=_PUBLIC, instance="a" * 32, ear_id="ear-1")
    assert body == _body(1)


@pytest.mark.parametrize("field", ["request", "response"])
def test_a_bundle_with_other_content_proves_nothing(field: str) -> None:
    bundle = _bundle()
    setattr(bundle, field, b"other")
    with pytest.raises(SealBroken):
        receipt.verify_bundle(bundle, receipt_key=_PUBLIC, instance="a" * 32, ear_id="ear-1")


@pytest.mark.parametrize(("instance", "ear_id"), [("b" * 32, "ear-1"), ("a" * 32, "ear-2")])
def test_a_bundle_of_another_worker_or_result_proves_nothing(instance: str, ear_id: str) -> None:
    with pytest.raises(SealBroken):
        receipt.verify_bundle(_bundle(), receipt_key=_PUBLIC, instance=instance, ear_id=ear_id)
