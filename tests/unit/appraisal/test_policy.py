"""What a policy accepts of what is genuine, and what its file may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.appraisal.anchors import INTEL_SGX
from cloister.appraisal.body import TdReport, Tee
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.policy import Policy, Verdict
from cloister.appraisal.reference import Kss, PlatformMode, PlatformRule, ReferenceValue
from cloister.appraisal.verify import VerifiedQuote, verify_quote
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister_simulator.platform import Platform
from cloister_simulator.recipe import attributes

Verify = Callable[[], VerifiedQuote]
INIT_AND_64 = 0x5


def refusal(policy: Policy, verified: VerifiedQuote) -> str:
    with pytest.raises(EvidenceRejected) as refused:
        policy.evaluate(verified)
    assert refused.value.step == 7
    return refused.value.reason


def test_the_default_makes_no_claim_about_code(verify: Verify) -> None:
    assert Policy.default().evaluate(verify()) == Verdict(hardware=96, executables=0, configuration=0)


def test_hardware_under_a_genuine_anchor(verify: Verify) -> None:
    found = verify()
    genuine = replace(found, endorsed=replace(found.endorsed, anchor=INTEL_SGX))
    assert Policy.default().evaluate(genuine).hardware == 2
    behind = replace(genuine, tcb=replace(genuine.tcb, status=TcbStatus.OUT_OF_DATE))
    assert Policy(accepted_statuses=frozenset({TcbStatus.OUT_OF_DATE})).evaluate(behind).hardware == 32


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


@pytest.mark.parametrize(
    ("xfrm", "accepted"), [(0x3, True), (0x602E7, True), (0x1, False), (0x1F, True), (0x103, False), (0, False)]
)
def test_xfrm(sim: Platform, verify: Verify, xfrm: int, accepted: bool) -> None:
    sim.attributes = attributes(INIT_AND_64, xfrm)
    found = verify()
    if accepted:
        Policy.default().evaluate(found)
    else:
        assert refusal(Policy.default(), found) == "attributes.refused"


def test_miscselect(sim: Platform, verify: Verify) -> None:
    sim.misc_select = 1
    Policy.default().evaluate(verify())
    sim.misc_select = 3
    assert refusal(Policy.default(), verify()) == "attributes.refused"


TD = TdReport(
    tee_tcb_svn=bytes(16),
    mrseam=bytes(48),
    mrsignerseam=bytes(48),
    seam_attributes=bytes(8),
    td_attributes=(1 << 28).to_bytes(8, "little"),
    xfam=3,
    mrtd=bytes(48),
    mrconfigid=bytes(48),
    mrowner=bytes(48),
    mrownerconfig=bytes(48),
    rtmrs=(bytes(48),) * 4,
    report_data=bytes(64),
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"td_attributes": (1 << 28 | 1).to_bytes(8, "little")}, "enclave.debug"),
        ({"td_attributes": bytes(8)}, "attributes.refused"),
        ({"td_attributes": (1 << 28 | 1 << 29).to_bytes(8, "little")}, "attributes.refused"),
        ({"td_attributes": (1 << 28 | 1 << 63).to_bytes(8, "little")}, "attributes.refused"),
        ({"service_td_hashes": (bytes(48),)}, None),
        ({"service_td_hashes": (bytes(48), bytes(47) + b"\x01")}, "attributes.refused"),
    ],
)
def test_trust_domains(verify: Verify, changes: dict[str, object], reason: str | None) -> None:
    found = verify()
    report = replace(TD, **changes)  # type: ignore[arg-type]  # each case names fields
    domain = replace(found, quote=replace(found.quote, tee=Tee.TDX, body=report))
    if reason is None:
        assert Policy.default().evaluate(domain).executables == 0
        pinned = Policy(reference_values=(ReferenceValue(mrenclave=b"\x01" * 32),))
        assert refusal(pinned, domain) == "measurement.refused"
    else:
        assert refusal(Policy.default(), domain) == reason


@pytest.mark.parametrize("status", ["OutOfDate", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"])
def test_statuses_the_default_refuses(sim: Platform, verify: Verify, status: str) -> None:
    sim.tcb_status = status
    assert refusal(Policy.default(), verify()) == "tcb_status.refused"
    Policy(accepted_statuses=frozenset({TcbStatus(status)})).evaluate(verify())


def test_advisories(sim: Platform, verify: Verify) -> None:
    sim.tcb_status = "SWHardeningNeeded"
    sim.advisory_ids = ["INTEL-SA-00615", "INTEL-SA-00334"]
    Policy.default().evaluate(verify())
    sim.advisory_ids = ["INTEL-SA-00615", "INTEL-SA-00828"]
    assert refusal(Policy.default(), verify()) == "advisory.refused"
    Policy(accepted_advisories=frozenset(sim.advisory_ids)).evaluate(verify())
    sim.tcb_status = "UpToDate"
    assert refusal(Policy.default(), verify()) == "advisory.refused"


def test_evaluation_number(sim: Platform, verify: Verify) -> None:
    Policy(minimum_evaluation=sim.tcb_evaluation).evaluate(verify())
    assert refusal(Policy(minimum_evaluation=sim.tcb_evaluation + 1), verify()) == "evaluation.outdated"


def test_padding(sim: Platform, verify: Verify, now: datetime) -> None:
    good = verify()
    padded = verify_quote(sim.quote(bytes(64)) + bytes(8), good.endorsed, good.anchor, now)
    assert refusal(Policy.default(), padded) == "quote.padded"
    Policy(allow_zero_padding=True).evaluate(padded)


def test_reference_values(sim: Platform, verify: Verify) -> None:
    found = verify()
    right = ReferenceValue(mrenclave=sim.mrenclave)
    other = ReferenceValue(mrenclave=b"\x01" * 32)
    signer = ReferenceValue(mrsigner=sim.mrsigner, isvprodid=sim.isvprodid, minimum_isvsvn=sim.isvsvn)
    assert Policy(reference_values=(other, right)).evaluate(found) == Verdict(
        hardware=96, executables=2, configuration=2
    )
    assert Policy(reference_values=(signer,)).evaluate(found) == Verdict(hardware=96, executables=3, configuration=0)
    for wrong in (
        other,
        replace(right, mrsigner=b"\x01" * 32, isvprodid=sim.isvprodid, minimum_isvsvn=0),
        replace(signer, mrsigner=b"\x01" * 32),
        replace(signer, isvprodid=sim.isvprodid + 1),
        replace(signer, minimum_isvsvn=sim.isvsvn + 1),
        replace(signer, mrenclave=b"\x01" * 32),
    ):
        assert refusal(Policy(reference_values=(wrong,)), found) == "measurement.refused"


def test_kss_fields_are_pinned_or_zero(sim: Platform, verify: Verify) -> None:
    sim.attributes, sim.config_id, sim.config_svn = attributes(INIT_AND_64 | 0x80), b"\x07" * 64, 4
    found = verify()
    pin = Kss(config_id=sim.config_id, config_svn=4)
    right = ReferenceValue(mrenclave=sim.mrenclave, kss=pin)
    assert Policy(reference_values=(right,)).evaluate(found).executables == 2
    for kss in (
        Kss(),
        replace(pin, config_svn=5),
        replace(pin, config_id=b"\x08" * 64),
        replace(pin, family_id=b"x" * 16),
    ):
        assert refusal(Policy(reference_values=(replace(right, kss=kss),)), found) == "kss.unpinned"
    assert refusal(Policy.default(), found) == "kss.unpinned"


@pytest.mark.parametrize("field", ["config_id", "family_id", "extended_product_id"])
def test_kss_fields_without_the_attribute(sim: Platform, verify: Verify, field: str) -> None:
    setattr(sim, field, b"\x01" * len(getattr(sim, field)))
    assert refusal(Policy.default(), verify()) == "kss.unpinned"


def test_platforms(sim: Platform, verify: Verify) -> None:
    found = verify()
    stranger = b"\x01" * 16
    for known in (sim.ppid, sim.platform_instance_id):
        rule = PlatformRule(mode=PlatformMode.ENFORCE, allow=frozenset({stranger, known}))
        Policy(platforms=rule).evaluate(found)
        assert refusal(Policy(platforms=replace(rule, deny=frozenset({known}))), found) == "platform.denied"
        assert refusal(Policy(platforms=PlatformRule(deny=frozenset({known}))), found) == "platform.denied"
    for allowed in (frozenset[bytes](), frozenset({stranger})):
        rule = PlatformRule(mode=PlatformMode.ENFORCE, allow=allowed)
        assert refusal(Policy(platforms=rule), found) == "platform.not_allowed"


FULL = b"""
policy_id = "production"
accepted_statuses = ["UpToDate"]
accepted_advisories = ["INTEL-SA-00615"]
minimum_evaluation = 17
allow_zero_padding = true

