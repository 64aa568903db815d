"""Simulated trust domains: quotes of the real structure, which two verifiers judge alike; and a worker in one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloister.appraisal import second
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.body import TdReport
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.appraisal.reference import TdReferenceValue
from cloister.appraisal.verify import verify_quote
from cloister.errors import InvalidRequest
from cloister_simulator import cli, store, worker
from cloister_simulator.measurement import worker_measurement, worker_trust_domain
from cloister_simulator.platform import Platform
from cloister_simulator.quoter import SimulatedTdQuoter
from cloister_simulator.trust_domain import DEBUG, TrustDomain
from fakes.sim import library_verdict, simulated_platform

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
REPORT_DATA = bytes(range(64))
RUNNING = bytes([5, 1, 7]) + bytes(13)
BODIES = [
    (4, TrustDomain()),
    (5, TrustDomain()),
    (5, TrustDomain(tee_tcb_svn2=RUNNING)),
    (5, TrustDomain(tee_tcb_svn2=RUNNING, extended=True)),
]


@pytest.fixture
def sim() -> Platform:
    return simulated_platform(NOW)


@pytest.mark.parametrize(("version", "domain"), BODIES, ids=["4", "5 of TDX 1.0", "5 of TDX 1.5", "5 extended"])
def test_two_verifiers_believe_what_is_wholly_valid(sim: Platform, version: int, domain: TrustDomain) -> None:
    quote, collateral = sim.td_quote(REPORT_DATA, domain, version=version), sim.collateral(tdx=True)
    anchor = TrustAnchor("simulated", sim.root_der())
    found = verify_quote(quote, Collateral.parse(collateral), anchor, NOW)
    assert (found.tcb.status, found.tcb.advisory_ids) == ("UpToDate", ())
    body = found.quote.body
    assert isinstance(body, TdReport)
    assert (body.report_data, body.measurement) == (REPORT_DATA, domain.measurement)
    wanted = TdReferenceValue(mrtd=domain.mrtd, rtmrs=domain.rtmrs)
    assert wanted.measurement == body.measurement
    Policy(td_reference_values=(wanted,)).evaluate(found, NOW)
    second.confirm(found, NOW)


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("tcb_status", "OutOfDate", "OutOfDate"),
        ("tdx_module_status", "OutOfDate", "OutOfDate"),
        ("tdx_module_isvsvn", 6, "UpToDate"),
        ("qe_isvsvn", 5, "OutOfDate"),
    ],
)
def test_two_verifiers_find_the_same_status(sim: Platform, field: str, value: object, status: str) -> None:
    setattr(sim, field, value)
    quote, collateral = sim.td_quote(REPORT_DATA), sim.collateral(tdx=True)
    anchor = TrustAnchor("simulated", sim.root_der())
    assert verify_quote(quote, Collateral.parse(collateral), anchor, NOW).tcb.status == status
    assert library_verdict(sim, quote=quote, collateral=collateral, now=NOW)[0] == status


def test_the_worker_is_what_the_runtime_register_holds(tmp_path: Path) -> None:
    found = worker_trust_domain()
    assert found.rtmrs[:3] == TrustDomain().rtmrs[:3]
    assert any(found.rtmrs[3])
    printed = json.loads(CliRunner().invoke(cli.app, ["measure", "--tee", "tdx", "--json"]).stdout)
    assert printed["td_measurement"] == found.measurement.digest.hex()
    assert (printed["mrtd"], printed["rtmr3"], printed["simulated"]) == (found.mrtd.hex(), found.rtmrs[3].hex(), True)
    assert worker_measurement().mrenclave.hex() not in printed.values()


async def test_a_quoter_for_one_trust_domain(sim: Platform) -> None:
    quote = await SimulatedTdQuoter(sim, worker_trust_domain()).quote(REPORT_DATA)
    collateral = sim.collateral(tdx=True)
    assert library_verdict(sim, quote=quote, collateral=collateral, now=NOW) == ("UpToDate", [])


def test_a_platform_in_a_folder_has_collateral_for_both(tmp_path: Path) -> None:
    folder = tmp_path / "sim"
    assert CliRunner().invoke(cli.app, ["init", str(folder)]).exit_code == 0
    platform = store.load(folder, datetime.now(UTC))
    raw = (folder / "collateral-tdx.json").read_bytes()
    assert library_verdict(platform, quote=platform.td_quote(REPORT_DATA), collateral=raw) == ("UpToDate", [])
    assert CliRunner().invoke(cli.app, ["collateral", str(folder), "--tcb-status", "OutOfDate"]).exit_code == 0
    raw = (folder / "collateral-tdx.json").read_bytes()
    assert library_verdict(platform, quote=platform.td_quote(REPORT_DATA), collateral=raw)[0] == "OutOfDate"


def test_what_a_worker_may_claim_to_be() -> None:
    true = worker_trust_domain()
    assert worker.claimed_trust_domain(true, mrtd=None, debug=False) == true
    assert worker.claimed_trust_domain(true, mrtd="ab" * 48, debug=False) == replace(true, mrtd=b"\xab" * 48)
    assert worker.claimed_trust_domain(true, mrtd=None, debug=True).attributes & DEBUG
    for wrong in ("", "ab" * 32, "zz" * 48):
        with pytest.raises(InvalidRequest, match="96 hex digits"):
            worker.claimed_trust_domain(true, mrtd=wrong, debug=False)


@pytest.mark.parametrize("more", [["--tee", "tdx", "--mrenclave", "ab" * 32], ["--mrtd", "ab" * 48]], ids=["td", "sgx"])
def test_an_enclave_has_no_mrtd_and_a_trust_domain_no_mrenclave(more: list[str]) -> None:
    done = CliRunner().invoke(cli.app, ["worker", "--settings", "w.toml", "--platform", "sim", *more])
    assert done.exit_code == 2
    assert "trust domain" in done.stderr


def test_a_field_of_another_length_is_refused(sim: Platform) -> None:
    with pytest.raises(ValueError, match="48 bytes"):
        sim.td_quote(REPORT_DATA, TrustDomain(mrtd=bytes(32)))
