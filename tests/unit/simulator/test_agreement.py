"""Our own appraisal sees a simulated platform as dcap-qvl does, and objects, with the right step, to all it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.appraise import Appraisal, Evidence, Expected, appraise
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import CONTRAINDICATED, Policy
from cloister.errors import CloisterError, EvidenceRejected
from cloister_simulator.platform import Platform
from fakes.sim import ENCLAVE, SampleEvidence, good_evidence, library_verdict, simulated_platform
from fakes.sim_breaks import BREAKS

NOW = datetime(2026, 11, 22, 12, 30, 15, tzinfo=UTC)


@pytest.fixture
def sim() -> Platform:
    return simulated_platform(NOW)


def judge(sample: SampleEvidence, anchor: TrustAnchor | None = None) -> Appraisal:
    return appraise(
        Evidence(raw_quote=sample.quote, claims_bytes=sample.claims_bytes),
        Collateral.parse(sample.collateral),
        Policy.default(),
        anchor or TrustAnchor("simulator", sample.root_der),
        NOW,
        expect=Expected(nonce=sample.claims.nonce, audience=sample.claims.audience),
    )


def test_good_evidence_is_believed_and_marked_as_simulated(sim: Platform) -> None:
    appraisal = judge(good_evidence(platform=sim))
    assert appraisal.tcb_status == "UpToDate"
    assert appraisal.simulated
    assert appraisal.hardware == CONTRAINDICATED
    assert appraisal.mrenclave == ENCLAVE.mrenclave
    assert (appraisal.isvprodid, appraisal.isvsvn, appraisal.debug) == (ENCLAVE.isvprodid, ENCLAVE.isvsvn, False)
    assert appraisal.platform_instance_id == sim.platform_instance_id
    assert (appraisal.fmspc, appraisal.tcb_evaluation) == (sim.fmspc, sim.tcb_evaluation)


@pytest.mark.attack("C11")
def test_it_is_nothing_under_intels_root(sim: Platform) -> None:
    with pytest.raises(EvidenceRejected) as refusal:
        judge(good_evidence(platform=sim), INTEL_SGX)
    assert refusal.value.step == 2


def test_hardening_advisories_that_the_default_policy_lives_with(sim: Platform) -> None:
    sim.tcb_status, sim.advisory_ids = "SWHardeningNeeded", ("INTEL-SA-00615", "INTEL-SA-00334")
    appraisal = judge(good_evidence(platform=sim))
    assert (appraisal.tcb_status, sorted(appraisal.advisory_ids)) == ("SWHardeningNeeded", sorted(sim.advisory_ids))
    assert library_verdict(sim, now=NOW)[0] == "SWHardeningNeeded"


def test_smt_and_dynamic_platforms_are_accepted(sim: Platform) -> None:
    sim.dynamic_platform = sim.cached_keys = sim.smt_enabled = True
    assert judge(good_evidence(platform=sim)).smt_enabled


@pytest.mark.parametrize("name", BREAKS)
def test_the_step_that_must_object_does(sim: Platform, name: str) -> None:
    broken = BREAKS[name]
    broken.apply(sim, NOW)
    enclave = replace(ENCLAVE, attributes=sim.attributes)
    with pytest.raises(CloisterError) as refusal:
        judge(good_evidence(platform=sim, enclave=enclave))
    assert (getattr(refusal.value, "step", 0), refusal.value.reason) == (broken.step, broken.reason)
