"""Attestation Results as tokens: respelt, forged, and signed after they were changed."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import ear
from cloister.ear import KeySet, SigningKey
from cloister.ear.result import from_claims
from fakes.results import NOW, VERIFIER, good_result
from fuzz.mutation import changed_bytes, changed_signature, changed_value
from fuzz.target import Violation

_HEADERS = ("jwk", "jku", "x5u", "x5c", "crit", "alg", "kid", "typ", "b64", "zip")


class Tokens:
    """`ear.check` as a relying party calls it."""

    name = "token"

    def __init__(self) -> None:
        self._signers = [SigningKey.generate(), SigningKey(Ed25519PrivateKey.generate())]
        self._keys = KeySet.from_jwks(json.dumps({"keys": [key.jwk() for key in self._signers]}))
        self.seeds = [ear.issue(good_result(isvsvn=n), key).encode() for n, key in enumerate(self._signers)]
        self._stranger = SigningKey.generate()
        # Head and payload of every token that a key of ours ever signed.
        self._signed = {raw.rpartition(b".")[0] for raw in self.seeds}

    def judge(self, raw: bytes) -> None:
        token = raw.decode("latin-1")
        found = ear.check(
            token, self._keys, issuer=VERIFIER, audience="provisioner", now=NOW, max_life=timedelta(minutes=5)
        )
        if raw.rpartition(b".")[0] not in self._signed:
            raise Violation("a token was accepted that nobody signed")
        if from_claims(json.loads(decoded(raw.split(b".")[1]))) != found:
            raise Violation("a token was read as something else than it says")

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        segments = raw.split(b".")
        if len(segments) != 3 or rng.random() < 0.1:
            return changed_bytes(rng, raw)
        head, payload, signature = segments
        match rng.randrange(8):
            case 0:
                head = self._changed(rng, head, _HEADERS)
            case 1:
                payload = self._changed(rng, payload)
            case 2:
                signature = _encoded(changed_signature(rng, decoded(signature)))
            case 3:
                return _respelt(rng, raw)
            case 4:
                key = rng.choice((*self._signers, self._stranger))
                return self._sign(key, _changed_json(rng, decoded(payload)), believed=key is not self._stranger)
            case 5:
                return b".".join(
                    rng.choice(self.seeds).split(b".")[n] if rng.random() < 0.4 else each
                    for n, each in enumerate(segments)
                )
            case _:
                key = rng.choice(self._signers)
                return self._sign(key, _changed_json(rng, decoded(payload)), believed=True)
        return b".".join((head, payload, signature))

    def _changed(self, rng: Random, segment: bytes, names: tuple[str, ...] = ()) -> bytes:
        members = json.loads(decoded(segment))
        if names and rng.random() < 0.6:
            members[rng.choice(names)] = rng.choice(
                ("none", "HS256", "es256", "ES256", "EdDSA", None, {}, ["x"], "x", 1)
            )
            return _encoded(json.dumps(members).encode())
        return _encoded(_changed_json(rng, decoded(segment)))

    def _sign(self, key: SigningKey, payload: bytes, *, believed: bool) -> bytes:
        token = key.sign(payload).encode()
        if believed:
            self._signed.add(token.rpartition(b".")[0])
        return token


def _changed_json(rng: Random, raw: bytes) -> bytes:
    value: Any = json.loads(raw)
    match rng.randrange(10):
        case 0:
            return changed_bytes(rng, raw)
        case 1 if isinstance(value, dict) and value:
            name = rng.choice(list(value))
            return raw[:-1] + b"," + json.dumps({name: changed_value(rng, value[name])}).encode()[1:]
        case 2:
            return json.dumps(value, indent=1).encode()
        case 3:
            return raw[:-1] + b',"x":' + rng.choice((b"[" * 4000, b"NaN", b"1e999", b"9" * 5000)) + b"}"
        case _:
            return json.dumps(changed_value(rng, value)).encode("utf-8", "replace")


def _respelt(rng: Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw) + 1)
    return rng.choice(
        (
            raw + b"=",
            raw[:at] + rng.choice((b" ", b"\n", b"=", b".", b"\xe9")) + raw[at:],
            raw.replace(b"-", b"+").replace(b"_", b"/"),
            raw + b".AA",
            raw * 20,
            raw[:-1] + bytes([raw[-1] ^ 1]),
        )
    )


def _encoded(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def decoded(segment: bytes) -> bytes:
    return urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
