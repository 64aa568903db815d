"""Trust domains of every body, judged by both verifiers: neither is right alone, so they must find the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.appraisal import second
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.body import TdReport
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.appraisal.verify import verify_quote
from cloister.errors import EvidenceRejected
from cloister_simulator.platform import Platform
from fakes.sim import library_verdict, simulated_platform
from fakes.trust_domain import Level, Module, TrustDomain, td_collateral, td_quote

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
BEST = bytes([3, 0, 4]) + bytes(13)
CURRENT = bytes([6, 1, 4]) + bytes(13)
MODULE = Module(version=1, levels=((6, "UpToDate", ()), (2, "OutOfDate", ("MODULE",)), (1, "Revoked", ())))
LEVELS = (Level(tdx=BEST, status="UpToDate"), Level(tdx=bytes(16), status="OutOfDate", advisories=("PLATFORM",)))


def outcome(sim: Platform, quote: bytes, collateral: bytes) -> tuple[str, tuple[str, ...]] | None:
    """Status and advisories by ours; None for a rejection."""
    try:
        found = verify_quote(quote, Collateral.parse(collateral), TrustAnchor("simulator", sim.root_der()), NOW)
    except EvidenceRejected:
        return None
    return found.tcb.status.value, found.tcb.advisory_ids


def their_outcome(sim: Platform, quote: bytes, collateral: bytes) -> tuple[str, tuple[str, ...]] | None:
    """The same by dcap-qvl."""
    try:
        status, advisories = library_verdict(sim, quote=quote, collateral=collateral, now=NOW)
    except ValueError:
        return None
    return status, tuple(sorted(set(advisories)))


@pytest.mark.parametrize(
    ("version", "domain", "hashes"),
    [
        (4, TrustDomain(tee_tcb_svn=CURRENT), 0),
        (5, TrustDomain(tee_tcb_svn=CURRENT), 0),
        (5, TrustDomain(tee_tcb_svn=CURRENT, tee_tcb_svn2=CURRENT), 1),
        (5, TrustDomain(tee_tcb_svn=CURRENT, tee_tcb_svn2=CURRENT, extended=True), 5),
    ],
)
def test_each_body(sim: Platform, anchor: TrustAnchor, version: int, domain: TrustDomain, hashes: int) -> None:
    collateral = td_collateral(sim, LEVELS, (MODULE,))
    found = verify_quote(td_quote(sim, domain, version=version), Collateral.parse(collateral), anchor, NOW)
    assert (found.tcb.status, found.tcb.advisory_ids) == ("UpToDate", ())
    assert isinstance(found.quote.body, TdReport)
    assert len(found.quote.body.service_td_hashes) == hashes
    Policy.default().evaluate(found, NOW)
    second.confirm(found, NOW)


@pytest.mark.attack("B13")
def test_a_domain_that_ran_through_an_update(sim: Platform, anchor: TrustAnchor) -> None:
    domain = TrustDomain(tee_tcb_svn=bytes([5, 1, 4]) + bytes(13), tee_tcb_svn2=CURRENT)
    quote, collateral = td_quote(sim, domain), td_collateral(sim, LEVELS, (MODULE,))
    found = ("TDRelaunchAdvised", ("MODULE",))
    assert outcome(sim, quote, collateral) == their_outcome(sim, quote, collateral) == found
    with pytest.raises(EvidenceRejected, match="TDRelaunchAdvised is not accepted"):
        Policy.default().evaluate(verify_quote(quote, Collateral.parse(collateral), anchor, NOW), NOW)


@pytest.mark.parametrize("bit", [16, 27, 30, 31, 63])
def test_what_a_domain_may_use_is_accepted_by_both(sim: Platform, anchor: TrustAnchor, bit: int) -> None:
    domain = TrustDomain(tee_tcb_svn=CURRENT, attributes=1 << 28 | 1 << bit)
    collateral = Collateral.parse(td_collateral(sim, LEVELS, (MODULE,)))
    found = verify_quote(td_quote(sim, domain, version=4), collateral, anchor, NOW)
    Policy.default().evaluate(found, NOW)
    second.confirm(found, NOW)


def svns() -> st.SearchStrategy[bytes]:
    return st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 1, 1, 1, 3]), st.integers(0, 3)).map(
        lambda svn: bytes(svn) + bytes(13)
    )


STATUSES = st.sampled_from(
    [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
    ]
)
ADVISORIES = st.lists(st.sampled_from(["INTEL-SA-1", "INTEL-SA-2", "INTEL-SA-3"]), max_size=2, unique=True)
SGX = st.sampled_from([bytes(16), bytes([12] * 2) + bytes(14), bytes([13]) + bytes(15)])  # the platform has 12
ROW = st.builds(Level, tdx=svns(), status=STATUSES, advisories=ADVISORIES, sgx=SGX, pcesvn=st.sampled_from([0, 13, 14]))
FLOOR = st.builds(Level, tdx=st.just(bytes(16)), status=STATUSES)  # reached by everybody
ROWS = st.builds(lambda rows, floor: rows + floor, st.lists(ROW, min_size=1, max_size=4), st.lists(FLOOR, max_size=1))
IDENTITY_ROW = st.tuples(st.sampled_from(["UpToDate", "UpToDate", "OutOfDate", "OutOfDate", "Revoked"]), ADVISORIES)
IDENTITIES = st.dictionaries(st.integers(0, 3) | st.just(0), IDENTITY_ROW, min_size=1, max_size=3).map(
    lambda rows: tuple((isvsvn, *rows[isvsvn]) for isvsvn in sorted(rows, reverse=True))
)
MODULES = st.dictionaries(st.sampled_from([1, 1, 1, 3]), IDENTITIES, max_size=2).map(
    lambda modules: tuple(Module(version=version, levels=levels) for version, levels in modules.items())
)
DOMAINS = st.builds(TrustDomain, tee_tcb_svn=svns(), tee_tcb_svn2=st.none() | svns(), extended=st.booleans())


@settings(deadline=None, max_examples=200)
@given(DOMAINS, ROWS, MODULES, st.sampled_from([8, 8, 5, 1, 0]))
def test_both_find_the_same_of_any_domain(
    domain: TrustDomain, levels: list[Level], modules: tuple[Module, ...], qe_isvsvn: int
) -> None:
    sim = simulated_platform(NOW)
    sim.qe_isvsvn = qe_isvsvn
    arguments = sim, td_quote(sim, domain), td_collateral(sim, levels, modules)
    assert outcome(*arguments) == their_outcome(*arguments)
