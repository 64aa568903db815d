"""Genuine or not: one thing broken at a time, and the step and reason that must object."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.verify import VerifiedQuote, verify_quote
from cloister.errors import EvidenceRejected
from cloister_simulator.platform import Platform
from cloister_simulator.quote import QuoteParts
from cloister_simulator.recipe import Window
from fakes.sim import simulated_platform

Verify = Callable[[], VerifiedQuote]
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


def rejection(act: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(EvidenceRejected) as refused:
        act()
    return refused.value.step, refused.value.reason


def test_wholly_valid(verify: Verify, sim: Platform) -> None:
    found = verify()
    assert found.tcb.status == "UpToDate"
    assert found.tcb.advisory_ids == ()
    assert found.evaluation == sim.tcb_evaluation
    assert (found.platform.ppid, found.platform.platform_instance_id) == (sim.ppid, sim.platform_instance_id)
    assert (found.platform.fmspc, found.platform.pcesvn) == (sim.fmspc, sim.pcesvn)
    assert found.platform.components == bytes(sim.tcb_components)
    assert (found.platform.dynamic_platform, found.platform.smt_enabled) == (False, False)
    assert found.anchor.simulated


BREAKS: list[tuple[dict[str, object], int, str]] = [
    ({"root_subject": "Some Other Root CA"}, 2, "crl.issuer_mismatched"),
    ({"platform_ca_subject": "Some Other CA"}, 2, "certificate.role_mismatched"),
    ({"tcb_signing_subject": "Some Other Signer"}, 2, "certificate.role_mismatched"),
    ({"pck_subject": "Some Other Leaf"}, 2, "certificate.role_mismatched"),
    ({"platform_ca_is_ca": False}, 2, "chain.broken"),
    ({"platform_ca_not_after": LONG_AGO}, 2, "certificate.expired"),
    ({"tcb_signing_not_after": LONG_AGO}, 2, "certificate.expired"),
    ({"pck_not_after": LONG_AGO}, 2, "certificate.expired"),
    ({"pck_signer": "root"}, 2, "chain.broken"),
    ({"pck_signer": "tcb_signing"}, 2, "certificate.role_mismatched"),
    ({"revoked": {"pck"}}, 2, "certificate.revoked"),
    ({"revoked": {"platform_ca"}}, 2, "certificate.revoked"),
    ({"revoked": {"tcb_signing"}}, 2, "certificate.revoked"),
    ({"root_crl_signer": "platform_ca"}, 2, "crl.signature_broken"),
    ({"pck_crl_signer": "root"}, 2, "crl.signature_broken"),
    ({"tcb_info_signer": "pck"}, 2, "certificate.role_mismatched"),
    ({"tcb_info_signer": "platform_ca"}, 2, "certificate.role_mismatched"),
    ({"qe_identity_signer": "pck"}, 2, "certificate.role_mismatched"),
    ({"tcb_info_fmspc": bytes(6)}, 2, "collateral.mismatched"),
    ({"tcb_info_pceid": b"\x01\x00"}, 2, "collateral.mismatched"),
    ({"qe_report_signer": "platform_ca"}, 3, "qe_report.signature_broken"),
    ({"qe_report_data_padding": bytes(31) + b"\x01"}, 3, "qe_report.data_mismatched"),
    ({"qe_auth_data": b""}, 3, "qe_auth_data.malformed"),
    ({"qe_auth_data": bytes(64)}, 3, "qe_auth_data.malformed"),
    ({"qe_mrsigner": bytes(32)}, 3, "qe_identity.mismatched"),
    ({"qe_isvprodid": 2}, 3, "qe_identity.mismatched"),
    ({"qe_attributes": bytes.fromhex("1700000000000000e700000000000000")}, 3, "qe_identity.mismatched"),
    ({"qe_attributes": bytes.fromhex("0500000000000000e700000000000000")}, 3, "qe_identity.mismatched"),
    ({"qe_isvsvn": 0}, 3, "qe_identity.level_missing"),
    ({"tcb_info_components": (13,) * 16}, 6, "tcb.level_missing"),
    ({"tcb_info_pcesvn": 14}, 6, "tcb.level_missing"),
    ({"tcb_status": "Revoked"}, 6, "tcb.revoked"),
    ({"qe_isvsvn": 1}, 6, "tcb.revoked"),
]


@pytest.mark.parametrize(("changes", "step", "reason"), BREAKS)
def test_one_thing_broken(sim: Platform, verify: Verify, changes: dict[str, object], step: int, reason: str) -> None:
    for name, value in changes.items():
        setattr(sim, name, value)
    assert rejection(verify) == (step, reason)


PARTS = ("tcb_info_window", "qe_identity_window", "root_crl_window", "pck_crl_window")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("offset_s", [0, 1])
def test_expired(sim: Platform, verify: Verify, now: datetime, part: str, offset_s: int) -> None:
    due = now - timedelta(seconds=offset_s)
    setattr(sim, part, Window(issued_at=now - timedelta(days=30), next_update=due))
    assert rejection(verify)[1] in {"collateral.expired", "crl.expired"}


@pytest.mark.parametrize("part", PARTS)
def test_from_the_future(sim: Platform, verify: Verify, now: datetime, part: str) -> None:
    setattr(sim, part, Window(issued_at=now + timedelta(seconds=1), next_update=now + timedelta(days=30)))
    assert rejection(verify)[1] in {"collateral.not_yet_valid", "crl.expired"}


def test_the_smaller_evaluation_number_counts(sim: Platform, verify: Verify) -> None:
    sim.qe_identity_evaluation = 12
    assert verify().evaluation == 12
    sim.qe_identity_evaluation = 30
    assert verify().evaluation == sim.tcb_evaluation


def test_a_quoting_enclave_out_of_date_makes_the_platform_so(sim: Platform, verify: Verify) -> None:
    sim.qe_isvsvn = 5
    found = verify()
    assert (found.tcb.status, found.tcb.advisory_ids) == ("OutOfDate", ("INTEL-SA-99002",))


def test_another_root(sim: Platform, now: datetime) -> None:
    collateral = Collateral.parse(sim.collateral())
    assert rejection(lambda: verify_quote(sim.quote(bytes(64)), collateral, INTEL_SGX, now))[0] == 2
    stranger = Platform.generate(now)
    anchor = TrustAnchor("stranger", stranger.root_der())
    assert rejection(lambda: verify_quote(sim.quote(bytes(64)), collateral, anchor, now))[0] == 2
    theirs = Collateral.parse(stranger.collateral())
    assert rejection(lambda: verify_quote(sim.quote(bytes(64)), theirs, anchor, now)) == (2, "anchor.untrusted")


def sign_with_stranger(parts: QuoteParts) -> None:
    parts.report_signing_key = ec.generate_private_key(ec.SECP256R1())


def replace_attestation_key(parts: QuoteParts) -> None:
    parts.attestation_key = parts.report_signing_key = ec.generate_private_key(ec.SECP256R1())


def test_signed_by_another_key(sim: Platform, anchor: TrustAnchor, now: datetime) -> None:
    collateral = Collateral.parse(sim.collateral())
    for change, wanted in (
        (sign_with_stranger, (4, "quote.signature_broken")),
        (replace_attestation_key, (3, "qe_report.data_mismatched")),
    ):
        raw = sim.quote(bytes(64), mutate=change)
        assert rejection(lambda raw=raw: verify_quote(raw, collateral, anchor, now)) == wanted


def test_verified_collateral_is_for_its_anchor_and_its_time(sim: Platform, anchor: TrustAnchor, now: datetime) -> None:
    endorsed = Collateral.parse(sim.collateral()).verified(anchor, now)
    raw = sim.quote(bytes(64))
    until = endorsed.valid_until
    assert until == sim.window.next_update
    assert endorsed.valid_from == sim.window.issued_at
    assert verify_quote(raw, endorsed, anchor, until - timedelta(seconds=1)).endorsed is endorsed
    assert rejection(lambda: verify_quote(raw, endorsed, anchor, until)) == (2, "collateral.expired")
    early = endorsed.valid_from - timedelta(seconds=1)
    assert rejection(lambda: verify_quote(raw, endorsed, anchor, early)) == (2, "collateral.not_yet_valid")
    assert rejection(lambda: verify_quote(raw, endorsed, INTEL_SGX, now)) == (2, "anchor.untrusted")


def test_a_platform_under_the_processor_ca(now: datetime) -> None:
    sim = simulated_platform(now)
    sim.platform_ca_subject = "Intel SGX PCK Processor CA"
    anchor = TrustAnchor("simulator", sim.root_der())
    assert verify_quote(sim.quote(bytes(64)), Collateral.parse(sim.collateral()), anchor, now).tcb.status == "UpToDate"


def test_collateral_of_the_other_pck_ca(sim: Platform, anchor: TrustAnchor, now: datetime) -> None:
    collateral = Collateral.parse(sim.collateral())
    sim.platform_ca_subject = "Intel SGX PCK Processor CA"
    raw = sim.quote(bytes(64))
    assert rejection(lambda: verify_quote(raw, collateral, anchor, now)) == (2, "crl.issuer_mismatched")


def test_the_same_pck_ca_certified_twice(sim: Platform, anchor: TrustAnchor, now: datetime) -> None:
    collateral = Collateral.parse(sim.collateral())
    sim.platform_ca_not_after = now + timedelta(days=400)
    assert verify_quote(sim.quote(bytes(64)), collateral, anchor, now).tcb.status == "UpToDate"
    sim.platform_ca_not_after = now - timedelta(seconds=1)
    raw = sim.quote(bytes(64))
    assert rejection(lambda: verify_quote(raw, collateral, anchor, now)) == (2, "certificate.expired")


def test_a_quoting_enclave_with_unknown_miscselect(sim: Platform, anchor: TrustAnchor, now: datetime) -> None:
    def change(parts: QuoteParts) -> None:
        parts.qe_report.misc_select = 1

    raw = sim.quote(bytes(64), mutate=change)
    collateral = Collateral.parse(sim.collateral())
    assert rejection(lambda: verify_quote(raw, collateral, anchor, now)) == (3, "qe_identity.mismatched")


def reordered(sim: Platform, order: tuple[int, ...]) -> bytes:
    """A quote of `sim` whose chain holds these of its certificates; 0 is the leaf, 1 the CA and 2 the root."""

    def change(parts: QuoteParts) -> None:
        blocks = re.findall(rb"-----BEGIN.*?-----END CERTIFICATE-----\n", parts.certification_data, re.DOTALL)
        parts.certification_data = b"".join(blocks[n] for n in order)

    return sim.quote(bytes(64), mutate=change)


def test_ca_and_root_in_either_order(sim: Platform, anchor: TrustAnchor, now: datetime) -> None:
    collateral = Collateral.parse(sim.collateral())
    for order in ((0, 1, 2), (0, 2, 1)):
        assert verify_quote(reordered(sim, order), collateral, anchor, now).tcb.status == "UpToDate"


@pytest.mark.attack("A15")
@pytest.mark.parametrize(
    "order", [(2, 1, 0), (1, 0, 2), (1, 2, 0), (2, 0, 1), (0, 1), (0, 2), (0, 1, 1), (0, 2, 2), (0, 0, 2), (0, 1, 2, 1)]
)
def test_chains_of_another_shape(sim: Platform, anchor: TrustAnchor, now: datetime, order: tuple[int, ...]) -> None:
    collateral = Collateral.parse(sim.collateral())
    raw = reordered(sim, order)
    step, reason = rejection(lambda: verify_quote(raw, collateral, anchor, now))
    assert step == 2
    assert reason in {"anchor.untrusted", "certificate.role_mismatched", "chain.broken", "crl.issuer_mismatched"}
