"""Tokens of an issuer: good ones of every kind are read, and each thing that may be wrong with one is found."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest, Unauthenticated
from cloister.gateway.access_token import AccessToken, check_terms, read, verify_signature
from cloister.gateway.jwks import MAX_KEYS, parse_jwks
from fakes.oidc_issuer import ALGORITHMS, AUDIENCE, OidcIssuer, jwks_of

NOW = 1_900_000_000
ISSUER = OidcIssuer()
KEYS = parse_jwks(ISSUER.jwks())
TOKEN = ISSUER.token(NOW)


def accepted(token: str, issuer: OidcIssuer = ISSUER, *, now_s: float = NOW, max_life_s: float = 600) -> AccessToken:
    found = read(token)
    key = parse_jwks(issuer.jwks()).get(found.kid)
    assert key is not None
    verify_signature(token, found.algorithm, key)
    check_terms(found, audience=AUDIENCE, max_life_s=max_life_s, now_s=now_s)
    return found


def refused(reason: str, token: str, **asked: Any) -> None:
    with pytest.raises(Unauthenticated) as raised:
        accepted(token, **asked)
    assert raised.value.reason == f"token.{reason}"
    assert token not in str(raised.value) or not token


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def respelt(header: object = None, payload: object = None) -> str:
    """The good token with another header or payload, raw or as JSON, signed as well as may be."""

    def raw(value: object) -> str:
        return b64(value if isinstance(value, bytes) else json.dumps(value).encode())

    head, body, _ = TOKEN.split(".")
    signed = f"{head if header is None else raw(header)}.{body if payload is None else raw(payload)}"
    private = ISSUER.key.raw_value
    assert private is not None
    return f"{signed}.{b64(jwt.PyJWS().get_algorithm_by_name('ES256').sign(signed.encode(), private))}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_token_of_each_kind(algorithm: str) -> None:
    issuer = OidcIssuer(algorithm)
    found = accepted(issuer.token(NOW, department="radiology"), issuer)
    assert (found.issuer, found.subject, found.members["department"]) == (issuer.issuer, "ann", "radiology")


def test_what_else_issuers_write_into_tokens_is_no_obstacle() -> None:
    accepted(ISSUER.token(NOW, header={"typ": "JWT", "x5t": "abc"}, aud=[AUDIENCE], nbf=NOW, score=0.5, roles=["a"]))
    accepted(ISSUER.token(NOW, header={"typ": None}))


@pytest.mark.attack("E01")
def test_no_algorithm_but_one_of_the_keys_own() -> None:
    head = {"alg": "ES256", "kid": "k1", "typ": "at+jwt"}
    for algorithm in ("none", "None", "NONE", "HS256", "es256", "ES384", "EdDSA", "RS256", "PS256"):
        refused("signature", respelt({**head, "alg": algorithm}))
    public = ISSUER.key.public_key if hasattr(ISSUER.key, "public_key") else None
    assert public is not None
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = f"{b64(json.dumps({**head, 'alg': 'HS256'}).encode())}.{TOKEN.split('.')[1]}"
    algorithm = jwt.PyJWS().get_algorithm_by_name("HS256")
    refused("signature", f"{body}.{b64(algorithm.sign(body.encode(), pem))}")
    unsigned = f"{b64(json.dumps({**head, 'alg': 'none'}).encode())}.{TOKEN.split('.')[1]}."
    refused("malformed", unsigned)


@pytest.mark.attack("E01")
def test_another_issuers_key_of_the_same_id_signs_nothing() -> None:
    refused("signature", OidcIssuer().token(NOW))


@pytest.mark.attack("E02")
@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"])
def test_a_header_says_neither_where_keys_are_nor_what_is_critical(name: str) -> None:
    refused("malformed", respelt({"alg": "ES256", "kid": "k1", name: ISSUER.jwk()}))


@pytest.mark.attack("E03")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": NOW - 30, "iat": NOW - 60}, "expired"),
        ({"iat": NOW + 31, "exp": NOW + 60}, "not_yet"),
        ({"nbf": NOW + 31}, "not_yet"),
        ({"exp": NOW + 601}, "too_long"),
        ({"exp": NOW}, "too_long"),
        ({"exp": NOW - 1}, "too_long"),
        ({"exp": None}, "malformed"),
        ({"iat": None}, "malformed"),
    ],
)
def test_a_token_has_its_time_and_no_more_than_it_may(changes: dict[str, Any], reason: str) -> None:
    refused(reason, ISSUER.token(NOW, **changes))


@pytest.mark.attack("E03")
def test_leeway_is_thirty_seconds() -> None:
    accepted(TOKEN, now_s=NOW - 30)
    accepted(TOKEN, now_s=NOW + 629)
    refused("not_yet", TOKEN, now_s=NOW - 31)
    refused("expired", TOKEN, now_s=NOW + 630)


@pytest.mark.attack("E04")
@pytest.mark.parametrize(
    "audience",
    ["Cloister", "cloister/", "broker", [], ["cloister", "broker"], ["broker", "cloister"], ["cloister", "cloister"]],
)
def test_a_token_is_for_us_and_nobody_else(audience: object) -> None:
    refused("audience", ISSUER.token(NOW, aud=audience))


@pytest.mark.attack("E04")
def test_a_token_without_an_audience_is_none() -> None:
    refused("malformed", ISSUER.token(NOW, aud=None))


@pytest.mark.attack("E07")
@pytest.mark.parametrize(
    "respell",
    [
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token + ".",
        lambda token: token + ".AA",
        lambda token: token.rpartition(".")[0],
        lambda token: token[:-1] + chr(ord(token[-1]) + 1),  # bits beyond the last byte
        lambda _: "",
        lambda _: "..",
        lambda _: "é.é.é",
        lambda token: token + "A" * 1_000_000,
    ],
)
def test_a_token_is_spelt_in_canonical_base64url_and_bounded(respell: Callable[[str], str]) -> None:
    with pytest.raises(Unauthenticated):
        accepted(respell(TOKEN))


@pytest.mark.attack("E07")
def test_members_are_given_once() -> None:
    claims = json.dumps(ISSUER.claims(NOW))
    refused("malformed", respelt(payload=(claims[:-1] + ', "sub": "root"}').encode()))
    refused("malformed", respelt(header=b'{"alg":"ES256","alg":"none","kid":"k1"}'))
    refused("malformed", respelt(payload=(claims[:-1] + ', "x": {"a": 1, "a": 2}}').encode()))


@pytest.mark.attack("E10")
@pytest.mark.parametrize(
    "changes",
    [
        {"exp": str(NOW + 60)},
        {"exp": NOW + 60.0},
        {"exp": True},
        {"iat": "0"},
        {"iat": False},
        {"nbf": "now"},
        {"nbf": -1},
        {"exp": 1 << 60},
        {"iss": ["https://login.clinic.example"]},
        {"sub": 1},
        {"sub": ""},
        {"sub": {"a": 1}},
        {"sub": "a\nb"},
        {"aud": {"cloister": True}},
        {"aud": [1]},
    ],
)
def test_members_have_their_types(changes: dict[str, Any]) -> None:
    refused("malformed", respelt(payload={**ISSUER.claims(NOW), **changes}))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "ES256"},
        {"kid": "k1"},
        {"alg": "ES256", "kid": 1},
        {"alg": None, "kid": "k1"},
        {"alg": "ES256", "kid": "k1", "typ": "ear+jwt"},
        {"alg": "ES256", "kid": "k1", "typ": 1},
        [],
        b"{",
        b"\xff",
        b"[" * 5000,
        b'{"alg":"ES256","kid":"k1","x":NaN}',
    ],
)
def test_a_header_has_its_members(header: object) -> None:
    refused("malformed", respelt(header))


@pytest.mark.attack("E10")
@pytest.mark.parametrize("value", [True, 1, None, {"radiology": 1}, ["radiology", 1], "Radiology", "radiology "])
def test_a_claim_is_a_text_or_a_list_of_texts(value: object) -> None:
    found = read(respelt(payload={**ISSUER.claims(NOW), "department": value}))
    assert not found.holds("department", "radiology")
    assert not found.holds("none", "radiology")
    for good in ("radiology", ["x", "radiology"]):
        assert read(ISSUER.token(NOW, department=good)).holds("department", "radiology")


@given(st.text(alphabet="eyJhbGciOi.-_=A0 \n", max_size=80))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        read(text)


# Key sets


def test_keys_that_verify_nothing_here_are_passed_over() -> None:
    other = [
        {"kty": "EC", "crv": "P-256", "x": "a", "y": "b"},  # without an id
        {"kty": "EC", "crv": "secp256k1", "x": "a", "y": "b", "kid": "odd"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "small"},
        {**OidcIssuer(kid="enc").jwk(), "use": "enc"},
        {"kty": ["EC"], "kid": "list"},
        {"kty": "LMS", "kid": "new"},
    ]
    raw = json.dumps({"keys": [*other, ISSUER.jwk()], "more": 1}).encode()
    assert set(parse_jwks(raw)) == {"k1"}


@pytest.mark.attack("E01")
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [1]}',
        b"[" * 100_000,
        b"\xff",
        jwks_of(ISSUER, OidcIssuer("EdDSA")),  # one id twice
        json.dumps({"keys": [ISSUER.jwk(), {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}]}).encode(),
        json.dumps({"keys": [ISSUER.key.as_dict(private=True)]}).encode(),
        json.dumps({"keys": [{**ISSUER.jwk(), "kid": str(n)} for n in range(MAX_KEYS + 1)]}).encode(),
        jwks_of(ISSUER) + b" " * (1 << 19),
    ],
)
def test_what_is_no_key_set_to_verify_by(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_jwks(raw)
    assert raised.value.reason == "jwks.invalid"
    assert "c2VjcmV0" not in str(raised.value)


def test_bytes_of_the_signature_count() -> None:
    head, payload, signature = TOKEN.split(".")
    raw = bytearray(urlsafe_b64decode(signature + "=="))
    raw[10] ^= 1
    refused("signature", f"{head}.{payload}.{b64(bytes(raw))}")
