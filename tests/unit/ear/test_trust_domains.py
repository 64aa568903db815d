"""Attestation Results about trust domains: what they say in the place of an enclave's four members."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloister import ear
from cloister.ear import KeySet, SigningKey
from cloister.ear.result import from_claims, to_claims
from cloister.errors import EvidenceRejected
from fakes.results import MRENCLAVE, NOW, TD, VERIFIER, good_result, good_td_result

KEY = SigningKey.generate()
KEYS = KeySet.from_jwks(json.dumps({"keys": [KEY.jwk()]}))


def claims(**own: Any) -> Any:
    """The claims of a good Result with other members of its own; None takes one away."""
    found = to_claims(good_td_result())
    said = {**found["cloister"], **own}  # type: ignore[dict-item]  # an object, as written above
    return {**found, "cloister": {name: value for name, value in said.items() if value is not None}}


def td(**changes: Any) -> Any:
    said = {**claims()["cloister"]["td"], **changes}
    return {name: value for name, value in said.items() if value is not None}


def test_a_result_comes_back_as_it_was_issued() -> None:
    result = good_td_result()
    token = ear.issue(result, KEY)
    found = ear.check(token, KEYS, issuer=VERIFIER, audience="provisioner", now=NOW, max_life=timedelta(minutes=5))
    assert found == result
    assert (found.td, found.measurement) == (TD, TD.digest.hex())
    assert len(token) < ear.MAX_TOKEN_BYTES


def test_the_measurement_of_an_enclave_is_mrenclave() -> None:
    assert good_result().measurement == MRENCLAVE


@pytest.mark.parametrize(
    "own",
    [
        {"tee": "sgx"},
        {"tee": "sev"},
        {"tee": 7},
        {"tee": None},
        {"td": None},
        {"td": 1},
        {"mrenclave": MRENCLAVE},
        {"td": None, "mrenclave": MRENCLAVE, "mrsigner": MRENCLAVE, "isvprodid": 1, "isvsvn": 1},
        *({"td": td(**{name: None})} for name in td()),
        *({"td": td(**{name: "AB" * 48})} for name in td()),
        *({"td": td(**{name: "ab" * 32})} for name in td()),
        {"td": td(rtmr4="ab" * 48)},
    ],
    ids=str,
)
def test_any_other_member_or_form_is_none_of_the_profile(own: dict[str, Any]) -> None:
    from_claims(claims())
    with pytest.raises(ValueError, match=r"not |neither "):
        from_claims(claims(**own))


@pytest.mark.parametrize(
    "changes", [{"td": None}, {"tee": "sgx"}, {"mrenclave": MRENCLAVE}, {"mrsigner": MRENCLAVE}, {"isvsvn": 1}], ids=str
)
def test_a_result_that_mixes_both_is_never_issued(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not |neither "):
        ear.issue(replace(good_td_result(), **changes), KEY)


def test_what_is_shown_of_a_token_that_nobody_checked() -> None:
    assert ear.unverified(ear.issue(good_td_result(), KEY)).td == TD
    with pytest.raises(EvidenceRejected):
        ear.unverified("e30.e30.e30")
