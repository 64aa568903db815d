"""The receipt page's check, run by Node.js, against ours: the same receipts, and the same verdict on every one."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from cloister.api.v1.seal_pb2 import Receipt, ReceiptBody, ReceiptBundle
from cloister.appraisal.anchors import INTEL_SGX
from cloister.client import Client, TrustBundle, verify_receipt
from cloister.ear.keys import SigningKey
from cloister.errors import CloisterError
from cloister.kit.key_set import KeySigners, signed, timed
from cloister.seal import receipt as receipts
from cloister_simulator.trust_domain import TrustDomain
from fakes.serving import MODEL, VERIFIER, FakeGateway, FakeVerifier, FakeWorker
from fakes.sim import ENCLAVE

CHECK = files("cloister.console").joinpath("static", "receipt.mjs")
DRIVER = Path(__file__).with_name("check_receipts.mjs")
KEYS, RESULT, FORCE, BELIEVED, SIGNATURE, NAMES, CONTENT = range(2, 9)
"""Numbers of the page's steps."""


@cache
def node() -> str | None:
    """Node.js 20 or later: the first whose WebCrypto has all that browsers have."""
    found = shutil.which("node")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    version = re.match(r"v(\d+)", said)
    return found if version and int(version[1]) >= 20 else None


pytestmark = pytest.mark.skipif(node() is None, reason="needs Node.js 20 or later, which runs the page's own script")


def checked(cases: list[tuple[bytes, TrustBundle]]) -> list[dict[str, Any]]:
    """What the page says of each."""
    bundles = list({id(trust): trust for _, trust in cases}.values())
    given = {
        "trust": [trust.to_json().decode() for trust in bundles],
        "cases": [
            {
                "receipt": base64.b64encode(raw).decode(),
                "trust": next(at for at, one in enumerate(bundles) if one is trust),
            }
            for raw, trust in cases
        ],
    }
    command = [str(node()), str(DRIVER), str(CHECK)]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def ours(raw: bytes, trust: TrustBundle) -> bool:
    try:
        verify_receipt(ReceiptBundle.FromString(raw), trust)
    except (CloisterError, ValueError, DecodeError):
        return False
    return True


async def kept(
    verifier: FakeVerifier, value: float = 1.0, trust: TrustBundle | None = None, **worker: Any
) -> ReceiptBundle:
    client = Client(cast(Any, FakeGateway(FakeWorker(verifier, **worker))), trust or verifier.trust())
    answer = await client.infer(MODEL, {"x": np.full((1, 2), value, np.float32)})
    assert answer.receipt is not None
    return answer.receipt


@pytest.fixture(params=["ES256", "EdDSA"])
def verifier(request: pytest.FixtureRequest) -> FakeVerifier:
    if request.param == "ES256":
        return FakeVerifier()
    return FakeVerifier(key=SigningKey(Ed25519PrivateKey.generate()))


async def test_a_receipt_that_holds_here_holds_in_the_browser(verifier: FakeVerifier) -> None:
    raw, trust = (await kept(verifier)).SerializeToString(deterministic=True), verifier.trust()
    assert ours(raw, trust)
    (found,) = checked([(raw, trust)])
    assert (found["verdict"], found["failed"]) == ("holds", 0)


@pytest.mark.attack("J12")
async def test_the_browser_and_we_agree_on_every_changed_byte(verifier: FakeVerifier) -> None:
    bundle, trust = await kept(verifier), verifier.trust()
    raw = bundle.SerializeToString(deterministic=True)
    flipped = [bytes([*raw[:at], raw[at] ^ 1 << at % 8, *raw[at + 1 :]]) for at in range(0, len(raw), 11)]
    cut = [raw[:at] for at in range(0, len(raw), 97)]
    cases = [(one, trust) for one in (*flipped, *cut)]
    for (one, _), found in zip(cases, checked(cases), strict=True):
        assert found["verdict"] == ("holds" if ours(one, trust) else "broken")
        assert found["verdict"] == "broken", "a byte that nobody looks at"
        assert set(found["after"]) <= {"not made"}


@pytest.mark.attack("C02")
@pytest.mark.attack("J12")
async def test_receipts_of_trust_domains_and_of_enclaves_are_held_against_their_own_pins() -> None:
    verifier, domain = FakeVerifier(), TrustDomain()
    named = frozenset({domain.measurement.digest.hex()})
    domains = verifier.trust(mrenclave=None, td_measurement=named)
    enclaves, both = verifier.trust(), verifier.trust(td_measurement=named)
    of_domain = (await kept(verifier, trust=domains, evidence_changes={"domain": domain})).SerializeToString()
    of_enclave = (await kept(verifier)).SerializeToString()
    digits = verifier.trust(mrenclave=None, td_measurement=frozenset({ENCLAVE.mrenclave.hex()}))
    policy = f'policy_id = "ours"\n[[reference_values]]\nmrenclave = "{ENCLAVE.mrenclave.hex()}"\n'
    cases = {
        (of_domain, domains): True,
        (of_domain, verifier.trust(policy_toml=policy)): False,
        (of_domain, verifier.trust(mrenclave=None, policy_toml=policy)): False,
        (of_domain, both): True,
        (of_domain, enclaves): False,
        (of_domain, verifier.trust(mrenclave=named)): False,
        (of_domain, replace(domains, td_measurement=frozenset({"ab" * 32}))): False,
        (of_enclave, both): True,
        (of_enclave, domains): False,
        (of_enclave, digits): False,
    }
    for ((raw, trust), holds), found in zip(cases.items(), checked(list(cases)), strict=True):
        assert ours(raw, trust) is holds
        assert found["verdict"] == ("holds" if holds else "broken")
        assert holds or found["failed"] == BELIEVED


