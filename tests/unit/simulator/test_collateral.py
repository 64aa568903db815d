"""The collateral has the published names and forms, and is dated as the recipe says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from cloister_simulator.platform import Platform
from fakes.sim import simulated_platform

NOW = datetime(2026, 11, 22, 12, 30, 15, 999, tzinfo=UTC)


@pytest.fixture
def sim() -> Platform:
    return simulated_platform(NOW)


def test_the_members_are_those_of_quote_collateral_v3(sim: Platform) -> None:
    assert list(json.loads(sim.collateral())) == [
        "pck_crl_issuer_chain",
        "root_ca_crl",
        "pck_crl",
        "tcb_info_issuer_chain",
        "tcb_info",
        "tcb_info_signature",
        "qe_identity_issuer_chain",
        "qe_identity",
        "qe_identity_signature",
    ]


def test_documents_are_issued_an_hour_ago_for_thirty_days(sim: Platform) -> None:
    bundle = json.loads(sim.collateral())
    for name in ("tcb_info", "qe_identity"):
        document = json.loads(bundle[name])
        assert document["issueDate"] == "2026-11-22T11:30:15Z"
        assert document["nextUpdate"] == "2026-12-22T12:30:15Z"
    for name in ("root_ca_crl", "pck_crl"):
        crl = x509.load_der_x509_crl(bytes.fromhex(bundle[name]))
        assert crl.last_update_utc == NOW.replace(microsecond=0) - timedelta(hours=1)
        assert crl.next_update_utc == NOW.replace(microsecond=0) + timedelta(days=30)


def test_reissuing_moves_the_dates(sim: Platform) -> None:
    sim.reissue(NOW + timedelta(days=1))
    assert json.loads(json.loads(sim.collateral())["tcb_info"])["issueDate"] == "2026-11-23T11:30:15Z"


def test_chains_are_leaf_first_and_end_at_the_root(sim: Platform) -> None:
    bundle = json.loads(sim.collateral())
    for name, length in (("pck_crl_issuer_chain", 2), ("tcb_info_issuer_chain", 2), ("qe_identity_issuer_chain", 2)):
        certificates = x509.load_pem_x509_certificates(bundle[name].encode())
        assert len(certificates) == length
        assert certificates[-1] == x509.load_der_x509_certificate(sim.root_der())
        certificates[0].verify_directly_issued_by(certificates[1])


def test_text_signed_by_the_pck_comes_with_its_whole_chain(sim: Platform) -> None:
    sim.tcb_info_signer = "pck"
    bundle = json.loads(sim.collateral())
    assert len(x509.load_pem_x509_certificates(bundle["tcb_info_issuer_chain"].encode())) == 3


def test_evaluation_sets_may_differ(sim: Platform) -> None:
    sim.tcb_evaluation, sim.qe_identity_evaluation = 21, 12
    bundle = json.loads(sim.collateral())
    numbers = [json.loads(bundle[name])["tcbEvaluationDataNumber"] for name in ("tcb_info", "qe_identity")]
    assert numbers == [21, 12]


def test_revocation_lists_name_what_is_revoked_and_nothing_else(sim: Platform) -> None:
    empty = json.loads(sim.collateral())
    sim.revoked = {"pck", "tcb_signing"}
    full = json.loads(sim.collateral())
    for name in ("root_ca_crl", "pck_crl"):
        assert len(x509.load_der_x509_crl(bytes.fromhex(empty[name]))) == 0
        assert len(x509.load_der_x509_crl(bytes.fromhex(full[name]))) == 1
