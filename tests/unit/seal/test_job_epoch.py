"""What a worker says of a job key: by its receipt key alone, in these very bytes, and whole."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.v1.model_pb2 import JobEpoch, SignedJobEpoch, SignedReleasePolicy
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import hpke
from cloister.seal.hpke import context
from cloister.seal.job_epoch import MAX_STATEMENT_BYTES, sign_epoch, verify_epoch
from cloister.seal.release_policy import MAX_POLICY_BYTES
from fakes.sealed import flipped, unhurried

KEY = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
LABEL = "cloister job epoch v1"


def statement(**changes: Any) -> JobEpoch:
    fields: dict[str, Any] = {
        "cluster": "demo.cloister.internal",
        "instance": "ab" * 16,
        "ear_id": "ear-1",
        "model_name": "iris",
        "epoch": 3,
        "hpke_suite": hpke.X25519,
        "hpke_public": b"p" * 32,
        "seal_until_ms": 1_000,
        "open_until_ms": 2_000,
        "policy": SignedReleasePolicy(policy=b"policy", signature=b"s" * 64),
    }
    return JobEpoch(**{**fields, **changes})


def signed_as(raw: bytes, label: str = LABEL) -> SignedJobEpoch:
    """Whatever these bytes are, with a signature that holds."""
    return SignedJobEpoch(statement=raw, signature=KEY.sign(context(label, raw)))


@pytest.mark.parametrize("suite", sorted(hpke.SUITES))
def test_what_was_signed_is_read(suite: str) -> None:
    said = statement(hpke_suite=suite, hpke_public=bytes(hpke.PUBLIC_BYTES[suite]))
    signed = sign_epoch(said, KEY)
    assert verify_epoch(signed, PUBLIC) == said
    assert sign_epoch(said, KEY) == signed


def test_another_key_has_not_said_it() -> None:
    signed = sign_epoch(statement(), KEY)
    for public in (Ed25519PrivateKey.generate().public_key().public_bytes_raw(), b"", b"\xff" * 32):
        with pytest.raises(SealBroken):
            verify_epoch(signed, public)


def test_a_signature_for_another_purpose_does_not_hold() -> None:
    raw = statement().SerializeToString()
    assert verify_epoch(signed_as(raw), PUBLIC) == statement()
    with pytest.raises(SealBroken):
        verify_epoch(signed_as(raw, "cloister receipts v1"), PUBLIC)


@unhurried
@given(st.data())
def test_no_changed_bit_is_believed(data: st.DataObject) -> None:
    signed = sign_epoch(statement(), KEY)
    which = data.draw(st.sampled_from(["statement", "signature"]))
    raw: bytes = getattr(signed, which)
    broken = flipped(raw, data.draw(st.integers(0, len(raw) * 8 - 1)))
    with pytest.raises(SealBroken):
        verify_epoch(
            SignedJobEpoch(**{"statement": signed.statement, "signature": signed.signature, which: broken}), PUBLIC
        )


WRONG: dict[str, dict[str, Any]] = {
    "no mesh": {"cluster": ""},
    "no worker": {"instance": "main"},
    "no result": {"ear_id": ""},
    "no model": {"model_name": "../up"},
    "number 0": {"epoch": 0},
    "another suite": {"hpke_suite": "p256"},
    "a short key": {"hpke_public": b"p" * 31},
    "no end": {"seal_until_ms": 0},
    "a time before 1970": {"seal_until_ms": -1},
    "an end before the last seal": {"open_until_ms": 999},
    "no policy": {"policy": SignedReleasePolicy(signature=b"s" * 64)},
    "a policy too long": {"policy": SignedReleasePolicy(policy=bytes(MAX_POLICY_BYTES + 1), signature=b"s" * 64)},
    "no signature of the policy": {"policy": SignedReleasePolicy(policy=b"policy")},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_malformed_statement_is_neither_signed_nor_believed(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        sign_epoch(statement(**change), KEY)
    with pytest.raises(SealBroken):
        verify_epoch(signed_as(statement(**change).SerializeToString()), PUBLIC)


UNKNOWN_FIELD = b"\xa0\x06\x01"  # number 100, a varint


def test_an_unknown_field_is_refused_wherever_it_is() -> None:
    good = sign_epoch(statement(), KEY)
    for signed in (
        SignedJobEpoch.FromString(good.SerializeToString() + UNKNOWN_FIELD),
        signed_as(good.statement + UNKNOWN_FIELD),
        signed_as(
            statement(
                policy=SignedReleasePolicy.FromString(statement().policy.SerializeToString() + UNKNOWN_FIELD)
            ).SerializeToString()
        ),
    ):
        with pytest.raises(SealBroken):
            verify_epoch(signed, PUBLIC)


@pytest.mark.parametrize("raw", [b"", b"\xff\xff", bytes(MAX_STATEMENT_BYTES + 1)], ids=["empty", "junk", "too long"])
def test_what_is_signed_and_no_statement_is_refused(raw: bytes) -> None:
    with pytest.raises(SealBroken):
        verify_epoch(signed_as(raw), PUBLIC)