@pytest.mark.attack("J12")
async def test_what_is_broken_is_shown_at_its_step() -> None:
    verifier = FakeVerifier()
    trust = verifier.trust()
    bundle, other = await kept(verifier), await kept(verifier, 2.0)

    def with_(**parts: Any) -> bytes:
        mixed = ReceiptBundle()
        mixed.CopyFrom(bundle)
        for name, value in parts.items():
            getattr(mixed, name).CopyFrom(value) if name == "receipt" else setattr(mixed, name, value)
        return mixed.SerializeToString()

    forged = Receipt()
    forged.CopyFrom(bundle.receipt)
    forged.signature = bytes(64)
    stranger = FakeVerifier()
    whole = bundle.SerializeToString()
    cases = [
        (whole, stranger.trust(), RESULT),
        (with_(attestation_result=other.attestation_result), trust, SIGNATURE),
        (whole, replace(trust, verifier_id=f"{VERIFIER}x"), FORCE),
        (whole, replace(trust, mrenclave=frozenset({"ab" * 32})), BELIEVED),
        (whole, replace(trust, anchor=INTEL_SGX), BELIEVED),
        (whole, replace(trust, verifier_policies=frozenset({"cd" * 32})), BELIEVED),
        (with_(receipt=forged), trust, SIGNATURE),
        (with_(request=other.request), trust, CONTENT),
        (with_(response=other.request), trust, CONTENT),
    ]
    found = checked([(raw, believed) for raw, believed, _ in cases])
    assert [one["failed"] for one in found] == [step for *_, step in cases]
    assert not any(ours(raw, believed) for raw, believed, _ in cases)


async def test_answers_of_one_moment_and_a_receipt_moved_among_them() -> None:
    """Receipts with an audit path, from a tree of several answers."""
    verifier = FakeVerifier()
    worker = FakeWorker(verifier)
    trust = verifier.trust()

    def body(number: int) -> ReceiptBody:
        request_id = bytes([number]) * 16
        return ReceiptBody(
            version=1,
            request_id=request_id,
            request_sha256=receipts.content_hash(request_id, b""),
            response_sha256=receipts.content_hash(request_id, b""),
            model_name=MODEL,
            model_version="1",
            model_digest=bytes(32),
            policy_digest=bytes(32),
            ear_id=worker.result.ear_id,
            instance=worker.instance,
            issued_at_ms=int(datetime.now(UTC).timestamp() * 1000),
        )

    issued = receipts.issue([body(number) for number in range(5)], worker.evidence.receipt_key)
    whole = [ReceiptBundle(receipt=one, attestation_result=worker.token).SerializeToString() for one in issued]
    moved = Receipt()
    moved.CopyFrom(issued[1])
    moved.leaf_index = 4
    cases = [
        (raw, trust)
        for raw in (*whole, ReceiptBundle(receipt=moved, attestation_result=worker.token).SerializeToString())
    ]
    found = checked(cases)
    assert [one["failed"] for one in found] == [0, 0, 0, 0, 0, SIGNATURE]
    assert [ours(raw, trust) for raw, _ in cases] == [True] * 5 + [False]


async def test_a_signed_set_of_keys_counts_with_enough_signatures_and_in_its_time() -> None:
    verifier, now = FakeVerifier(), datetime.now(UTC)
    raw = (await kept(verifier)).SerializeToString()
    signers = [Ed25519PrivateKey.generate() for _ in range(3)]
    named = frozenset(one.public_key().public_bytes_raw().hex() for one in signers)

    def bundle(by: int, began: timedelta, ends: timedelta, issuer: str = VERIFIER) -> TrustBundle:
        jwks = [timed(verifier.key.jwk(), now + began, now + ends)]
        envelope = signed(jwks, issuer=issuer, version=3, signers=signers[:by])
        whole = signed(jwks, issuer=VERIFIER, version=3, signers=signers)
        made = verifier.trust(signers=KeySigners(named, 2), key_set=whole)
        object.__setattr__(made, "key_set", envelope)  # a bundle of ours would not even load with another one
        return made

    hour, day = timedelta(hours=1), timedelta(days=1)
    cases = [
        (bundle(2, -hour, day), 0),
        (bundle(1, -hour, day), KEYS),
        (bundle(3, -hour, day, f"{VERIFIER}x"), KEYS),
        (bundle(3, -day, -hour), FORCE),
    ]
    found = checked([(raw, trust) for trust, _ in cases])
    assert [one["failed"] for one in found] == [step for _, step in cases]


async def test_what_the_page_cannot_look_at_it_does_not_call_good() -> None:
    verifier = FakeVerifier()
    raw = (await kept(verifier)).SerializeToString()
    policy = f'policy_id = "ours"\n[[reference_values]]\nmrenclave = "{ENCLAVE.mrenclave.hex()}"\n'
    (found,) = checked([(raw, verifier.trust(mrenclave=None, policy_toml=policy))])
    assert (found["verdict"], found["failed"]) == ("undecided", 0)
