"""Whether what the kernel gave is the TDX quote that it was asked for, of every version, and of real machines."""

from __future__ import annotations

from functools import cache

import pytest

from cloister.appraisal.quote import parse_quote
from cloister.errors import NotReady
from cloister.evidence.td_quote import check_quoted
from cloister_simulator.trust_domain import TrustDomain
from fakes import corpus
from fakes.sim import simulated_platform

REPORT_DATA = bytes(range(64))
RUNNING = bytes([5, 1, 7]) + bytes(13)
KINDS = ("4", "5", "5 of TDX 1.5", "5 extended")


@cache
def quotes() -> dict[str, bytes]:
    sim = simulated_platform()
    domains = [TrustDomain(), TrustDomain(tee_tcb_svn2=RUNNING), TrustDomain(tee_tcb_svn2=RUNNING, extended=True)]
    fives = [sim.td_quote(REPORT_DATA, domain, version=5) for domain in domains]
    return dict(zip(KINDS, [sim.td_quote(REPORT_DATA, version=4), *fives], strict=True))


def reason(raw: bytes, report_data: bytes = REPORT_DATA) -> str:
    with pytest.raises(NotReady) as refused:
        check_quoted(raw, report_data)
    return refused.value.reason


@pytest.mark.parametrize("kind", KINDS)
def test_the_quote_that_was_asked_for_and_no_other(kind: str) -> None:
    quote = quotes()[kind]
    check_quoted(quote, REPORT_DATA)
    for n in range(64):
        other = bytearray(REPORT_DATA)
        other[n] ^= 1
        assert reason(quote, bytes(other)) == "quote.substituted"


def test_the_quote_of_an_enclave_is_none() -> None:
    assert reason(simulated_platform().quote(REPORT_DATA)) == "quote.malformed"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "quote.malformed"),
        (b"\x04", "quote.malformed"),
        (b"no quote at all", "quote.malformed"),
        (b"\x06\x00\x02\x00\x81\x00\x00\x00", "quote.malformed"),
        (b"\x04\x00\x02\x00\x81\x00\x00\x00", "quote.substituted"),
    ],
)
def test_what_is_no_quote(raw: bytes, says: str) -> None:
    assert reason(raw) == says


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
@pytest.mark.parametrize("name", ["tdx4-utd-01:valid", "tdx5-relaunch-01b:valid", "tdx5-td15ex-01:valid"])
def test_quotes_of_real_machines(name: str) -> None:
    quote = corpus.evaluation(name).quote.read_bytes()
    check_quoted(quote, parse_quote(quote).body.report_data)
    assert reason(quote) == "quote.substituted"
