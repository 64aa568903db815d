"""What is displayed of an Attestation Result, which is not verified here."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import pytest

from cloister import ear
from cloister.ear import MAX_TOKEN_BYTES
from cloister.gateway.results import Shown, displayed
from fakes.results import MRENCLAVE, good_result, good_td_result

KEY = ear.SigningKey.generate()


def token(payload: object) -> str:
    return "e30." + urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=") + ".c2ln"


def test_what_the_token_says() -> None:
    assert displayed(ear.issue(good_result(), KEY)) == Shown("sgx", MRENCLAVE, "", "UpToDate")


def test_what_it_says_of_a_trust_domain() -> None:
    result = good_td_result()
    assert displayed(ear.issue(result, KEY)) == Shown("tdx", "", result.measurement, "UpToDate")


@pytest.mark.parametrize(
    "unreadable",
    [
        "",
        "a",
        "a.b",
        "a.!!!!.c",
        "a..c",
        "é.é.é",
        token([]),
        token({}),
        token({"cloister": 1}),
        token({"cloister": {"mrenclave": "ab" * 32, "tcb_status": "x"}}),
        "." + "A" * (MAX_TOKEN_BYTES + 1),
    ],
)
def test_what_cannot_be_read_is_shown_as_nothing(unreadable: str) -> None:
    assert displayed(unreadable) == Shown()
