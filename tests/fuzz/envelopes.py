"""Documents that people sign, changed as JSON."""

from __future__ import annotations

import json
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from fuzz.mutation import changed_bytes, changed_value
from fuzz.target import Violation

KIND = "application/vnd.cloister.fuzz"


class Envelopes:
    """`dsse.verified`, two of three."""

    name = "envelope"

    def __init__(self) -> None:
        keys = [Ed25519PrivateKey.generate() for _ in range(4)]
        self._trusted = [key.public_key().public_bytes_raw().hex() for key in keys[:3]]
        self._payloads = [b"one", b"two" * 300]
        self.seeds = [dsse.sign(payload, KIND, keys[:2]) for payload in self._payloads]
        self._others = [json.loads(dsse.sign(b"other", KIND, keys[n:])) for n in (2, 3)]
        self._others.append(json.loads(dsse.sign(b"one", "application/other", keys)))

    def judge(self, raw: bytes) -> None:
        if dsse.verified(raw, KIND, self._trusted, threshold=2) not in self._payloads:
            raise Violation("a payload was accepted that nobody signed")

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        members = json.loads(raw)
        match rng.randrange(4):
            case 0:
                return changed_bytes(rng, raw)
            case 1 if isinstance(members, dict):
                other = rng.choice(self._others)
                name = rng.choice(list(other))
                members[name] = other[name]
            case 2 if isinstance(members, dict) and isinstance(members.get("signatures"), list):
                members["signatures"] += rng.choice(self._others)["signatures"]
            case _:
                members = changed_value(rng, members)
        return json.dumps(members).encode("utf-8", "replace")
