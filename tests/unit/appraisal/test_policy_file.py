"""What the file of an appraisal policy may say, and that one fault in it is an error which names the key."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.appraisal.body import TdFlags
from cloister.appraisal.endorsements import TcbStatus
from cloister.appraisal.grace import Grace
from cloister.appraisal.policy import Policy
from cloister.appraisal.reference import Kss, PlatformMode, PlatformRule, ReferenceValue, TdReferenceValue
from cloister.errors import InvalidRequest

FULL = b"""
policy_id = "production"
version = 7
accepted_statuses = ["UpToDate"]
accepted_advisories = ["INTEL-SA-00615"]
minimum_evaluation = 17
minimum_tcb_date = 2023-08-09
allow_zero_padding = true

[grace_days]
OutOfDate = 90
TDRelaunchAdvised = 7

[[reference_values]]
mrenclave = "aa00000000000000000000000000000000000000000000000000000000000000"

[[reference_values]]
mrsigner = "bb00000000000000000000000000000000000000000000000000000000000000"
isvprodid = 0
minimum_isvsvn = 3
config_svn = 4

[[td_reference_values]]
mrtd = "EE0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
rtmr1 = "ff0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
mrowner = "ab0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
attributes = ["PKS", "SEPT_VE_DISABLE", "PERFMON"]
xfam = 0x602e7
mrseam = "ac0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"

[platforms]
mode = "enforce"
allow = ["CC000000000000000000000000000000"]
deny = ["dd000000000000000000000000000000"]
"""


def test_a_policy_file() -> None:
    policy = Policy.from_toml(FULL)
    assert policy == Policy(
        policy_id="production",
        version=7,
        accepted_statuses=frozenset({TcbStatus.UP_TO_DATE}),
        accepted_advisories=frozenset({"INTEL-SA-00615"}),
        grace=(
            Grace(status=TcbStatus.OUT_OF_DATE, days=90),
            Grace(status=TcbStatus.TD_RELAUNCH_ADVISED, days=7),
        ),
        minimum_evaluation=17,
        minimum_tcb_date=date(2023, 8, 9),
        allow_zero_padding=True,
        reference_values=(
            ReferenceValue(mrenclave=b"\xaa" + bytes(31)),
            ReferenceValue(mrsigner=b"\xbb" + bytes(31), isvprodid=0, minimum_isvsvn=3, kss=Kss(config_svn=4)),
        ),
        td_reference_values=(
            TdReferenceValue(
                mrtd=b"\xee" + bytes(47),
                rtmrs=(bytes(48), b"\xff" + bytes(47), bytes(48), bytes(48)),
                mrowner=b"\xab" + bytes(47),
                attributes=int(TdFlags.SEPT_VE_DISABLE | TdFlags.PKS | TdFlags.PERFMON),
                xfam=0x602E7,
                mrseam=b"\xac" + bytes(47),
            ),
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
        {"version": 1},
        {"grace": (Grace(status=TcbStatus.OUT_OF_DATE, days=1),)},
        {"grace": (Grace(status=TcbStatus.OUT_OF_DATE, days=2),)},
        {"minimum_tcb_date": date(2024, 1, 1)},
        {"td_reference_values": (TdReferenceValue(mrtd=b"\x01" * 48),)},
        {"td_reference_values": (TdReferenceValue(mrtd=b"\x01" * 48, xfam=3),)},
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


@pytest.mark.attack("C07")
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
        ("version = 0", "version"),
        ("version = -1", "version"),
        ("version = 1.5", "version"),
        ("version = true", "version"),
        ('version = "1"', "version"),
        ('version = ""', "version"),
        (f"version = {1 << 53}", "version"),
        ("grace_days = {}", "grace_days"),
        ("grace_days = 90", "grace_days"),
        ('grace_days = "any"', "grace_days"),
        ('grace_days = {OutOfDate = ""}', "grace_days.OutOfDate"),
        ('grace_days = {OutOfDate = "90"}', "grace_days.OutOfDate"),
        ("grace_days = {OutOfDate = 0}", "grace_days.OutOfDate"),
        ("grace_days = {OutOfDate = 3651}", "grace_days.OutOfDate"),
        ("grace_days = {OutOfDate = 1.5}", "grace_days.OutOfDate"),
        ("grace_days = {Revoked = 1}", "grace_days.Revoked"),
        ("grace_days = {UpToDate = 1}", "grace_days.UpToDate"),
        ("grace_days = {ConfigurationNeeded = 1}", "grace_days.ConfigurationNeeded"),
        ("grace_days = {outofdate = 1}", "grace_days.outofdate"),
        ("grace_days = {any = 1}", "grace_days.any"),
        ('accepted_statuses = ["OutOfDate"]\ngrace_days = {OutOfDate = 1}', "grace_days"),
        ('minimum_tcb_date = ""', "minimum_tcb_date"),
        ('minimum_tcb_date = "any"', "minimum_tcb_date"),
        ('minimum_tcb_date = "2023-08-09"', "minimum_tcb_date"),
        ("minimum_tcb_date = 2023-08-09T00:00:00Z", "minimum_tcb_date"),
        ("td_reference_values = []", "td_reference_values"),
        ("td_reference_values = [{}]", "td_reference_values[0]"),
        ('td_reference_values = [{mrtd = ""}]', "td_reference_values[0].mrtd"),
        ('td_reference_values = [{mrtd = "any"}]', "td_reference_values[0].mrtd"),
        ('td_reference_values = [{rtmr0 = "any"}]', "td_reference_values[0].rtmr0"),
        (f'td_reference_values = [{{mrtd = "{"0" * 96}"}}]', "td_reference_values"),
        *(
            (f'td_reference_values = [{{mrtd = "{"1" * 96}", {rest}}}]', f"td_reference_values[0].{key}")
            for rest, key in (
                ('rtmr3 = ""', "rtmr3"),
                ('rtmr4 = "00"', "rtmr4"),
                ('mrenclave = "00"', "mrenclave"),
                ('mrconfigid = "*"', "mrconfigid"),
                ("attributes = []", "attributes"),
                ('attributes = ["any"]', "attributes"),
                ('attributes = ["DEBUG"]', "attributes"),
                ('attributes = ["MIGRATABLE"]', "attributes"),
                ("xfam = 0", "xfam"),
                ('xfam = "any"', "xfam"),
                ('mrseam = ""', "mrseam"),
                ('service_td = "00"', "service_td"),
            )
        ),
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


@pytest.mark.attack("C06")
def test_enforcing_an_empty_list_is_allowed_and_allows_none() -> None:
    policy = Policy.from_toml(b'policy_id = "x"\nplatforms = {mode = "enforce", allow = []}')
    assert policy.platforms == PlatformRule(mode=PlatformMode.ENFORCE)
    assert Policy.from_toml(b'policy_id = "x"\nplatforms = {mode = "enforce"}').platforms == policy.platforms


@pytest.mark.attack("C07")
def test_a_policy_that_accepts_everything_cannot_be_built() -> None:
    graces = (Grace(status=TcbStatus.OUT_OF_DATE, days=1), Grace(status=TcbStatus.OUT_OF_DATE, days=2))
    with pytest.raises(InvalidRequest):
        Policy(grace=graces)
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
