"""A policy as people hand it around: bare or in an envelope, and whose word it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister import dsse
from cloister.appraisal.policy import Policy
from cloister.appraisal.policy_document import PAYLOAD_TYPE, PolicyDocument
from cloister.errors import InvalidRequest
from cloister.verifier.policy_in_force import Signers
from fakes.policies import SIGNER_KEYS, SIGNERS, policy_toml, signed


def refusal(raw: bytes, trusted: tuple[str, ...] = SIGNER_KEYS, threshold: int = 2) -> str:
    with pytest.raises(InvalidRequest) as refused:
        Signers(keys=trusted, threshold=threshold).read(raw)
    return refused.value.reason


def test_both_forms_hold_the_same_policy() -> None:
    toml = policy_toml(3)
    bare, enveloped = PolicyDocument.read(toml), PolicyDocument.read(signed(toml, 0, 1))
    assert bare.policy == enveloped.policy == Policy.from_toml(toml)
    assert bare.toml == enveloped.toml == toml
    assert (bare.enveloped, enveloped.enveloped) == (False, True)
    assert (bare.signers, enveloped.signers) == (frozenset(), {SIGNER_KEYS[0], SIGNER_KEYS[1]})


@pytest.mark.attack("C08")
def test_enough_of_those_who_may_decide_have_signed() -> None:
    toml = policy_toml(3)
    assert Signers(keys=SIGNER_KEYS, threshold=2).read(signed(toml, 0, 2)).policy.version == 3
    assert refusal(toml) == "policy.unsigned"
    assert refusal(signed(toml, 0)) == "signature.insufficient"
    assert refusal(signed(toml, 0, 1), SIGNER_KEYS[1:]) == "signature.insufficient"


@pytest.mark.attack("C08")
def test_signatures_are_for_this_policy_and_this_purpose() -> None:
    envelope = dsse.sign(policy_toml(3), PAYLOAD_TYPE, SIGNERS[:2])
    other = PolicyDocument.read(signed(policy_toml(4), 0, 1))
    assert other.signers == PolicyDocument.read(envelope).signers
    with pytest.raises(InvalidRequest) as refused:
        PolicyDocument.read(dsse.sign(policy_toml(3), "application/other", SIGNERS[:2]))
    assert refused.value.reason == "signature.malformed"


@pytest.mark.attack("C08")
def test_a_policy_without_a_version_cannot_be_told_from_an_older_one() -> None:
    assert refusal(signed(b'policy_id = "x"', 0, 1)) == "policy.unversioned"


@pytest.mark.attack("C07")
def test_a_signature_makes_no_policy_of_what_is_none() -> None:
    with pytest.raises(InvalidRequest) as refused:
        PolicyDocument.read(signed(policy_toml(3, 'accepted_statuses = "any"'), 0, 1, 2))
    assert refused.value.reason == "policy.malformed"


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda rest: b"{" + rest)))
def test_any_bytes(raw: bytes) -> None:
    try:
        PolicyDocument.read(raw)
    except InvalidRequest as error:
        assert error.reason in {"policy.malformed", "signature.malformed"}  # noqa: PT017  # either outcome is right
