from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest, SealBroken
from cloister.seal import hpke
from fakes.sealed import flipped, unhurried

_VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "xwing.json").read_text())["vectors"]
_PAIRS = {suite: hpke.KeyPair.generate(suite) for suite in sorted(hpke.SUITES)}

suites = pytest.mark.parametrize("suite", sorted(hpke.SUITES))


@suites
def test_what_is_sealed_opens(suite: str) -> None:
    pair = _PAIRS[suite]
    sealed = hpke.seal(suite, pair.public, b"a secret", b"purpose")
    assert len(pair.public) == hpke.PUBLIC_BYTES[suite]
    assert len(sealed) == hpke.ENC_BYTES[suite] + len(b"a secret") + hpke.TAG_BYTES
    assert pair.open(sealed, b"purpose") == b"a secret"


@suites
@pytest.mark.parametrize("sealed", [b"", b"\x00", bytes(31), bytes(80), bytes(1200), b"\xff" * 1200])
def test_what_was_never_sealed_does_not_open(suite: str, sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        _PAIRS[suite].open(sealed, b"purpose")


@suites
def test_another_key_or_purpose_does_not_open(suite: str) -> None:
    sealed = hpke.seal(suite, _PAIRS[suite].public, b"a secret", b"purpose")
    with pytest.raises(SealBroken):
        _PAIRS[suite].open(sealed, b"other purpose")
    with pytest.raises(SealBroken):
        hpke.KeyPair.generate(suite).open(sealed, b"purpose")


@suites
@unhurried
@given(data=st.data())
def test_no_changed_bit_opens(suite: str, data: st.DataObject) -> None:
    sealed = hpke.seal(suite, _PAIRS[suite].public, b"a secret", b"purpose")
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    # X25519 ignores the highest bit of a coordinate, but the coordinate's bytes are hashed into the shared secret.
    for broken in (flipped(sealed, bit), sealed[: bit // 8], sealed + b"\x00"):
        with pytest.raises(SealBroken):
            _PAIRS[suite].open(broken, b"purpose")


@pytest.mark.parametrize(
    ("suite", "public"),
    [
        ("x25519", bytes(32)),  # a point of low order: no secret comes of it
        ("x25519", bytes(31)),
        ("xwing", bytes(32)),
        ("xwing", b"\xff" * 1216),  # coefficients above the modulus
        ("p256", bytes(65)),
    ],
)
def test_a_key_that_is_none_is_refused(suite: str, public: bytes) -> None:
    with pytest.raises(InvalidRequest):
        hpke.seal(suite, public, b"a secret", b"")


@pytest.mark.parametrize(("suite", "seed"), [("xwing", bytes(31)), ("other", bytes(32))])
def test_a_seed_has_its_length_and_suite(suite: str, seed: bytes) -> None:
    with pytest.raises(InvalidRequest):
        hpke.KeyPair.from_seed(suite, seed)


def test_a_pair_does_not_show_its_private_half() -> None:
    assert repr(_PAIRS["xwing"]) == "KeyPair(suite='xwing')"


@pytest.mark.parametrize("vector", _VECTORS, ids=range(len(_VECTORS)))
def test_xwing_is_that_of_its_specification(vector: dict[str, str]) -> None:
    """The draft's key pair and encapsulation, and RFC 9180's key schedule written out, make what we open."""
    pair = hpke.KeyPair.from_seed("xwing", bytes.fromhex(vector["seed"]))
    assert pair.public.hex() == vector["pk"]
    key, nonce = _key_schedule(b"HPKE\x64\x7a\x00\x01\x00\x02", bytes.fromhex(vector["ss"]), b"purpose")
    sealed = bytes.fromhex(vector["ct"]) + AESGCM(key).encrypt(nonce, b"a secret", b"")
    assert pair.open(sealed, b"purpose") == b"a secret"


def _key_schedule(suite_id: bytes, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    def extract(salt: bytes, label: bytes, key: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite_id + label + key, hashlib.sha256)

    def expand(key: bytes, label: bytes, context: bytes, length: int) -> bytes:
        message = length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + context
        return hmac.digest(key, message + b"\x01", hashlib.sha256)[:length]

    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)


_field = st.one_of(st.binary(max_size=20), st.text(max_size=20), st.integers(0, 2**64 - 1))


@unhurried
@given(first=st.lists(_field, max_size=4), second=st.lists(_field, max_size=4))
def test_different_fields_have_different_contexts(
    first: list[bytes | str | int], second: list[bytes | str | int]
) -> None:
    assert (hpke.context("label", *first) == hpke.context("label", *second)) == (first == second)
    assert hpke.context("label", *first) != hpke.context("other", *first)
