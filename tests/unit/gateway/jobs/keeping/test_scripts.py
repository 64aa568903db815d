"""What scripts call is what the gateway's user may call, and what they answer is taken apart or refused."""

from __future__ import annotations

import re
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import Unavailable
from cloister.gateway.jobs import access
from cloister.gateway.jobs.keeping import claim_scripts, end_scripts, scripts, submit_scripts, view_scripts
from cloister.gateway.jobs.keeping.shelf import rows, texts

BY_THEMSELVES = {"ping", "info", "mget", "xread", "acl", "command", "cluster", "eval", "evalsha"}


def test_the_gateways_user_may_call_what_scripts_call_and_nothing_else() -> None:
    called: set[str] = set()
    for module in (scripts, submit_scripts, claim_scripts, end_scripts, view_scripts):
        for text in vars(module).values():
            if isinstance(text, str):
                called |= {name.lower() for name in re.findall(r"redis\.p?call\('([A-Z]+)'", text)}
                called |= {name.lower() for name in re.findall(r"size\('([A-Z]+)'", text)}
    allowed = {rule.lstrip("+").partition("|")[0] for rule in access.COMMANDS.split()}
    assert allowed - BY_THEMSELVES == called


def packed(*fields: bytes) -> bytes:
    return b"".join(pack(">I", len(each)) + each for each in fields)


@given(st.lists(st.tuples(st.binary(max_size=50), st.binary(max_size=50))))
def test_what_a_script_packs_is_read_back(content: list[tuple[bytes, bytes]]) -> None:
    assert rows(packed(*(field for row in content for field in row)), 2) == content


@pytest.mark.attack("H04")
@pytest.mark.parametrize(
    "answer",
    [
        None,
        7,
        [],
        "text",
        packed(b"a"),
        packed(b"a", b"b")[:-1],
        packed(b"a", b"b") + b"\0",
        b"\xff\xff\xff\xff",
        b"\0",
    ],
)
def test_an_answer_that_no_script_gives_is_refused(answer: object) -> None:
    with pytest.raises(Unavailable) as refused:
        rows(answer, 2)
    assert refused.value.reason == "state.malformed"


@pytest.mark.attack("H04")
@given(st.binary(max_size=60))
def test_any_answer_is_rows_or_refused(answer: bytes) -> None:
    try:
        found = rows(answer, 3)
    except Unavailable:
        return
    assert packed(*(field for row in found for field in row)) == answer


@pytest.mark.attack("H04")
@pytest.mark.parametrize("answer", [None, 7, b"\xff", "text"])
def test_words_that_no_script_gives_are_refused(answer: object) -> None:
    with pytest.raises(Unavailable):
        texts(answer)