[[reference_values]]
mrenclave = "aa00000000000000000000000000000000000000000000000000000000000000"

[[reference_values]]
mrsigner = "bb00000000000000000000000000000000000000000000000000000000000000"
isvprodid = 0
minimum_isvsvn = 3
config_svn = 4

[platforms]
mode = "enforce"
allow = ["CC000000000000000000000000000000"]
deny = ["dd000000000000000000000000000000"]
"""


def test_a_policy_file() -> None:
    policy = Policy.from_toml(FULL)
    assert policy == Policy(
        policy_id="production",
        accepted_statuses=frozenset({TcbStatus.UP_TO_DATE}),
        accepted_advisories=frozenset({"INTEL-SA-00615"}),
        minimum_evaluation=17,
        allow_zero_padding=True,
        reference_values=(
            ReferenceValue(mrenclave=b"\xaa" + bytes(31)),
            ReferenceValue(mrsigner=b"\xbb" + bytes(31), isvprodid=0, minimum_isvsvn=3, kss=Kss(config_svn=4)),
        ),
        platforms=PlatformRule(
            mode=PlatformMode.ENFORCE,
            allow=frozenset({b"\xcc" + bytes(15)}),
            deny=frozenset({b"\xdd" + bytes(15)}),
        ),
    )
    assert policy.digest == Policy.from_toml(b"# another text, the same policy\n" + FULL).digest


def test_what_a_file_leaves_out_is_the_default() -> None:
    assert replace(Policy.from_toml(b'policy_id = "x"'), policy_id="default") == Policy.default()


def test_the_digest_is_computed_once() -> None:
    policy = Policy.from_toml(FULL)
    assert policy.digest is policy.digest
    assert replace(policy, policy_id="another").digest != policy.digest


def test_every_field_moves_the_digest() -> None:
    digests = {Policy.default().digest}
    changes: list[dict[str, object]] = [
        {"policy_id": "x"},
        {"accepted_statuses": frozenset({TcbStatus.UP_TO_DATE})},
        {"accepted_advisories": frozenset({"INTEL-SA-00615"})},
        {"minimum_evaluation": 1},
        {"reference_values": (ReferenceValue(mrenclave=b"\x01" * 32),)},
        {"platforms": PlatformRule(mode=PlatformMode.ENFORCE)},
        {"platforms": PlatformRule(deny=frozenset({bytes(16)}))},
        {"allow_zero_padding": True},
    ]
    for change in changes:
        digests.add(replace(Policy.default(), **change).digest)  # type: ignore[arg-type]  # each case names a field
    assert len(digests) == len(changes) + 1


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("accepted_statuses = []", "accepted_statuses"),
        ('accepted_statuses = "any"', "accepted_statuses"),
        ('accepted_statuses = ["any"]', "accepted_statuses"),
        ('accepted_statuses = ["*"]', "accepted_statuses"),
        ('accepted_statuses = ["UpToDate", "Revoked"]', "accepted_statuses"),
        ('accepted_statuses = ["uptodate"]', "accepted_statuses"),
        ("accepted_statuses = [1]", "accepted_statuses"),
        ("accepted_advisories = []", "accepted_advisories"),
        ('accepted_advisories = [""]', "accepted_advisories"),
        ('accepted_advisories = ["any"]', "accepted_advisories"),
        ('accepted_advisories = ["INTEL-SA-*"]', "accepted_advisories"),
        ("minimum_evaluation = true", "minimum_evaluation"),
        ('minimum_evaluation = "17"', "minimum_evaluation"),
        ("minimum_evaluation = -1", "minimum_evaluation"),
        ("allow_zero_padding = 1", "allow_zero_padding"),
        ("reference_values = []", "reference_values"),
        ("reference_values = [{}]", "reference_values[0]"),
        ('reference_values = "any"', "reference_values"),
        ('reference_values = [{mrenclave = ""}]', "reference_values[0].mrenclave"),
        ('reference_values = [{mrenclave = "any"}]', "reference_values[0].mrenclave"),
        (f'reference_values = [{{mrenclave = "{"0" * 64}"}}]', "reference_values"),
        (f'reference_values = [{{mrsigner = "{"1" * 64}"}}]', "reference_values"),
        (f'reference_values = [{{mrenclave = "{"1" * 64}", isvprodid = 1}}]', "reference_values"),
        (f'reference_values = [{{mrenclave = "{"1" * 64}", mrenclav = 1}}]', "reference_values[0].mrenclav"),
        ("platforms = {}", "platforms"),
        ('platforms = {mode = "any"}', "platforms.mode"),
        ("platforms = {mode = []}", "platforms.mode"),
        ("platforms = {deny = []}", "platforms.mode"),
        ('platforms = {mode = "off", deny = []}', "platforms.deny"),
        ('platforms = {mode = "off", allow = []}', "platforms.allow"),
        ('platforms = {mode = "enforce", allow = ["any"]}', "platforms.allow"),
        ('platforms = {mode = "enforce", alow = []}', "platforms.alow"),
        ("accepted_status = 1", "accepted_status"),
        ("debug = true", "debug"),
        ('policy_id = "y"', "TOML"),
    ],
)
def test_a_policy_file_with_one_fault(line: str, key: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Policy.from_toml(f'policy_id = "x"\n{line}\n'.encode())
    assert key in str(refused.value)
    assert refused.value.reason == "policy.malformed"


@pytest.mark.parametrize(
    "raw", [b"", b"policy_id = 7", b'policy_id = ""', b'policy_id = "A B"', b"\xff", b"x" * (1 << 21)]
)
def test_a_policy_needs_a_name(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Policy.from_toml(raw)


def test_enforcing_an_empty_list_is_allowed_and_allows_none() -> None:
    policy = Policy.from_toml(b'policy_id = "x"\nplatforms = {mode = "enforce", allow = []}')
    assert policy.platforms == PlatformRule(mode=PlatformMode.ENFORCE)
    assert Policy.from_toml(b'policy_id = "x"\nplatforms = {mode = "enforce"}').platforms == policy.platforms


def test_a_policy_that_accepts_everything_cannot_be_built() -> None:
    for change in ({"accepted_statuses": frozenset(TcbStatus)}, {"accepted_statuses": frozenset()}, {"policy_id": ""}):
        with pytest.raises(InvalidRequest):
            replace(Policy.default(), **change)  # type: ignore[arg-type]  # each case names a field


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes(raw: bytes) -> None:
    try:
        policy = Policy.from_toml(raw)
    except InvalidRequest as error:
        assert error.reason == "policy.malformed"  # noqa: PT017  # either outcome is right
    else:
        assert policy.policy_id


def test_the_platform_of_the_processor_ca_has_one_id(sim: Platform, verify: Verify) -> None:
    found = verify()
    bare = replace(found, platform=replace(found.platform, platform_instance_id=None))
    Policy(platforms=PlatformRule(mode=PlatformMode.ENFORCE, allow=frozenset({sim.ppid}))).evaluate(bare)
    rule = PlatformRule(mode=PlatformMode.ENFORCE, allow=frozenset({sim.platform_instance_id}))
    assert refusal(Policy(platforms=rule), bare) == "platform.not_allowed"
