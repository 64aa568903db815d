"""What is displayed of an Attestation Result, which is not verified here."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import pytest

from cloister.ear import MAX_TOKEN_BYTES
from cloister.gateway.results import displayed


def token(payload: object) -> str:
    return "e30." + urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=") + ".c2ln"


def test_what_the_token_says() -> None:
    claims = {"cloister": {"mrenclave": "ab" * 32, "tcb_status": "UpToDate"}}
    assert displayed(token(claims)) == ("ab" * 32, "UpToDate")


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
        token({"cloister": {"mrenclave": 1, "tcb_status": "x"}}),
        "." + "A" * (MAX_TOKEN_BYTES + 1),
    ],
)
def test_what_cannot_be_read_is_shown_as_nothing(unreadable: str) -> None:
    assert displayed(unreadable) == ("", "")
