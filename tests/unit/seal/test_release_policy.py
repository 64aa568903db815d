from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.v1.provisioner_pb2 import Platforms, SignerRule
from cloister.errors import InvalidRequest
from cloister.seal.release_policy import ReleasePolicy, parse_policy
from fakes.results import MODEL, MRENCLAVE, MRSIGNER, good_policy

PLATFORM = "c3" * 32


def test_a_policy_is_read_whole() -> None:
    raw = good_policy(allow_plain=True).SerializeToString()
    policy = parse_policy(raw)
    assert policy.model_name == MODEL
    assert policy.mrenclave == {MRENCLAVE}
    assert policy.signers[0].mrsigner == MRSIGNER
    assert (policy.lease_s, policy.min_model_version) == (600, 2)
    assert (policy.allow_plain, policy.allow_simulated) == (True, False)
    assert (policy.platforms, policy.releases_per_hour, policy.signer_set) == (None, 0, 0)
    assert policy.digest == hashlib.sha256(raw).digest()


def test_what_came_later_is_read_too() -> None:
    raw = good_policy(platforms={"ppid_sha256": [PLATFORM]}, releases_per_hour=60, signer_set=3).SerializeToString()
    policy = parse_policy(raw)
    assert (policy.platforms, policy.releases_per_hour, policy.signer_set) == ({PLATFORM}, 60, 3)


@pytest.mark.attack("C06")
@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": 2**63},
        {"lease_s": 59},
        {"lease_s": 86_401},
        {"min_model_version": 2**63},
        {"mrenclave": [], "signers": []},
        {"tcb_statuses": []},
        {"tcb_statuses": ["UpToDate", "Revoked"]},
        {"tcb_statuses": ["any"]},
        {"tcb_statuses": [""]},
        {"mrenclave": [""]},
        {"mrenclave": ["any"]},
        {"mrenclave": ["*"]},
        {"mrenclave": ["A1" * 32]},
        {"mrenclave": ["00" * 32]},
        {"mrenclave": [MRENCLAVE + "\n"]},
        {"mrenclave": [MRENCLAVE] * 257},
        {"signers": [SignerRule(mrsigner="00" * 32, isvprodid=1)]},
        {"signers": [SignerRule(isvprodid=1)]},
        {"signers": [SignerRule(mrsigner=MRSIGNER, isvprodid=65_536)]},
        {"signers": [SignerRule(mrsigner=MRSIGNER, min_isvsvn=65_536)]},
        {"platforms": {}},
        {"platforms": {"ppid_sha256": [""]}},
        {"platforms": {"ppid_sha256": ["any"]}},
        {"platforms": {"ppid_sha256": ["00" * 32]}},
        {"platforms": {"ppid_sha256": [PLATFORM.upper()]}},
        {"platforms": {"ppid_sha256": [PLATFORM] * 257}},
        {"releases_per_hour": 1_000_001},
        {"signer_set": 2**63},
        {"model_name": ""},
        {"model_name": "../iris"},
    ],
    ids=str,
)
def test_nothing_in_a_policy_means_any(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        parse_policy(good_policy(**change).SerializeToString())


@pytest.mark.parametrize("extra", [b"\x98\x06\x01", b"\xa2\x06\x01x"], ids=["number", "text"])
def test_an_unknown_field_is_refused(extra: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_policy(good_policy().SerializeToString() + extra)


def test_an_unknown_field_in_the_list_of_platforms_is_refused() -> None:
    platforms = Platforms.FromString(Platforms(ppid_sha256=[PLATFORM]).SerializeToString() + b"\x98\x06\x01")
    with pytest.raises(InvalidRequest):
        parse_policy(good_policy(platforms=platforms).SerializeToString())


def test_an_unknown_field_in_a_signer_rule_is_refused() -> None:
    rule = SignerRule.FromString(SignerRule(mrsigner=MRSIGNER).SerializeToString() + b"\x98\x06\x01")
    with pytest.raises(InvalidRequest):
        parse_policy(good_policy(signers=[rule]).SerializeToString())


def test_a_large_policy_is_not_parsed() -> None:
    with pytest.raises(InvalidRequest, match="larger"):
        parse_policy(bytes(64 * 1024 + 1))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_policy_or_refused(raw: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(parse_policy(raw), ReleasePolicy)
