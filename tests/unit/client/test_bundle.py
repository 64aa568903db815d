"""The trust bundle: what it says survives its file, and nothing else gets in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.appraisal.anchors import INTEL_SGX
from cloister.client import Floors, TrustBundle, anchor_of
from cloister.ear import SigningKey
from cloister.errors import CloisterError, InvalidRequest, NotFound
from cloister.tlog.cosignature import WitnessKey
from fakes.key_ring import SignedKeys
from fakes.serving import FakeVerifier
from fakes.sim import simulated_platform


def written(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FakeVerifier().trust(**changes).to_json())
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mrenclave": frozenset({"ab" * 32}), "owners": frozenset({"cd" * 32})},
        {"policy_toml": 'policy_id = "mine"\n'},
        {"anchor": INTEL_SGX},
        {"floors": Floors()},
        {"floors": Floors(hpke_suites=frozenset({"xwing", "x25519"}), seal_version=2)},
    ],
)
def test_a_bundle_survives_its_file(changes: dict[str, Any], tmp_path: Path) -> None:
    bundle = FakeVerifier().trust(**changes)
    path = tmp_path / "trust.json"
    path.write_bytes(bundle.to_json())
    found = TrustBundle.read(path)
    assert found.to_json() == bundle.to_json()
    assert (found.anchor.root_der, found.mrenclave) == (bundle.anchor.root_der, bundle.mrenclave)
    assert found.floors == bundle.floors
    assert found.keys().thumbprints == bundle.thumbprints


@pytest.mark.attack("G14")
def test_a_bundle_that_says_nothing_of_floors_asks_for_keys_that_hold_against_quantum_computers() -> None:
    assert "floors" not in written(floors=Floors())
    assert FakeVerifier().trust(floors=Floors()).floors.hpke_suites == {"xwing"}


@pytest.fixture
def ring() -> SignedKeys:
    return SignedKeys()


def signed(ring: SignedKeys, **changes: Any) -> TrustBundle:
    """A bundle that pins who names the keys."""
    return FakeVerifier().trust(signers=ring.signers, key_set=ring.first(), **changes)


def test_where_signers_are_pinned_only_what_they_signed_counts(ring: SignedKeys, tmp_path: Path) -> None:
    bundle = signed(ring)
    assert bundle.keys().thumbprints == {ring.old.kid}
    found = TrustBundle.from_json(bundle.to_json())
    assert found.to_json() == bundle.to_json()
    assert (found.signers, found.keys().thumbprints) == (ring.signers, {ring.old.kid})


@pytest.mark.attack("J08")
def test_a_newer_set_is_learned_and_an_older_one_is_not(ring: SignedKeys) -> None:
    bundle = signed(ring)
    newer = bundle.learned(ring.second())
    assert newer.keys().thumbprints == {ring.old.kid, ring.new.kid}
    assert newer.learned(ring.first()) is newer
    assert bundle.learned(b"") is bundle


@pytest.mark.attack("E09")
def test_a_set_that_no_signer_signed_is_not_learned(ring: SignedKeys) -> None:
    for bundle in (signed(ring), FakeVerifier().trust()):
        with pytest.raises(InvalidRequest):
            bundle.learned(SignedKeys(old=ring.old).second())


def test_signers_and_their_set_come_together(ring: SignedKeys) -> None:
    for name in ("key_signers", "key_threshold", "key_set"):
        content = json.loads(signed(ring).to_json())
        del content["verifier"][name]
        with pytest.raises(InvalidRequest, match=name):
            TrustBundle.from_json(json.dumps(content).encode())
    for name, value in (("key_threshold", 2), ("key_threshold", "1"), ("key_signers", []), ("key_set", {})):
        content = json.loads(signed(ring).to_json())
        content["verifier"][name] = value
        with pytest.raises(InvalidRequest):
            TrustBundle.from_json(json.dumps(content).encode())


def test_only_intels_root_is_not_simulated() -> None:
    assert anchor_of(None) is INTEL_SGX
    assert anchor_of(INTEL_SGX.root_der) is INTEL_SGX
    assert anchor_of(simulated_platform().root_der()).simulated


def test_a_simulated_anchor_cannot_call_itself_genuine() -> None:
    content = written()
    content["anchor"]["simulated"] = False
    with pytest.raises(InvalidRequest, match="only Intel's root"):
        TrustBundle.from_json(json.dumps(content).encode())


@pytest.mark.attack("E09")
def test_keys_that_are_not_pinned_do_not_count() -> None:
    content = written()
    content["verifier"]["jwks"]["keys"].append(SigningKey.generate().jwk())
    found = TrustBundle.from_json(json.dumps(content).encode())
    assert found.keys().thumbprints == frozenset(content["verifier"]["thumbprints"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "cloister trust bundle v2"),
        ("cluster", "other.example"),
        ("root_ca_pem", "no certificate"),
        ("mrenclave", []),
        ("mrenclave", ["AB" * 32]),
        ("mrenclave", "ab" * 32),
        ("owners", []),
        ("owners", ["ab"]),
        ("policy", "accepted_statuses = []"),
        ("anchor", {"name": "x", "simulated": True, "root_der": "AAAA"}),
        ("anchor", {"name": "x", "simulated": True, "root_der": "not base64"}),
        ("verifier", {"id": "spiffe://demo.cloister.internal/gateway/main", "jwks": {"keys": []}, "thumbprints": []}),
        ("any", "thing"),
        ("floors", {}),
        ("floors", {"hpke_suites": [], "seal_version": 1}),
        ("floors", {"hpke_suites": ["rot13"], "seal_version": 1}),
        ("floors", {"hpke_suites": [["xwing"]], "seal_version": 1}),
        ("floors", {"hpke_suites": "xwing", "seal_version": 1}),
        ("floors", {"hpke_suites": ["xwing"], "seal_version": 0}),
        ("floors", {"hpke_suites": ["xwing"], "seal_version": 3}),
        ("floors", {"hpke_suites": ["xwing"], "seal_version": True}),
        ("floors", {"hpke_suites": ["xwing"], "seal_version": 1, "more": 1}),
    ],
)
def test_what_is_not_a_bundle_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest):
        TrustBundle.from_json(json.dumps(written() | {name: value}).encode())


@pytest.mark.parametrize("name", ["format", "cluster", "root_ca_pem", "verifier", "anchor"])
def test_a_member_that_is_missing_is_named(name: str) -> None:
    content = written()
    del content[name]
    with pytest.raises(InvalidRequest, match=name):
        TrustBundle.from_json(json.dumps(content).encode())


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
def test_any_bytes_give_a_bundle_or_an_invalid_request(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        TrustBundle.from_json(raw)


def test_a_file_that_is_not_there_or_far_too_long(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        TrustBundle.read(tmp_path / "trust.json")
    (tmp_path / "long.json").write_bytes(b" " * 300_000)
    with pytest.raises(CloisterError, match="too long"):
        TrustBundle.read(tmp_path / "long.json")


def test_the_key_of_the_witness_may_be_named(tmp_path: Path) -> None:
    vkey = WitnessKey("mesh.example/verifier", bytes(32)).vkey
    bundle = FakeVerifier().trust(witness=vkey)
    (tmp_path / "trust.json").write_bytes(bundle.to_json())
    read = TrustBundle.read(tmp_path / "trust.json")
    assert (read.witness, read.signers) == (vkey, None)
    with pytest.raises(InvalidRequest):
        TrustBundle.from_json(bundle.to_json().replace(vkey.encode(), b"a word"))
