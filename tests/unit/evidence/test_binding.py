from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest
from cloister.evidence.binding import MAX_CLAIMS_BYTES, Claims, decode, encode, report_data
from fakes.sealed import flipped, unhurried

_CLAIMS = Claims(
    tls_spki_sha256=b"t" * 32,
    nonce=b"n" * 32,
    hpke_suite="x25519",
    hpke_public=b"h" * 32,
    receipt_key=b"r" * 32,
    role="worker",
    spiffe_id="spiffe://demo.cloister.internal/worker/w1",
    cluster="demo.cloister.internal",
    audience="spiffe://demo.cloister.internal/verifier/v1",
    config_digest=b"c" * 32,
    instance="0123456789abcdef" * 2,
)
_RAW = encode(_CLAIMS)


@pytest.mark.parametrize("claims", [_CLAIMS, replace(_CLAIMS, hpke_suite="xwing", hpke_public=b"h" * 1216)])
def test_claims_come_back_as_they_were(claims: Claims) -> None:
    assert decode(encode(claims)) == claims


def test_the_map_is_the_one_of_the_profile() -> None:
    members = cbor2.loads(_RAW)
    assert members["nonce"] == b"n" * 32
    assert cbor2.loads(members["pubkey-hash"]) == [1, b"t" * 32]
    assert members["hpke"] == ["x25519", b"h" * 32]
    assert list(members) == sorted(members, key=lambda key: (len(key), key))


def test_report_data_is_the_hash_and_zeros() -> None:
    assert report_data(_RAW) == hashlib.sha256(_RAW).digest() + bytes(32)


@pytest.mark.attack("D03")
@unhurried
@given(st.integers(0, len(_RAW) * 8 - 1))
def test_changed_claims_are_other_claims_or_none(bit: int) -> None:
    """A changed bit inside a value gives other claims, whose report data differ; anywhere else it gives none."""
    try:
        changed = decode(flipped(_RAW, bit))
    except InvalidRequest:
        return
    assert changed != _CLAIMS
    assert report_data(encode(changed)) != report_data(_RAW)


@unhurried
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=40).map(lambda tail: _RAW[:200] + tail)))
def test_any_bytes_are_claims_or_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(raw)


def _members(**change: object) -> dict[object, object]:
    return {**cbor2.loads(_RAW), **change}


@pytest.mark.attack("D04")
@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": True},
        {"v": 1.0},
        {"pubkey-hash": b"t" * 32},
        {"pubkey-hash": cbor2.dumps([1, b"t" * 31])},
        {"pubkey-hash": cbor2.dumps([7, b"t" * 48])},
        {"pubkey-hash": cbor2.dumps([1, b"t" * 32]) + b"\x00"},
        {"pubkey-hash": cbor2.dumps([1, b"t" * 32, 0])},
        {"pubkey-hash": [1, b"t" * 32]},
        {"nonce": b"n" * 31},
        {"nonce": "n" * 32},
        {"hpke": ["x25519", b"h" * 31]},
        {"hpke": ["xwing", b"h" * 32]},
        {"hpke": ["p256", b"h" * 65]},
        {"hpke": [b"x25519", b"h" * 32]},
        {"hpke": ["x25519"]},
        {"hpke": "x25519"},
        {"sig": b"r" * 33},
        {"sig": None},
        {"seal": 1},
        {"seal": 0},
        {"seal": 256},
        {"seal": 2.0},
        {"seal": True},
        {"role": "verifier"},
        {"role": 1},
        {"svc": "spiffe://demo.cloister.internal/worker"},
        {"svc": "spiffe://other.internal/worker/w1"},
        {"svc": "spiffe://demo.cloister.internal/worker/w1/more"},
        {"svc": "https://demo.cloister.internal/worker/w1"},
        {"cluster": "other.internal"},
        {"aud": "verifier"},
        {"aud": ["spiffe://demo.cloister.internal/verifier/v1"]},
        {"cfg": b""},
        {"inst": "0" * 31},
        {"inst": "A" * 32},
        {"more": 1},
        {"nonce": cbor2.CBORTag(24, b"n" * 32)},
    ],
)
def test_a_malformed_claim_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        decode(cbor2.dumps(_members(**change), canonical=True))


@pytest.mark.attack("G14")
def test_the_version_of_sealing_is_among_the_claims_from_the_second_on() -> None:
    assert decode(_RAW).seal_version == 1
    newer = replace(_CLAIMS, seal_version=2)
    assert decode(encode(newer)) == newer
    assert report_data(encode(newer)) != report_data(_RAW)


@pytest.mark.attack("D04")
@pytest.mark.parametrize("name", list(cbor2.loads(_RAW)))
def test_no_claim_may_be_missing(name: str) -> None:
    members = _members()
    del members[name]
    with pytest.raises(InvalidRequest):
        decode(cbor2.dumps(members, canonical=True))


@pytest.mark.attack("D04")
def test_other_encodings_of_the_same_claims_are_refused() -> None:
    members = _members()
    assert cbor2.dumps(members, canonical=True) == _RAW
    backwards = cbor2.dumps(dict(reversed(members.items())))
    indefinite = b"\xbf" + _RAW[1:] + b"\xff"
    duplicate = b"\xac" + _RAW[1:] + cbor2.dumps("v") + cbor2.dumps(1)
    long_head = b"\xb8\x0b" + _RAW[1:]
    for raw in (backwards, indefinite, duplicate, long_head, _RAW + b"\x00", _RAW[:-1]):
        with pytest.raises(InvalidRequest):
            decode(raw)


@pytest.mark.parametrize("raw", [b"\x81" * 4000, b"\xa1\x80\x01", b"\x9b" + b"\xff" * 8, b"\x00", b"\xf6"])
def test_cbor_that_is_no_map_of_claims_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(raw)


def test_claims_are_bounded() -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        decode(cbor2.dumps({"v": bytes(MAX_CLAIMS_BYTES)}))


_OF_A_VERIFIER = replace(
    _CLAIMS,
    role="verifier",
    spiffe_id="spiffe://demo.cloister.internal/verifier/v1",
    hpke_suite="",
    hpke_public=b"",
    receipt_key=b"",
)


def test_a_verifier_claims_no_keys_to_seal_to() -> None:
    raw = encode(_OF_A_VERIFIER)
    assert decode(raw) == _OF_A_VERIFIER
    assert {"hpke", "sig"}.isdisjoint(cbor2.loads(raw))


@pytest.mark.parametrize(
    "change",
    [
        {"hpke_suite": "x25519", "hpke_public": b"h" * 32},
        {"receipt_key": b"r" * 32},
        {"role": "worker", "spiffe_id": "spiffe://demo.cloister.internal/worker/w1"},
    ],
    ids=["a verifier with a key to seal to", "a verifier with a receipt key", "a worker without keys"],
)
def test_keys_are_claimed_by_those_who_need_them_and_nobody_else(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        encode(replace(_OF_A_VERIFIER, **change))


@pytest.mark.attack("D06")
def test_no_claims_are_good_for_both_roles() -> None:
    """A worker's map with another role is one with members too many; a verifier's, one with members too few."""
    for raw, role in ((_RAW, "verifier"), (encode(_OF_A_VERIFIER), "worker")):
        members = {**cbor2.loads(raw), "role": role, "svc": f"spiffe://demo.cloister.internal/{role}/v1"}
        with pytest.raises(InvalidRequest, match="exactly the members"):
            decode(cbor2.dumps(members, canonical=True))
