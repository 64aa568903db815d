"""SPIFFE ids: one spelling, three parts, roles we know."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest
from cloister.rpc.spiffe import ROLES, SpiffeId, check_cluster, server_name, spiffe_id


@given(role=st.sampled_from(sorted(ROLES)), name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True))
def test_what_is_put_together_comes_apart(role: str, name: str) -> None:
    made = spiffe_id("demo.cloister.internal", role, name)
    assert SpiffeId.parse(str(made)) == made


@given(st.text(max_size=100))
def test_any_text_is_an_id_or_refused(text: str) -> None:
    with suppress(InvalidRequest):
        assert str(SpiffeId.parse(text)) == text


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://demo.internal/gateway",
        "spiffe://demo.internal/gateway/a/b",
        "spiffe://demo.internal/gateway/",
        "spiffe://demo.internal/king/a",
        "spiffe://demo.internal/Gateway/a",
        "spiffe://DEMO.internal/gateway/a",
        "spiffe://demo.internal:443/gateway/a",
        "spiffe://user@demo.internal/gateway/a",
        "spiffe://demo.internal/gateway/a?b",
        "spiffe://demo.internal/gateway/a#b",
        "spiffe://demo.internal/gateway/a%2fb",
        "spiffe://demo.internal/gateway/a..b",
        "spiffe://demo.internal/gateway/a\n",
        "spiffe://demo/gateway/a",
        "spiffe://-demo.internal/gateway/a",
        "SPIFFE://demo.internal/gateway/a",
        "https://demo.internal/gateway/a",
        "spiffe:/demo.internal/gateway/a",
        "",
    ],
)
def test_what_is_not_an_id_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest):
        SpiffeId.parse(uri)


@pytest.mark.parametrize("cluster", ["demo", "", ".", "a..b", "a.b.", ".a.b", "a_b.c", "x" * 64 + ".a", "é.internal"])
def test_a_cluster_is_a_domain_name(cluster: str) -> None:
    with pytest.raises(InvalidRequest):
        check_cluster(cluster)


def test_server_names() -> None:
    assert server_name("demo.internal", "verifier") == "verifier.demo.internal"
    assert server_name("demo.internal", "worker", "ab") == "ab.worker.demo.internal"
