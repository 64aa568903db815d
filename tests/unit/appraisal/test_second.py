"""The second verifier confirms what it finds the same, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cloister.appraisal import second
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.verify import VerifiedQuote, verify_quote
from cloister.errors import EvidenceRejected
from cloister_simulator.platform import Platform
from cloister_simulator.recipe import Window
from fakes import corpus
from fakes.sim import library_verdict

Verify = Callable[[], VerifiedQuote]


def disagrees(verified: VerifiedQuote, now: datetime) -> None:
    with pytest.raises(EvidenceRejected) as refused:
        second.confirm(verified, now)
    assert (refused.value.step, refused.value.reason) == (8, "verifiers.disagree")
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("status", ["UpToDate", "SWHardeningNeeded", "OutOfDate", "ConfigurationNeeded"])
def test_agreement(sim: Platform, verify: Verify, now: datetime, status: str) -> None:
    sim.tcb_status = status
    sim.advisory_ids = ["INTEL-SA-00615", "INTEL-SA-00334"]
    second.confirm(verify(), now)


def test_another_finding(sim: Platform, verify: Verify, now: datetime) -> None:
    found = verify()
    disagrees(replace(found, tcb=replace(found.tcb, status=TcbStatus.OUT_OF_DATE)), now)
    disagrees(replace(found, tcb=replace(found.tcb, advisory_ids=("INTEL-SA-00615",))), now)
    disagrees(replace(found, platform=replace(found.platform, ppid=bytes(16))), now)


def test_a_rejection_there_is_a_disagreement(sim: Platform, verify: Verify, now: datetime) -> None:
    found = verify()
    disagrees(found, now + timedelta(days=365))
    disagrees(replace(found, quote=replace(found.quote, raw=b"")), now)
    stranger = TrustAnchor("stranger", Platform.generate(now).root_der())
    disagrees(replace(found, endorsed=replace(found.endorsed, anchor=stranger)), now)
    sim.debug = True
    disagrees(verify(), now)


def test_a_component_below_what_it_says_it_is(sim: Platform, verify: Verify, now: datetime) -> None:
    """It measures a platform by CPUSVN, we by the components that CPUSVN stands for; they have to agree."""
    sim.cpusvn = bytes(16)
    disagrees(verify(), now)


@pytest.mark.parametrize(
    ("name", "value", "step"),
    [
        ("tcb_info_signer", "pck", 2),
        ("qe_identity_signer", "pck", 2),
        ("tcb_signing_subject", "Some Other Signer", 2),
        ("platform_ca_subject", "Some Other CA", 2),
        ("pck_subject", "Some Other Leaf", 2),
        ("pck_signer", "root", 2),
        ("tcb_info_pceid", b"\x01\x00", 2),
        ("qe_report_data_padding", b"\x01" * 32, 3),
    ],
)
def test_why_it_is_not_the_only_verifier(
    sim: Platform, verify: Verify, now: datetime, name: str, value: object, step: int
) -> None:
    """What the pinned version accepts and we refuse (docs/decisions/0002-two-verifiers.md)."""
    setattr(sim, name, value)
    assert library_verdict(sim, now=now) == ("UpToDate", [])
    with pytest.raises(EvidenceRejected) as refused:
        verify()
    assert refused.value.step == step


@pytest.mark.parametrize("part", ["root_crl_window", "pck_crl_window"])
def test_it_accepts_revocation_lists_from_the_future(sim: Platform, verify: Verify, now: datetime, part: str) -> None:
    setattr(sim, part, Window(issued_at=now + timedelta(days=1), next_update=now + timedelta(days=30)))
    assert library_verdict(sim, now=now) == ("UpToDate", [])
    with pytest.raises(EvidenceRejected, match="not current"):
        verify()


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
def test_a_chain_beside_the_quote_is_looked_at_by_neither() -> None:
    """dcap-qvl would take a PCK chain from the collateral if it were given one."""
    one = corpus.evaluation("tdx5-td15ex-01:valid")
    collateral = Collateral.parse(one.collateral.read_bytes())
    assert collateral.pck_certificate_chain is not None
    second.confirm(verify_quote(one.quote.read_bytes(), collateral, one.anchor(), one.now), one.now)
    with pytest.raises(EvidenceRejected) as refused:
        verify_quote(
            one.quote.read_bytes(),
            replace(collateral, pck_certificate_chain=collateral.tcb_info_issuer_chain),
            one.anchor(),
            one.now,
        )
    assert refused.value.reason == "chain.ambiguous"
