"""What a policy accepts of what is genuine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cloister.appraisal.anchors import INTEL_SGX
from cloister.appraisal.body import parse_enclave_report
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.policy import Policy, Verdict
from cloister.appraisal.reference import Kss, PlatformMode, PlatformRule, ReferenceValue
from cloister.appraisal.verify import VerifiedQuote, verify_quote
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister_simulator.platform import Platform
from cloister_simulator.recipe import attributes

Verify = Callable[[], VerifiedQuote]
INIT_AND_64 = 0x5
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)  # the fixture's


def refusal(policy: Policy, verified: VerifiedQuote) -> str:
    with pytest.raises(EvidenceRejected) as refused:
        policy.evaluate(verified, NOW)
    assert refused.value.step == 7
    return refused.value.reason


def test_the_default_makes_no_claim_about_code(verify: Verify) -> None:
    assert Policy.default().evaluate(verify(), NOW) == Verdict(hardware=96, executables=0, configuration=0)


def test_hardware_under_a_genuine_anchor(verify: Verify) -> None:
    found = verify()
    genuine = replace(found, endorsed=replace(found.endorsed, anchor=INTEL_SGX))
    assert Policy.default().evaluate(genuine, NOW).hardware == 2
    behind = replace(genuine, tcb=replace(genuine.tcb, status=TcbStatus.OUT_OF_DATE))
    assert Policy(accepted_statuses=frozenset({TcbStatus.OUT_OF_DATE})).evaluate(behind, NOW).hardware == 32


@pytest.mark.attack("C01")
@pytest.mark.attack("C04")
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (0x7, "enclave.debug"),
        (0x4, "attributes.refused"),
        (0x1, "attributes.refused"),
        (0x5 | 0x80, "kss.unpinned"),
        *((0x5 | 1 << bit, "attributes.refused") for bit in range(64) if bit not in (0, 1, 2, 7)),
    ],
)
def test_enclave_flags(sim: Platform, verify: Verify, flags: int, reason: str) -> None:
    sim.attributes = attributes(flags)
    assert refusal(Policy.default(), verify()) == reason


@pytest.mark.attack("C04")
@pytest.mark.parametrize(
    ("xfrm", "accepted"), [(0x3, True), (0x602E7, True), (0x1, False), (0x1F, True), (0x103, False), (0, False)]
)
def test_xfrm(sim: Platform, verify: Verify, xfrm: int, accepted: bool) -> None:
    sim.attributes = attributes(INIT_AND_64, xfrm)
    found = verify()
    if accepted:
        Policy.default().evaluate(found, NOW)
    else:
        assert refusal(Policy.default(), found) == "attributes.refused"


@pytest.mark.attack("C04")
def test_miscselect(sim: Platform, verify: Verify) -> None:
    sim.misc_select = 1
    Policy.default().evaluate(verify(), NOW)
    sim.misc_select = 3
    assert refusal(Policy.default(), verify()) == "attributes.refused"


def test_control_flow_enforcement_is_judged_by_the_policy_and_not_by_the_parser(verify: Verify) -> None:
    found = verify()
    raw = bytearray(found.quote.signed[48:])
    raw[20] = 0x44
    report = parse_enclave_report(bytes(raw))
    assert report == replace(found.quote.body, cet_attributes=0x44)  # type: ignore[type-var]  # it is a dataclass
    assert refusal(Policy.default(), replace(found, quote=replace(found.quote, body=report))) == "attributes.refused"


@pytest.mark.parametrize("status", ["OutOfDate", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"])
def test_statuses_the_default_refuses(sim: Platform, verify: Verify, status: str) -> None:
    sim.tcb_status = status
    assert refusal(Policy.default(), verify()) == "tcb_status.refused"
    Policy(accepted_statuses=frozenset({TcbStatus(status)})).evaluate(verify(), NOW)


def test_advisories(sim: Platform, verify: Verify) -> None:
    sim.tcb_status = "SWHardeningNeeded"
    sim.advisory_ids = ["INTEL-SA-00615", "INTEL-SA-00334"]
    Policy.default().evaluate(verify(), NOW)
    sim.advisory_ids = ["INTEL-SA-00615", "INTEL-SA-00828"]
    assert refusal(Policy.default(), verify()) == "advisory.refused"
    Policy(accepted_advisories=frozenset(sim.advisory_ids)).evaluate(verify(), NOW)
    sim.tcb_status = "UpToDate"
    assert refusal(Policy.default(), verify()) == "advisory.refused"


def test_evaluation_number(sim: Platform, verify: Verify) -> None:
    Policy(minimum_evaluation=sim.tcb_evaluation).evaluate(verify(), NOW)
    assert refusal(Policy(minimum_evaluation=sim.tcb_evaluation + 1), verify()) == "evaluation.outdated"


def test_padding(sim: Platform, verify: Verify, now: datetime) -> None:
    good = verify()
    padded = verify_quote(sim.quote(bytes(64)) + bytes(8), good.endorsed, good.anchor, now)
    assert refusal(Policy.default(), padded) == "quote.padded"
    Policy(allow_zero_padding=True).evaluate(padded, NOW)


@pytest.mark.attack("C02")
@pytest.mark.attack("C03")
def test_reference_values(sim: Platform, verify: Verify) -> None:
    found = verify()
    right = ReferenceValue(mrenclave=sim.mrenclave)
    other = ReferenceValue(mrenclave=b"\x01" * 32)
    signer = ReferenceValue(mrsigner=sim.mrsigner, isvprodid=sim.isvprodid, minimum_isvsvn=sim.isvsvn)
    assert Policy(reference_values=(other, right)).evaluate(found, NOW) == Verdict(
        hardware=96, executables=2, configuration=2
    )
    assert Policy(reference_values=(signer,)).evaluate(found, NOW) == Verdict(
        hardware=96, executables=3, configuration=0
    )
    for wrong in (
        other,
        replace(right, mrsigner=b"\x01" * 32, isvprodid=sim.isvprodid, minimum_isvsvn=0),
        replace(signer, mrsigner=b"\x01" * 32),
        replace(signer, isvprodid=sim.isvprodid + 1),
        replace(signer, minimum_isvsvn=sim.isvsvn + 1),
        replace(signer, mrenclave=b"\x01" * 32),
    ):
        assert refusal(Policy(reference_values=(wrong,)), found) == "measurement.refused"


@pytest.mark.attack("C03")
def test_a_signer_of_zeros_is_none(sim: Platform, verify: Verify) -> None:
    signer = ReferenceValue(mrsigner=sim.mrsigner, isvprodid=sim.isvprodid, minimum_isvsvn=0)
    sim.mrsigner = bytes(32)
    assert refusal(Policy(reference_values=(signer,)), verify()) == "measurement.refused"
    with pytest.raises(InvalidRequest):
        replace(signer, mrsigner=bytes(32))


@pytest.mark.attack("C05")
def test_kss_fields_are_pinned_or_zero(sim: Platform, verify: Verify) -> None:
    sim.attributes, sim.config_id, sim.config_svn = attributes(INIT_AND_64 | 0x80), b"\x07" * 64, 4
    found = verify()
    pin = Kss(config_id=sim.config_id, config_svn=4)
    right = ReferenceValue(mrenclave=sim.mrenclave, kss=pin)
    assert Policy(reference_values=(right,)).evaluate(found, NOW).executables == 2
    for kss in (
        Kss(),
        replace(pin, config_svn=5),
        replace(pin, config_id=b"\x08" * 64),
        replace(pin, family_id=b"x" * 16),
    ):
        assert refusal(Policy(reference_values=(replace(right, kss=kss),)), found) == "kss.unpinned"
    assert refusal(Policy.default(), found) == "kss.unpinned"


@pytest.mark.attack("C05")
@pytest.mark.parametrize("field", ["config_id", "family_id", "extended_product_id"])
def test_kss_fields_without_the_attribute(sim: Platform, verify: Verify, field: str) -> None:
    setattr(sim, field, b"\x01" * len(getattr(sim, field)))
    assert refusal(Policy.default(), verify()) == "kss.unpinned"


@pytest.mark.attack("C06")
@pytest.mark.attack("D08")
def test_platforms(sim: Platform, verify: Verify) -> None:
    found = verify()
    stranger = b"\x01" * 16
    for known in (sim.ppid, sim.platform_instance_id):
        rule = PlatformRule(mode=PlatformMode.ENFORCE, allow=frozenset({stranger, known}))
        Policy(platforms=rule).evaluate(found, NOW)
        assert refusal(Policy(platforms=replace(rule, deny=frozenset({known}))), found) == "platform.denied"
        assert refusal(Policy(platforms=PlatformRule(deny=frozenset({known}))), found) == "platform.denied"
    for allowed in (frozenset[bytes](), frozenset({stranger})):
        rule = PlatformRule(mode=PlatformMode.ENFORCE, allow=allowed)
        assert refusal(Policy(platforms=rule), found) == "platform.not_allowed"


def test_the_platform_of_the_processor_ca_has_one_id(sim: Platform, verify: Verify) -> None:
    found = verify()
    bare = replace(found, platform=replace(found.platform, platform_instance_id=None))
    Policy(platforms=PlatformRule(mode=PlatformMode.ENFORCE, allow=frozenset({sim.ppid}))).evaluate(bare, NOW)
    rule = PlatformRule(mode=PlatformMode.ENFORCE, allow=frozenset({sim.platform_instance_id}))
    assert refusal(Policy(platforms=rule), bare) == "platform.not_allowed"
