"""Trust domains as members of a mesh: let in where the policy names them, and refused by one thing each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloister.appraisal.appraise import Evidence, Expected, appraise
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.appraisal.reference import ReferenceValue, TdReferenceValue
from cloister.errors import EvidenceRejected
from cloister.kit.revocation import Kind, Name, names_of, names_told
from cloister.verifier import judge_frames
from cloister.verifier.nonces import Purpose
from cloister_simulator.recipe import label_register
from cloister_simulator.trust_domain import DEBUG, MIGRATABLE, SEPT_VE_DISABLE, TrustDomain
from fakes.sim import ENCLAVE
from fakes.verifier_desk import VerifierDesk, enrol_peer, submission, verifier_desk, worker_peer

DOMAIN = TrustDomain()
OTHER = label_register("another one")
WANTED = TdReferenceValue(mrtd=DOMAIN.mrtd, rtmrs=DOMAIN.rtmrs)
DOMAINS = Policy(policy_id="domains", td_reference_values=(WANTED,))
BOTH = replace(DOMAINS, policy_id="both", reference_values=(ReferenceValue(mrenclave=ENCLAVE.mrenclave),))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[VerifierDesk]:
    with verifier_desk(tmp_path, with_tdx=True, policy=BOTH) as made:
        yield made


async def objection(desk: VerifierDesk, **changes: Any) -> dict[str, Any]:
    """What the record says of evidence that is refused."""
    challenge, evidence = await desk.evidence(**changes)
    with pytest.raises(EvidenceRejected):
        await desk.appraiser.appraise(submission(challenge, evidence), enrol_peer())
    return desk.entries()[-1]


async def test_a_domain_that_the_policy_names_becomes_a_member(desk: VerifierDesk) -> None:
    evidence, issued = await desk.join(domain=DOMAIN)
    result = desk.read(issued, "mesh")
    assert (result.tee, result.td, result.mrenclave) == ("tdx", DOMAIN.measurement, "")
    assert (result.executables, result.configuration, result.hardware) == (3, 0, 96)
    assert result.receipt_key == evidence.claims.receipt_key
    accepted = desk.entries()[-1]
    assert (accepted["event"], accepted["tee"]) == ("evidence.accepted", "tdx")
    assert accepted["td_measurement"] == DOMAIN.measurement.digest.hex()
    assert accepted["mrtd"] == DOMAIN.mrtd.hex()
    assert len(desk.attested) == 1


async def test_enclaves_stay_members_beside_it(desk: VerifierDesk) -> None:
    await desk.join(domain=DOMAIN)
    _, issued = await desk.join()
    assert desk.read(issued, "mesh").mrenclave == ENCLAVE.mrenclave.hex()
    assert len(desk.attested) == 2


async def test_it_gets_a_result_for_a_key_as_any_member(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join(domain=DOMAIN)
    peer = worker_peer(evidence)
    challenge = await desk.challenge(evidence.tls_key, peer, Purpose.KEY_RELEASE)
    claims = evidence.claims
    _, again = await desk.evidence(
        domain=DOMAIN,
        tls_key=evidence.tls_key,
        nonce=challenge.nonce,
        instance=claims.instance,
        hpke_public=claims.hpke_public,
        receipt_key=claims.receipt_key,
    )
    issued = await desk.appraiser.appraise(submission(challenge, again), peer)
    assert desk.read(issued, "provisioner").measurement == DOMAIN.measurement.digest.hex()


@pytest.mark.attack("C02")
@pytest.mark.attack("C09")
@pytest.mark.parametrize(
    ("policy", "step", "reason"),
    [
        (Policy.default(), 5, "tee.unexpected"),
        (replace(BOTH, td_reference_values=()), 5, "tee.unexpected"),
    ],
    ids=["no reference values", "enclaves only"],
)
async def test_a_policy_that_names_no_trust_domain_lets_none_in(
    tmp_path: Path, policy: Policy, step: int, reason: str
) -> None:
    with verifier_desk(tmp_path, with_tdx=True, policy=policy) as desk:
        refused = await objection(desk, domain=DOMAIN)
        assert (refused["step"], refused["reason"]) == (step, reason)
        assert (refused["tee"], refused["td_measurement"]) == ("tdx", DOMAIN.measurement.digest.hex())
        await desk.join()


async def test_a_policy_that_names_trust_domains_only_lets_no_enclave_in(tmp_path: Path) -> None:
    with verifier_desk(tmp_path, with_tdx=True, policy=DOMAINS) as desk:
        refused = await objection(desk)
        assert (refused["step"], refused["reason"]) == (7, "measurement.refused")
        await desk.join(domain=DOMAIN)


@pytest.mark.attack("C01")
@pytest.mark.attack("C02")
@pytest.mark.attack("C09")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mrtd": OTHER}, "measurement.refused"),
        ({"rtmrs": (*DOMAIN.rtmrs[:1], OTHER, *DOMAIN.rtmrs[2:])}, "measurement.refused"),
        ({"rtmrs": (*DOMAIN.rtmrs[:3], OTHER)}, "measurement.refused"),
        ({"mrconfigid": OTHER}, "td_configuration.unpinned"),
        ({"mrowner": OTHER}, "td_configuration.unpinned"),
        ({"attributes": SEPT_VE_DISABLE | 1 << 63}, "td_configuration.unpinned"),
        ({"attributes": SEPT_VE_DISABLE | DEBUG}, "enclave.debug"),
        ({"attributes": SEPT_VE_DISABLE | MIGRATABLE}, "attributes.refused"),
        ({"attributes": 0}, "attributes.refused"),
    ],
    ids=["MRTD", "kernel", "worker", "MRCONFIGID", "owner", "PERFMON", "debug", "migratable", "#VE"],
)
async def test_another_domain_is_refused_by_its_one_thing(
    desk: VerifierDesk, changes: dict[str, Any], reason: str
) -> None:
    refused = await objection(desk, domain=replace(DOMAIN, **changes))
    assert (refused["step"], refused["reason"]) == (7, reason)
    assert len(desk.attested) == 0


@pytest.mark.attack("C09")
async def test_a_domain_under_a_service_domain_is_refused(desk: VerifierDesk) -> None:
    """Only TDX 1.5 says so, in quotes of version 5."""
    desk.platform.td_quote_version = 5
    running = bytes([5, 1, 7]) + bytes(13)
    await desk.join(domain=replace(DOMAIN, tee_tcb_svn2=running))
    refused = await objection(desk, domain=replace(DOMAIN, tee_tcb_svn2=running, service_td=OTHER))
    assert (refused["step"], refused["reason"]) == (7, "attributes.refused")


@pytest.mark.attack("B03")
async def test_a_module_that_intel_does_not_vouch_for_is_refused(desk: VerifierDesk) -> None:
    refused = await objection(desk, domain=replace(DOMAIN, mrsignerseam=OTHER))
    assert (refused["step"], refused["reason"]) == (6, "tdx_module.mismatched")
    refused = await objection(desk, domain=replace(DOMAIN, tee_tcb_svn=bytes([4, 1, 7]) + bytes(13)))
    assert (refused["step"], refused["reason"]) == (6, "tcb.level_missing")


@pytest.mark.attack("E11")
async def test_what_it_can_be_revoked_by(desk: VerifierDesk) -> None:
    evidence, issued = await desk.join(domain=DOMAIN)
    result = desk.read(issued, "mesh")
    measured = Name(Kind.MEASUREMENT, DOMAIN.measurement.digest.hex())
    found = names_of(result)
    assert [name.kind for name in found] == [Kind.MEASUREMENT, Kind.PLATFORM, Kind.INSTANCE]
    assert found[0] == measured
    assert names_told(evidence.claims.instance, issued.attestation_result) == found
    await desk.revoker.revoke(measured, reason="a hole in its kernel", by="spiffe://x/operator/a")
    assert len(desk.attested) == 0
    refused = await objection(desk, domain=DOMAIN)
    assert refused["reason"] == "measurement.revoked"
    await desk.join()


async def test_judging_processes_say_all_of_a_trust_domain(desk: VerifierDesk) -> None:
    _, evidence = await desk.evidence(domain=DOMAIN)
    presented = Evidence(raw_quote=evidence.quote, claims_bytes=evidence.claims_bytes)
    expect = Expected(tee=DOMAINS.tee)
    collateral = Collateral.parse(evidence.collateral)
    found = appraise(presented, collateral, DOMAINS, desk.anchor, desk.now(), expect=expect)
    told = judge_frames.encode(judge_frames.Answer(appraisal=found))[judge_frames.LENGTH_BYTES :]
    assert judge_frames.decode(told, judge_frames.Answer).appraisal == found
    asked = judge_frames.Question(
        quote=evidence.quote,
        claims=evidence.claims_bytes,
        expect=expect,
        now=desk.now(),
        collateral_sha256=bytes(32),
        policy_digest=bytes(32),
        policy=BOTH,
    )
    told = judge_frames.encode(asked)[judge_frames.LENGTH_BYTES :]
    assert judge_frames.decode(told, judge_frames.Question) == asked


async def test_a_policy_that_names_it_no_more_puts_it_out(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join(domain=DOMAIN)
    await desk.join()
    held = desk.policies.document
    assert held is not None
    desk.policies.put(replace(held, policy=replace(BOTH, version=2, td_reference_values=())))
    review = await desk.standing.review("policy")
    assert [(fallen.instance, fallen.reason) for fallen in review.fallen] == [
        (evidence.claims.instance, "tee.unexpected")
    ]
    assert review.stood == 1
