"""Whether what a platform gave is the quote that it was asked for, of every version, and of real machines."""

from __future__ import annotations

from functools import cache

import pytest

from cloister.appraisal.quote import parse_quote
from cloister.errors import NotReady
from cloister.evidence.quoted import MAX_QUOTE_BYTES, SGX, TDX, Technology, check_quoted
from cloister_simulator.trust_domain import TrustDomain
from fakes import corpus
from fakes.sim import simulated_platform

REPORT_DATA = bytes(range(64))
RUNNING = bytes([5, 1, 7]) + bytes(13)
KINDS = ("sgx 3", "tdx 4", "tdx 5", "tdx 5 of TDX 1.5", "tdx 5 extended")


@cache
def quotes() -> dict[str, tuple[Technology, bytes]]:
    sim = simulated_platform()
    domains = [TrustDomain(), TrustDomain(tee_tcb_svn2=RUNNING), TrustDomain(tee_tcb_svn2=RUNNING, extended=True)]
    fives = [(TDX, sim.td_quote(REPORT_DATA, domain, version=5)) for domain in domains]
    four = (TDX, sim.td_quote(REPORT_DATA, version=4))
    return dict(zip(KINDS, [(SGX, sim.quote(REPORT_DATA)), four, *fives], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_quote_that_was_asked_for_and_no_other(kind: str) -> None:
    technology, quote = quotes()[kind]
    check_quoted(quote, technology, REPORT_DATA)
    for n in range(64):
        other = bytearray(REPORT_DATA)
        other[n] ^= 1
        with pytest.raises(NotReady, match="other report data") as refused:
            check_quoted(quote, technology, bytes(other))
        assert refused.value.reason == "quote.mismatched"
    with pytest.raises(NotReady, match="something else than a quote"):
        check_quoted(quote, SGX if technology is TDX else TDX, REPORT_DATA)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"\x04", "something else"),
        (b"no quote at all", "something else"),
        (b"\x04\x00\x02\x00\x81\x00\x00\x00", "other report data"),
        (bytes(MAX_QUOTE_BYTES + 1), "more bytes"),
    ],
)
def test_what_is_no_quote(raw: bytes, says: str) -> None:
    with pytest.raises(NotReady, match=says):
        check_quoted(raw, TDX, REPORT_DATA)


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
@pytest.mark.parametrize(
    "name", ["sgx-swhn-01:valid", "tdx4-utd-01:valid", "tdx5-relaunch-01b:valid", "tdx5-td15ex-01:valid"]
)
def test_quotes_of_real_machines(name: str) -> None:
    quote, technology = corpus.evaluation(name).quote.read_bytes(), SGX if name.startswith("sgx") else TDX
    check_quoted(quote, technology, parse_quote(quote).body.report_data)
    with pytest.raises(NotReady, match="other report data"):
        check_quoted(quote, technology, REPORT_DATA)
