"""What a policy accepts of trust domains: the right code, launched the right way, and none that others can enter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cloister.appraisal import second
from cloister.appraisal.body import TdFlags, TdReport, Tee
from cloister.appraisal.policy import Policy, Verdict
from cloister.appraisal.reference import ReferenceValue, TdReferenceValue
from cloister.appraisal.verify import VerifiedQuote
from cloister.errors import EvidenceRejected, InvalidRequest
from fakes import corpus
from fakes.corpus import Evaluation

Verify = Callable[[], VerifiedQuote]
SEPT = int(TdFlags.SEPT_VE_DISABLE)
ZERO, ONE = bytes(48), b"\x01" * 48

TD = TdReport(
    tee_tcb_svn=bytes(16),
    mrseam=b"\x0a" * 48,
    mrsignerseam=ZERO,
    seam_attributes=bytes(8),
    td_attributes=SEPT.to_bytes(8, "little"),
    xfam=0x602E7,
    mrtd=b"\x0b" * 48,
    mrconfigid=ZERO,
    mrowner=ZERO,
    mrownerconfig=ZERO,
    rtmrs=(b"\x0c" * 48, b"\x0d" * 48, b"\x0e" * 48, ZERO),
    report_data=bytes(64),
)
WANTED = TdReferenceValue(mrtd=TD.mrtd, rtmrs=TD.rtmrs)


@pytest.fixture
def domain(verify: Verify) -> Callable[..., VerifiedQuote]:
    """A genuine quote that is about a trust domain with these fields."""
    found = verify()

    def make(**changes: object) -> VerifiedQuote:
        report = replace(TD, **changes)  # type: ignore[arg-type]  # each case names fields
        return replace(found, quote=replace(found.quote, tee=Tee.TDX, body=report))

    return make


Domain = Callable[..., VerifiedQuote]


def refusal(policy: Policy, verified: VerifiedQuote) -> str:
    with pytest.raises(EvidenceRejected) as refused:
        policy.evaluate(verified, verified.endorsed.valid_from)
    assert refused.value.step == 7
    return refused.value.reason


def accept(policy: Policy, verified: VerifiedQuote) -> Verdict:
    return policy.evaluate(verified, verified.endorsed.valid_from)


def flags(*names: TdFlags | int) -> dict[str, object]:
    return {"td_attributes": sum(int(name) for name in names).to_bytes(8, "little")}


def pinned(**fields: object) -> Policy:
    return Policy(td_reference_values=(replace(WANTED, **fields),))  # type: ignore[arg-type]  # each case names fields


OPEN_TO_OTHERS: list[tuple[dict[str, object], str]] = [
    (flags(SEPT, TdFlags.DEBUG), "enclave.debug"),
    (flags(0), "attributes.refused"),
    (flags(SEPT, TdFlags.MIGRATABLE), "attributes.refused"),
    *((flags(SEPT, 1 << bit), "attributes.refused") for bit in range(1, 63) if bit not in (16, 27, 28, 30, 31)),
    (flags(TdFlags.PKS, TdFlags.PERFMON), "attributes.refused"),
    ({"service_td_hashes": (ZERO, bytes(47) + b"\x01")}, "attributes.refused"),
]


@pytest.mark.attack("C01")
@pytest.mark.attack("C09")
@pytest.mark.parametrize(("changes", "reason"), OPEN_TO_OTHERS)
def test_a_domain_that_others_can_enter_is_refused_whatever_is_pinned(
    domain: Domain, changes: dict[str, object], reason: str
) -> None:
    assert refusal(Policy.default(), domain(**changes)) == reason
    assert refusal(pinned(), domain(**changes)) == reason


@pytest.mark.attack("C09")
@pytest.mark.parametrize(
    "attributes", [0, int(TdFlags.DEBUG), SEPT | TdFlags.DEBUG, SEPT | TdFlags.MIGRATABLE, 1 << 30]
)
def test_no_policy_can_pin_attributes_that_let_others_in(attributes: int) -> None:
    with pytest.raises(InvalidRequest):
        replace(WANTED, attributes=int(attributes))


def test_the_default_makes_no_claim_about_a_domains_code(domain: Domain) -> None:
    assert accept(Policy.default(), domain()) == Verdict(hardware=96, executables=0, configuration=0)
    accept(Policy.default(), domain(service_td_hashes=(ZERO,)))


@pytest.mark.parametrize("flag", [TdFlags.ICSSD, TdFlags.LASS, TdFlags.PKS, TdFlags.KL, TdFlags.PERFMON])
def test_what_a_domain_uses_for_itself_is_compared_where_its_code_is(domain: Domain, flag: TdFlags) -> None:
    featured = domain(**flags(SEPT, flag))
    accept(Policy.default(), featured)
    assert refusal(pinned(), featured) == "td_configuration.unpinned"
    accept(pinned(attributes=SEPT | int(flag)), featured)
    assert refusal(pinned(attributes=SEPT | int(flag)), domain()) == "td_configuration.unpinned"


def test_a_pinned_domain(domain: Domain) -> None:
    assert accept(pinned(), domain()) == Verdict(hardware=96, executables=3, configuration=0)
    everything = pinned(xfam=TD.xfam, mrseam=TD.mrseam, mrsignerseam=TD.mrsignerseam)
    accept(everything, domain())
    several = Policy(td_reference_values=(replace(WANTED, mrtd=ONE), WANTED))
    accept(several, domain())


@pytest.mark.attack("C02")
@pytest.mark.parametrize("changed", ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"])
def test_other_code_is_refused(domain: Domain, changed: str) -> None:
    if changed == "mrtd":
        other = domain(mrtd=ONE)
    else:
        rtmrs = list(TD.rtmrs)
        rtmrs[int(changed[-1])] = ONE
        other = domain(rtmrs=tuple(rtmrs))
    assert refusal(pinned(), other) == "measurement.refused"


@pytest.mark.attack("C05")
@pytest.mark.parametrize("field", ["mrconfigid", "mrowner", "mrownerconfig"])
def test_what_the_launcher_chose_is_pinned_or_zero(domain: Domain, field: str) -> None:
    chosen = domain(**{field: ONE})
    assert refusal(pinned(), chosen) == "td_configuration.unpinned"
    accept(pinned(**{field: ONE}), chosen)
    assert refusal(pinned(**{field: ONE}), domain()) == "td_configuration.unpinned"


@pytest.mark.attack("C05")
@pytest.mark.parametrize(("field", "value"), [("xfam", 0x3), ("mrseam", ONE), ("mrsignerseam", ONE)])
def test_what_is_pinned_beside_that_must_be_so(domain: Domain, field: str, value: object) -> None:
    assert refusal(pinned(**{field: value}), domain()) == "td_configuration.unpinned"
    accept(pinned(**{field: value}), domain(**{field: value}))


def test_reference_values_of_one_technology_refuse_the_other(domain: Domain, verify: Verify) -> None:
    enclaves = Policy(reference_values=(ReferenceValue(mrenclave=b"\x01" * 32),))
    assert refusal(enclaves, domain()) == "measurement.refused"
    assert refusal(pinned(), verify()) == "measurement.refused"


def test_a_measurement_of_zeros_is_none() -> None:
    with pytest.raises(InvalidRequest):
        replace(WANTED, mrtd=ZERO)


ACCEPTED = [one for one in corpus.evaluations() if one.expected.accepted and "tdx" in one.name]


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
@pytest.mark.parametrize("one", ACCEPTED, ids=lambda one: one.name)
def test_real_domains_are_pinned_by_what_they_report(one: Evaluation) -> None:
    found = corpus.verified(one)
    report = found.quote.body
    assert isinstance(report, TdReport)
    value = TdReferenceValue(
        mrtd=report.mrtd,
        rtmrs=report.rtmrs,
        mrconfigid=report.mrconfigid,
        mrowner=report.mrowner,
        mrownerconfig=report.mrownerconfig,
        xfam=report.xfam,
        mrseam=report.mrseam,
        mrsignerseam=report.mrsignerseam,
    )
    policy = Policy(td_reference_values=(value,))
    assert policy.evaluate(found, one.now) == Verdict(hardware=2, executables=3, configuration=0)
    second.confirm(found, one.now)
    for other in (replace(value, mrtd=ONE), replace(value, rtmrs=(ONE, *report.rtmrs[1:]))):
        assert refusal(Policy(td_reference_values=(other,)), found) == "measurement.refused"
    for other in (replace(value, mrowner=ONE), replace(value, xfam=3), replace(value, mrseam=ONE)):
        assert refusal(Policy(td_reference_values=(other,)), found) == "td_configuration.unpinned"


@pytest.mark.attack("C09")
@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
@pytest.mark.parametrize("name", ["tdx4-debug-01:valid", "tdx4-septve-01:valid", "tdx5-servtd-01:valid"])
def test_real_domains_that_others_can_enter(name: str) -> None:
    one = corpus.evaluation(name)
    found = corpus.verified(one)
    report = found.quote.body
    assert isinstance(report, TdReport)
    policy = Policy(td_reference_values=(TdReferenceValue(mrtd=report.mrtd, rtmrs=report.rtmrs),))
    assert refusal(policy, found) in {"enclave.debug", "attributes.refused"}
