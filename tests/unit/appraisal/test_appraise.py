"""Evidence of a simulated attester: believed when whole, refused with the right step when one thing is broken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.appraise import Appraisal, Evidence, Expected, appraise
from cloister.appraisal.body import Tee
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.appraisal.reference import ReferenceValue
from cloister.errors import EvidenceRejected
from cloister_simulator.platform import Platform
from fakes.sim import SampleEvidence, good_evidence


@pytest.fixture
def good(sim: Platform) -> SampleEvidence:
    return good_evidence(platform=sim)


def evidence_of(sample: SampleEvidence) -> Evidence:
    return Evidence(raw_quote=sample.quote, claims_bytes=sample.claims_bytes)


def everything(sample: SampleEvidence) -> Expected:
    claims = sample.claims
    return Expected(
        nonce=claims.nonce,
        audience=claims.audience,
        cluster=claims.cluster,
        role=claims.role,
        spiffe_id=claims.spiffe_id,
        instance=claims.instance,
        tls_spki_sha256=claims.tls_spki_sha256,
        hpke_suite=claims.hpke_suite,
        hpke_public=claims.hpke_public,
        receipt_key=claims.receipt_key,
        config_digest=claims.config_digest,
    )


Judge = Callable[..., Appraisal]


@pytest.fixture
def judge(anchor: TrustAnchor, now: datetime) -> Judge:
    def act(
        sample: SampleEvidence,
        *,
        evidence: Evidence | None = None,
        expect: Expected | None = None,
        policy: Policy | None = None,
        under: TrustAnchor = anchor,
        at: datetime = now,
    ) -> Appraisal:
        return appraise(
            evidence or evidence_of(sample),
            Collateral.parse(sample.collateral),
            policy or Policy.default(),
            under,
            at,
            expect=expect or everything(sample),
        )

    return act


def rejection(act: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(EvidenceRejected) as refused:
        act()
    return refused.value.step, refused.value.reason


def test_wholly_valid(sim: Platform, good: SampleEvidence, judge: Judge, now: datetime) -> None:
    found = judge(good)
    assert found.claims == good.claims
    assert (found.tee, found.mrenclave, found.mrsigner) == (Tee.SGX, sim.mrenclave, sim.mrsigner)
    assert (found.tcb_status, found.advisory_ids, found.tcb_evaluation) == ("UpToDate", (), sim.tcb_evaluation)
    assert (found.anchor, found.simulated, found.hardware) == ("simulator", True, 96)
    assert (found.executables, found.configuration) == (0, 0)
    assert found.ppid_sha256 == hashlib.sha256(sim.ppid).digest()
    assert found.platform_instance_id == sim.platform_instance_id
    assert found.collateral_sha256 == hashlib.sha256(good.collateral).digest()
    assert found.collateral_valid_until == sim.window.next_update
    assert (found.policy_id, found.policy_digest) == ("default", Policy.default().digest)
    assert (found.debug, found.appraised_at) == (False, now)


def test_pure(good: SampleEvidence, judge: Judge) -> None:
    assert judge(good) == judge(good)


def test_a_pinned_measurement_affirms_code_but_never_simulated_hardware(
    sim: Platform, good: SampleEvidence, judge: Judge
) -> None:
    by_measurement = Policy(reference_values=(ReferenceValue(mrenclave=sim.mrenclave),))
    found = judge(good, policy=by_measurement)
    assert (found.hardware, found.executables, found.configuration) == (96, 2, 2)
    signer = ReferenceValue(mrsigner=sim.mrsigner, isvprodid=sim.isvprodid, minimum_isvsvn=0)
    by_signer = Policy(reference_values=(signer,))
    assert judge(good, policy=by_signer).configuration == 2
    unconfigured = replace(everything(good), config_digest=None)
    assert judge(good, policy=by_signer, expect=unconfigured).configuration == 0


def test_what_is_not_expected_is_not_compared(good: SampleEvidence, judge: Judge) -> None:
    assert judge(good, expect=Expected()).claims == good.claims


@pytest.mark.attack("D05")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonce", bytes(32)),
        ("audience", "spiffe://demo.cloister.internal/verifier/two"),
        ("cluster", "other.cloister.internal"),
        ("role", "gateway"),
        ("spiffe_id", "spiffe://demo.cloister.internal/worker/other"),
        ("instance", "0" * 32),
        ("tls_spki_sha256", bytes(32)),
        ("hpke_suite", "x25519"),
        ("hpke_public", bytes(32)),
        ("receipt_key", bytes(32)),
        ("config_digest", b"\x01" * 32),
    ],
)
def test_claims_that_say_something_else(good: SampleEvidence, judge: Judge, name: str, value: object) -> None:
    expect = replace(everything(good), **{name: value})  # type: ignore[arg-type]  # each case names a field
    assert rejection(lambda: judge(good, expect=expect)) == (5, f"claims.{name}_mismatched")


def test_another_technology(good: SampleEvidence, judge: Judge) -> None:
    expect = replace(everything(good), tee=Tee.TDX)
    assert rejection(lambda: judge(good, expect=expect)) == (5, "tee.unexpected")


@pytest.mark.attack("D03")
def test_claims_of_another(sim: Platform, good: SampleEvidence, judge: Judge) -> None:
    other = good_evidence(platform=sim)
    mixed = Evidence(raw_quote=good.quote, claims_bytes=other.claims_bytes)
    assert rejection(lambda: judge(good, evidence=mixed)) == (5, "claims.unbound")


@pytest.mark.attack("D12")
def test_report_data_with_more_than_the_claims(sim: Platform, good: SampleEvidence, judge: Judge) -> None:
    digest = hashlib.sha256(good.claims_bytes).digest()
    longer = Evidence(raw_quote=sim.quote(digest + bytes(31) + b"\x01"), claims_bytes=good.claims_bytes)
    assert rejection(lambda: judge(good, evidence=longer)) == (5, "claims.unbound")


@pytest.mark.attack("D04")
def test_claims_in_another_form(sim: Platform, good: SampleEvidence, judge: Judge) -> None:
    for claims_bytes in (b"", b"\xa0", good.claims_bytes + b"\x00", good.claims_bytes[:-1]):
        quote = sim.quote(hashlib.sha256(claims_bytes).digest() + bytes(32))
        evidence = Evidence(raw_quote=quote, claims_bytes=claims_bytes)
        assert rejection(lambda evidence=evidence: judge(good, evidence=evidence)) == (5, "claims.malformed")


@pytest.mark.parametrize(
    ("name", "value", "step", "reason"),
    [
        ("quote_version", 2, 1, "quote.unsupported"),
        ("qe_vendor_id", bytes(16), 1, "qe_vendor.unknown"),
        ("certification_type", 1, 1, "pck_chain.missing"),
        ("revoked", {"pck"}, 2, "certificate.revoked"),
        ("qe_isvprodid", 9, 3, "qe_identity.mismatched"),
        ("tcb_info_pcesvn", 14, 6, "tcb.level_missing"),
        ("tcb_level", "Revoked", 6, "tcb.revoked"),
        ("tcb_level", "OutOfDate", 7, "tcb_status.refused"),
        ("debug", True, 7, "enclave.debug"),
    ],
)
def test_every_step_objects(sim: Platform, judge: Judge, name: str, value: object, step: int, reason: str) -> None:
    setattr(sim, name, value)
    broken = good_evidence(platform=sim)
    assert rejection(lambda: judge(broken)) == (step, reason)


def test_a_broken_signature(good: SampleEvidence, judge: Judge) -> None:
    at = 436 + 10
    raw = good.quote[:at] + bytes([good.quote[at] ^ 1]) + good.quote[at + 1 :]
    broken = Evidence(raw_quote=raw, claims_bytes=good.claims_bytes)
    assert rejection(lambda: judge(good, evidence=broken)) == (4, "quote.signature_broken")


def test_simulated_evidence_under_intels_root(good: SampleEvidence, judge: Judge) -> None:
    assert rejection(lambda: judge(good, under=INTEL_SGX))[0] == 2


def test_late(good: SampleEvidence, judge: Judge, now: datetime) -> None:
    assert rejection(lambda: judge(good, at=now + timedelta(days=31)))[0] == 2


def test_padding_that_the_policy_allows_is_taken_off_for_both_verifiers(good: SampleEvidence, judge: Judge) -> None:
    padded = Evidence(raw_quote=good.quote + bytes(70), claims_bytes=good.claims_bytes)
    assert rejection(lambda: judge(good, evidence=padded)) == (7, "quote.padded")
    assert judge(good, evidence=padded, policy=Policy(allow_zero_padding=True)) == replace(
        judge(good), policy_digest=Policy(allow_zero_padding=True).digest
    )


def test_rejections_say_nothing_secret(good: SampleEvidence, judge: Judge) -> None:
    with pytest.raises(EvidenceRejected) as refused:
        judge(good, expect=replace(everything(good), nonce=bytes(32)))
    assert good.claims.nonce.hex() not in str(refused.value)
    assert "raw_quote" not in repr(evidence_of(good))
