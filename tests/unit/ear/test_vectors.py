"""The committed vectors of Attestation Results: made again byte for byte, each believed or refused as it says."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from cloister import ear
from cloister.api.v1.gateway_pb2 import ServingWorker
from cloister.api.v1.model_pb2 import SignedManifest
from cloister.client import TrustBundle
from cloister.client.trust import MESH_AUDIENCE, MESH_LIFE, check_believable, check_model
from cloister.ear import KeySet
from cloister.errors import CloisterError, EvidenceRejected
from cloister.kit.key_set import KeySigners, SignedKeySet
from vectors import make_ear_v1

_VECTORS: Any = json.loads(make_ear_v1.PATH.read_text())
_NOW = datetime.fromisoformat(_VECTORS["now"])


def named(cases: str) -> Any:
    """Each case of a list, under its name."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in _VECTORS[cases]])


def reason_of(check: Any, *args: Any) -> str | None:
    """Why a check refuses; None where it does not."""
    try:
        check(*args)
    except CloisterError as error:
        return error.reason
    return None


def test_the_vectors_are_made_again() -> None:
    assert make_ear_v1.vectors() == _VECTORS


@named("tokens")
def test_a_token(case: Any) -> None:
    keys = KeySet.from_jwks(json.dumps(_VECTORS["jwks"]))

    def check() -> None:
        ear.check(
            case["token"],
            keys,
            issuer=_VECTORS["issuer"],
            audience=_VECTORS["audience"],
            now=_NOW,
            max_life=timedelta(seconds=_VECTORS["max_life_s"]),
        )

    assert reason_of(check) == case["reason"]


@named("key_sets")
def test_a_key_set(case: Any) -> None:
    signers = KeySigners(frozenset(_VECTORS["key_signers"]), _VECTORS["key_threshold"])

    def read() -> None:
        SignedKeySet.read(case["key_set"].encode(), signers, issuer=_VECTORS["issuer"])

    assert reason_of(read) == case["reason"]


@named("workers")
def test_a_worker(case: Any) -> None:
    """All that a client checks which believes the verifier about the quote."""
    members = _VECTORS["trust"] | case["trust_changes"]
    content = {name: value for name, value in members.items() if value is not None}
    trust = TrustBundle.from_json(json.dumps(content).encode())
    assert reason_of(believe, case, trust) == case["reason"]


def believe(case: Any, trust: TrustBundle) -> None:
    result = ear.check(
        case["token"], trust.keys(), issuer=trust.verifier_id, audience=MESH_AUDIENCE, now=_NOW, max_life=MESH_LIFE
    )
    check_believable(result, trust)
    trust.floors.check(SimpleNamespace(hpke_suite=result.hpke_suite, seal_version=1))  # type: ignore[arg-type]
    if result.instance != case["instance"]:
        raise EvidenceRejected("another worker's", reason="instance.other")
    manifest = SignedManifest(
        manifest=bytes.fromhex(case["manifest"]),
        signature=bytes.fromhex(case["signature"]),
        public_key=bytes.fromhex(case["public_key"]),
    )
    digest = bytes.fromhex(case["model_digest"])
    offer = ServingWorker(model_version=case["model_version"], model_digest=digest, manifest=manifest)
    check_model(offer, case["model_name"], trust)
