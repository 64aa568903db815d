"""Signed documents: the envelope holds exactly what enough of the right people signed, or nothing comes out."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloister import dsse
from cloister.errors import InvalidRequest

KIND = "application/vnd.cloister.test+json"
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(1, 4)]
NAMES = [key.public_key().public_bytes_raw().hex() for key in KEYS]


def refused(envelope: bytes, *, trusted: list[str] = NAMES, threshold: int = 1, kind: str = KIND) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        dsse.verified(envelope, kind, trusted, threshold=threshold)
    return refusal.value.reason


def changed(**members: Any) -> bytes:
    return json.dumps({**json.loads(dsse.sign(b"content", KIND, KEYS[:1])), **members}).encode()


def test_what_was_signed_comes_out() -> None:
    assert dsse.verified(dsse.sign(b"content", KIND, KEYS), KIND, NAMES, threshold=3) == b"content"


def test_the_protocols_own_encoding_is_what_is_signed() -> None:
    # The example of the DSSE specification, section "Protocol".
    envelope = json.loads(dsse.sign(b"hello world", "http://example.com/HelloWorld", KEYS[:1]))
    signed = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    KEYS[0].public_key().verify(b64decode(envelope["signatures"][0]["sig"]), signed)


def test_signatures_are_added_one_by_one() -> None:
    envelope = dsse.sign(b"content", KIND, KEYS[:1])
    assert refused(envelope, threshold=2) == "signature.insufficient"
    assert dsse.verified(dsse.countersigned(envelope, KIND, KEYS[1]), KIND, NAMES, threshold=2) == b"content"


def test_one_key_counts_once() -> None:
    row = json.loads(dsse.sign(b"content", KIND, KEYS[:1]))["signatures"][0]
    assert refused(changed(signatures=[row, row]), threshold=2) == "signature.malformed"
    again = {**row, "keyid": row["keyid"].upper()}
    assert refused(changed(signatures=[row, again]), threshold=2) == "signature.insufficient"


def test_keys_that_may_not_sign_do_not_count() -> None:
    assert refused(dsse.sign(b"content", KIND, KEYS[2:]), trusted=NAMES[:2]) == "signature.insufficient"


def test_another_payload_or_type_is_not_what_was_signed() -> None:
    assert refused(changed(payload=b64encode(b"contents").decode())) == "signature.insufficient"
    assert refused(changed(payloadType="application/other")) == "signature.malformed"
    assert refused(changed(payloadType="application/other"), kind="application/other") == "signature.insufficient"


@pytest.mark.parametrize(
    "members",
    [
        {"payload": "not base64!"},
        {"payload": 1},
        {"signatures": []},
        {"signatures": None},
        {"signatures": [{"keyid": NAMES[0]}]},
        {"signatures": [{"keyid": 1, "sig": ""}]},
        {"signatures": [{"keyid": str(n), "sig": ""} for n in range(65)]},
        {"more": 1},
    ],
)
def test_anything_else_is_malformed(members: dict[str, Any]) -> None:
    assert refused(changed(**members)) == "signature.malformed"


def test_a_member_given_twice_is_malformed() -> None:
    twice = dsse.sign(b"content", KIND, KEYS[:1]).replace(b'{\n  "payload"', b'{"payload": "", "payload"', 1)
    assert refused(twice) == "signature.malformed"


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_a_threshold_means_something(threshold: int) -> None:
    with pytest.raises(InvalidRequest):
        dsse.verified(dsse.sign(b"content", KIND, KEYS), KIND, NAMES, threshold=threshold)


@given(st.binary(max_size=400))
def test_no_bytes_do_anything_but_be_refused(raw: bytes) -> None:
    assert refused(raw) == "signature.malformed"


def test_as_many_sign_as_an_envelope_may_have_and_no_more() -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(4)]
    full = dsse.countersigned(dsse.sign(b"x", KIND, keys[:2]), KIND, keys[2], most=3)
    assert dsse.countersigned(full, KIND, keys[2], most=3) == full
    with pytest.raises(InvalidRequest, match="more than 3"):
        dsse.countersigned(full, KIND, keys[3], most=3)
    with pytest.raises(InvalidRequest, match="more than 2"):
        dsse.signers(full, KIND, most=2)
