from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from cloister import ear
from cloister.ear import AttestationResult, KeySet, SigningKey
from cloister.errors import EvidenceRejected, InvalidRequest
from fakes.results import NOW, VERIFIER, good_result
from fakes.sealed import flipped, unhurried

_PRIVATE = ec.generate_private_key(ec.SECP256R1())
_KEY = SigningKey(_PRIVATE)
_KEYS = KeySet.from_jwks(json.dumps({"keys": [_KEY.jwk()]}))
_RESULT = good_result()
_TOKEN = ear.issue(_RESULT, _KEY)
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def _check(token: str, keys: KeySet = _KEYS, *, now: datetime | None = NOW, **asked: Any) -> AttestationResult:
    expected = {"issuer": VERIFIER, "audience": "provisioner", "max_life": timedelta(minutes=5), **asked}
    return ear.check(token, keys, now=now, **expected)


def _refused(reason: str, token: str, keys: KeySet = _KEYS, **asked: Any) -> None:
    with pytest.raises(EvidenceRejected) as raised:
        _check(token, keys, **asked)
    assert raised.value.reason == f"token.{reason}"


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _claims() -> Any:
    return json.loads(_unb64(_TOKEN.split(".")[1]))


def _signed(payload: object, key: SigningKey = _KEY) -> str:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return key.sign(raw)


def _with_header(header: object, key: Any = _PRIVATE, algorithm: str = "ES256") -> str:
    """A token with any header, signed as well as may be."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = f"{_b64(raw)}.{_TOKEN.split('.')[1]}"
    signer = jwt.PyJWS().get_algorithm_by_name(algorithm)
    while True:
        signature = signer.sign(body.encode(), key)
        if algorithm != "ES256" or int.from_bytes(signature[32:]) <= _ORDER // 2:
            return f"{body}.{_b64(signature)}"


_HEADER = {"alg": "ES256", "kid": _KEY.kid, "typ": "ear+jwt"}


def test_a_result_comes_back_as_it_was_issued() -> None:
    assert _check(_TOKEN) == _RESULT
    assert _check(_with_header(_HEADER)) == _RESULT


def test_both_kinds_of_key_sign() -> None:
    key = SigningKey(ed25519.Ed25519PrivateKey.generate())
    keys = KeySet.from_jwks(json.dumps({"keys": [key.jwk(), _KEY.jwk()]}))
    assert keys.thumbprints == {key.kid, _KEY.kid}
    assert _check(ear.issue(_RESULT, key), keys) == _RESULT
    assert _check(_TOKEN, keys) == _RESULT


def test_the_claims_are_those_of_the_profile() -> None:
    claims = _claims()
    assert claims["eat_profile"] == "tag:github.com,2023:veraison/ear"
    assert claims["submods"]["worker"]["ear.status"] == "affirming"
    assert claims["submods"]["worker"]["ear.trustworthiness-vector"] == {
        "hardware": 2,
        "executables": 2,
        "configuration": 2,
    }
    assert claims["cnf"]["jwk"]["crv"] == "Ed25519"


@pytest.mark.parametrize(
    ("vector", "status"),
    [((2, 2, 2), "affirming"), ((2, 32, 2), "warning"), ((96, 2, 2), "contraindicated"), ((0, 0, 0), "none")],
)
def test_the_status_is_that_of_the_worst_claim(vector: tuple[int, int, int], status: str) -> None:
    hardware, executables, configuration = vector
    assert good_result(hardware=hardware, executables=executables, configuration=configuration).status == status


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"simulated": True}, "simulated"),  # which is contraindicated hardware, whatever else is said
        ({"role": "verifier"}, "cluster and role"),
        ({"cluster": "other.internal"}, "cluster and role"),
        ({"expires_at": NOW}, "ends before"),
        ({"issued_at": NOW.replace(microsecond=5)}, "survive"),
        ({"nonce": b"short"}, "32 bytes"),
        ({"receipt_key": b""}, "not a text"),
        ({"mrenclave": "A1" * 32}, "64 hex digits"),
        ({"isvsvn": -1}, "not a count"),
        ({"tcb_status": ""}, "not a text"),
        ({"anchor": "two\nlines"}, "not a text"),
        ({"hardware": 300}, "AR4SI"),
    ],
)
def test_a_result_that_cannot_be_is_not_issued(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ear.issue(replace(_RESULT, **wrong), _KEY)


# E01, E02: algorithms and keys


@pytest.mark.attack("E01")
def test_no_algorithm_but_the_key_s_own() -> None:
    public = _PRIVATE.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    unsigned = f"{_b64(json.dumps({**_HEADER, 'alg': 'none'}).encode())}.{_TOKEN.split('.')[1]}."
    _refused("malformed", unsigned)
    _refused("signature", unsigned + "AA")
    _refused("signature", _with_header({**_HEADER, "alg": "HS256"}, public, "HS256"))
    for algorithm in ("es256", "NONE", "None", "ES384", "EdDSA", "RS256"):
        _refused("signature", _with_header({**_HEADER, "alg": algorithm}))
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _refused("signature", _with_header({**_HEADER, "alg": "RS256"}, rsa_key, "RS256"))


@pytest.mark.attack("E02")
@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "cty", "nonce"])
def test_a_header_holds_nothing_else(name: str) -> None:
    _refused("malformed", _with_header({**_HEADER, name: _KEY.jwk()}))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "ES256", "typ": "ear+jwt"},
        {"alg": "ES256", "kid": _KEY.kid},
        {**_HEADER, "typ": "JWT"},
        {**_HEADER, "kid": 1},
        {**_HEADER, "alg": None},
        [],
        b"{",
        b"\xff",
        b'{"alg":"ES256","alg":"ES256","kid":"x","typ":"ear+jwt"}',
        b"[" * 3000,
    ],
)
def test_a_header_has_its_members(header: object) -> None:
    _refused("malformed", _with_header(header))


@pytest.mark.attack("E01")
def test_a_key_that_is_not_ours_signs_nothing() -> None:
    other = SigningKey.generate()
    _refused("key_unknown", ear.issue(_RESULT, other))
    _refused("signature", _with_header(_HEADER, ec.generate_private_key(ec.SECP256R1())))


# E03, E04: times, issuer, audience


@pytest.mark.attack("E03")
@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW - timedelta(seconds=31), "not_yet"),
        (NOW + timedelta(minutes=5, seconds=30), "expired"),
        (NOW + timedelta(days=365), "expired"),
    ],
)
def test_a_token_has_its_time(now: datetime, reason: str) -> None:
    _refused(reason, _TOKEN, now=now)


@pytest.mark.attack("E03")
def test_leeway_is_thirty_seconds() -> None:
    assert _check(_TOKEN, now=NOW - timedelta(seconds=30)) == _RESULT
    assert _check(_TOKEN, now=NOW + timedelta(minutes=5, seconds=29)) == _RESULT


def test_who_has_no_clock_learns_the_time_from_a_token_and_all_else_is_checked() -> None:
    assert _check(_TOKEN, now=None) == _RESULT
    _refused("too_long", _TOKEN, now=None, max_life=timedelta(minutes=4))
    others = KeySet.from_jwks(json.dumps({"keys": [SigningKey.generate().jwk()]}))
    _refused("key_unknown", _TOKEN, others, now=None)


@pytest.mark.attack("E03")
def test_a_life_is_bounded() -> None:
    _refused("too_long", _TOKEN, max_life=timedelta(minutes=4, seconds=59))


@pytest.mark.attack("E04")
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"issuer": "spiffe://demo.cloister.internal/verifier/other"}, "issuer"),
        ({"audience": "mesh"}, "audience"),
        ({"audience": "Provisioner"}, "audience"),
        ({"audience": ""}, "audience"),
    ],
)
def test_a_token_is_from_one_verifier_for_one_audience(asked: dict[str, str], reason: str) -> None:
    _refused(reason, _TOKEN, **asked)


# E07: other spellings


@pytest.mark.attack("E07")
def test_nobody_else_makes_a_second_token_of_one() -> None:
    head, payload, signature = _TOKEN.split(".")
    raw = _unb64(signature)
    malleated = raw[:32] + (_ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    _refused("signature", f"{head}.{payload}.{_b64(malleated)}")


@pytest.mark.attack("E07")
@pytest.mark.parametrize(
    "respell",
    [
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.replace(".", ". "),
        lambda token: token + ".",
        lambda token: token + ".AA",
        lambda token: token.rpartition(".")[0],
        lambda token: token.replace("-", "+").replace("_", "/") + "+",
        lambda token: token[:-1] + chr(ord(token[-1]) + 1),  # bits beyond the last byte
        lambda _: "",
        lambda _: "..",
        lambda _: "é.é.é",
        lambda token: token + "A" * 16384,
    ],
)
def test_a_token_has_one_spelling(respell: Callable[[str], str]) -> None:
    respelt = respell(_TOKEN)
    with pytest.raises(EvidenceRejected):
        _check(respelt)


@pytest.mark.attack("E07")
def test_a_megabyte_is_refused_by_its_length() -> None:
    head, _, signature = _TOKEN.split(".")
    for token in ("A" * (1 << 20), f"{head}.{'A' * (1 << 20)}.{signature}", "." * (1 << 20), _TOKEN + "=" * (1 << 20)):
        begun = time.thread_time()
        _refused("malformed", token)
        assert time.thread_time() - begun < 0.05


@unhurried
@given(st.integers(0, len(_TOKEN) * 8 - 1))
def test_no_changed_bit_is_accepted(bit: int) -> None:
    with pytest.raises(EvidenceRejected):
        _check(flipped(_TOKEN.encode(), bit).decode("latin-1"))


@unhurried
@given(st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(EvidenceRejected):
        _check(text)


# E10: strict members of a payload that is well signed


@pytest.mark.attack("E07")
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 5000,
        json.dumps(_claims()).replace('"iss":', '"iss": "x", "iss":').encode(),
        json.dumps({**_claims(), "iat": 1.5}).encode(),
        json.dumps({**_claims(), "iat": float("nan")}).encode(),
        json.dumps(_claims()).replace('"isvsvn": 3', '"isvsvn": ' + "9" * 5000).encode(),
    ],
)
def test_a_payload_that_is_none_is_refused(payload: bytes) -> None:
    _refused("malformed", _signed(payload))


@pytest.mark.attack("E03")
@pytest.mark.attack("E05")
@pytest.mark.parametrize("name", list(_claims()))
def test_no_claim_may_be_missing(name: str) -> None:
    claims = _claims()
    del claims[name]
    _refused("malformed", _signed(claims))


@pytest.mark.parametrize("name", list(_claims()["cloister"]))
def test_no_claim_of_ours_may_be_missing(name: str) -> None:
    claims = _claims()
    del claims["cloister"][name]
    _refused("malformed", _signed(claims))


@pytest.mark.attack("E03")
@pytest.mark.attack("E04")
@pytest.mark.attack("E05")
@pytest.mark.attack("E10")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eat_profile", "tag:example.com,2026:other"),
        ("aud", ["provisioner"]),
        ("aud", ["provisioner", "attacker"]),
        ("iss", None),
        ("jti", ""),
        ("iat", True),
        ("iat", "1767225600"),
        ("exp", -1),
        ("exp", 1 << 40),
        ("nbf", 0),
        ("eat_nonce", [_b64(b"n" * 32)]),
        ("eat_nonce", _b64(b"n" * 31)),
        ("cnf", {"jwk": {"kty": "EC", "crv": "P-256", "x": _b64(b"x" * 32)}}),
        ("cnf", {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": _b64(b"x" * 32), "d": "AA"}}),
        ("cnf", {"kid": "x"}),
        ("submods", {}),
        ("submods", {"worker": {"ear.status": "affirming"}}),
        ("ear.verifier-id", {"developer": "x"}),
        ("ear.verifier-id", {"developer": "x", "build": 1}),
    ],
)
def test_a_malformed_claim_is_refused(name: str, value: object) -> None:
    _refused("malformed", _signed({**_claims(), name: value}))


@pytest.mark.attack("E10")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("simulated", "false"),
        ("simulated", 0),
        ("simulated", None),
        ("simulated", True),
        ("debug", "false"),
        ("debug", 0),
        ("debug", None),
        ("isvsvn", "3"),
        ("isvsvn", True),
        ("isvsvn", 3.0),
        ("tcb_status", None),
        ("tcb_status", ["UpToDate"]),
        ("advisory_ids", "INTEL-SA-00334"),
        ("advisory_ids", [1]),
        ("mrenclave", "a1" * 31),
        ("mrenclave", "A1" * 32),
        ("role", "verifier"),
        ("spiffe_id", "spiffe://other.internal/worker/w1"),
        ("hpke_public", "+///"),
        ("more", 1),
    ],
)
def test_a_malformed_claim_of_ours_is_refused(name: str, value: object) -> None:
    claims = _claims()
    claims["cloister"][name] = value
    _refused("malformed", _signed(claims))


@pytest.mark.parametrize("change", [{"ear.status": "warning"}, {"ear.status": 2}, {"more": 1}])
def test_status_and_vector_agree(change: dict[str, object]) -> None:
    claims = _claims()
    claims["submods"]["worker"].update(change)
    _refused("malformed", _signed(claims))


# E08, E09: keys


@pytest.mark.attack("E09")
def test_only_pinned_keys_count() -> None:
    other = SigningKey.generate()
    jwks = json.dumps({"keys": [_KEY.jwk(), other.jwk()]})
    pinned = KeySet.from_jwks(jwks, pinned_thumbprints=[_KEY.kid])
    assert _check(_TOKEN, pinned) == _RESULT
    _refused("key_unknown", ear.issue(_RESULT, other), pinned)
    with pytest.raises(InvalidRequest, match="no key"):
        KeySet.from_jwks(jwks, pinned_thumbprints=["elsewhere"])


def test_a_thumbprint_is_that_of_rfc_7638_and_rfc_8037() -> None:
    """RFC 8037 appendix A.3."""
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert ear.thumbprint({"kty": "OKP", "crv": "Ed25519", "x": x}) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    "jwks",
    [
        "",
        "{}",
        "[]",
        '{"keys": {}}',
        '{"keys": []}',
        '{"keys": [1]}',
        '{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}',
        '{"keys": [{"kty": "oct", "k": "AQAB"}]}',
        json.dumps({"keys": [{**_KEY.jwk(), "kid": "mine"}]}),
        json.dumps({"keys": [{**_KEY.jwk(), "alg": "HS256"}]}),
        json.dumps({"keys": [{**_KEY.jwk(), "d": _b64(b"d" * 32)}]}),
        json.dumps({"keys": [{**_KEY.jwk(), "x": _b64(b"x" * 32)}]}),
        json.dumps({"keys": [{**_KEY.jwk(), "crv": "P-384"}]}),
        "[" * 5000,
    ],
)
def test_a_key_set_holds_public_keys_of_ours(jwks: str) -> None:
    with pytest.raises(InvalidRequest):
        KeySet.from_jwks(jwks)


def test_a_signing_key_comes_from_a_file() -> None:
    again = SigningKey.from_pem(_KEY.to_pem())
    assert again.kid == _KEY.kid
    assert repr(again) == f"SigningKey(kid='{_KEY.kid}')"


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"no key",
        _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        _pem(ec.generate_private_key(ec.SECP384R1())),
        _pem(ec.generate_private_key(ec.SECP256R1()), b"password"),
    ],
    ids=["empty", "text", "rsa", "p384", "encrypted"],
)
def test_a_file_without_a_signing_key_is_refused(pem: bytes) -> None:
    with pytest.raises(InvalidRequest):
        SigningKey.from_pem(pem)


def test_times_are_utc() -> None:
    assert _check(_TOKEN).issued_at.tzinfo is UTC
