"""Levels and their convergence, over plain values: every row of Intel's algorithm."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cloister.appraisal.body import TdReport, Tee
from cloister.appraisal.endorsements import EnclaveLevel, PlatformLevel, Standing, TcbInfo, TcbStatus, TdxModule
from cloister.appraisal.pck import Platform
from cloister.appraisal.steps import Step
from cloister.appraisal.tcb import converge, enclave_standing, tcb_level
from cloister.errors import EvidenceRejected

DATE = datetime(2026, 8, 12, tzinfo=UTC)
UP = TcbStatus.UP_TO_DATE
OUT = TcbStatus.OUT_OF_DATE
HARDEN = TcbStatus.SW_HARDENING_NEEDED
CONFIGURE = TcbStatus.CONFIGURATION_NEEDED
BOTH = TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED
OUT_CONFIGURE = TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
REVOKED = TcbStatus.REVOKED
RELAUNCH = TcbStatus.TD_RELAUNCH_ADVISED
RELAUNCH_CONFIGURE = TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED


def standing(status: TcbStatus, *advisories: str) -> Standing:
    return Standing(status=status, advisory_ids=advisories, tcb_date=DATE)


def level(sgx: int, pcesvn: int, status: TcbStatus, *advisories: str, tdx: bytes | None = None) -> PlatformLevel:
    return PlatformLevel(
        sgx_components=bytes([sgx] * 16), pcesvn=pcesvn, tdx_components=tdx, standing=standing(status, *advisories)
    )


def info(*levels: PlatformLevel, modules: tuple[TdxModule, ...] = ()) -> TcbInfo:
    module = TdxModule(id="", mrsigner=bytes(48), attributes=bytes(8), attributes_mask=b"\xff" * 8, levels=())
    return TcbInfo(
        tee=Tee.TDX if modules else Tee.SGX,
        issue_date=DATE,
        next_update=DATE,
        fmspc=bytes(6),
        pce_id=bytes(2),
        evaluation=21,
        levels=levels,
        module=module,
        modules=modules,
    )


PLATFORM = Platform(
    ppid=bytes(16),
    components=bytes([5] * 16),
    pcesvn=10,
    pce_id=bytes(2),
    fmspc=bytes(6),
    sgx_type=1,
    platform_instance_id=None,
    dynamic_platform=None,
    cached_keys=None,
    smt_enabled=None,
)


def judged(tcb_info: TcbInfo, *, platform: Platform = PLATFORM, qe: Standing | None = None) -> TcbStatus:
    return tcb_level(platform, None, qe or standing(UP), tcb_info).status


def test_the_first_level_the_platform_reaches_counts() -> None:
    levels = info(level(6, 10, UP), level(5, 10, HARDEN, "INTEL-SA-00615"), level(1, 1, OUT))
    assert judged(levels) == HARDEN
    assert judged(levels, platform=replace(PLATFORM, components=bytes([6] * 16))) == UP
    assert judged(levels, platform=replace(PLATFORM, pcesvn=9)) == OUT
    assert judged(levels, platform=replace(PLATFORM, components=bytes([9] * 15 + [4]))) == OUT


def test_below_every_level() -> None:
    with pytest.raises(EvidenceRejected) as refused:
        judged(info(level(6, 10, UP), level(5, 11, OUT)))
    assert (refused.value.step, refused.value.reason) == (6, "tcb.level_missing")


@pytest.mark.parametrize(("platform", "qe"), [(REVOKED, UP), (UP, REVOKED), (OUT, REVOKED)])
def test_revoked_is_never_a_status(platform: TcbStatus, qe: TcbStatus) -> None:
    with pytest.raises(EvidenceRejected) as refused:
        judged(info(level(5, 10, platform)), qe=standing(qe))
    assert (refused.value.step, refused.value.reason) == (6, "tcb.revoked")


def test_advisories_of_all_parts_apply_once_each() -> None:
    found = tcb_level(PLATFORM, None, standing(OUT, "C", "A"), info(level(5, 10, HARDEN, "B", "A")))
    assert found.advisory_ids == ("A", "B", "C")
    assert found.tcb_date == DATE


@pytest.mark.parametrize(
    ("platform", "enclave", "result"),
    [(status, UP, status) for status in TcbStatus]
    + [(status, REVOKED, REVOKED) for status in TcbStatus]
    + [
        (UP, OUT, OUT),
        (HARDEN, OUT, OUT),
        (CONFIGURE, OUT, OUT_CONFIGURE),
        (BOTH, OUT, OUT_CONFIGURE),
        (OUT, OUT, OUT),
        (OUT_CONFIGURE, OUT, OUT_CONFIGURE),
        (REVOKED, OUT, REVOKED),
        (RELAUNCH, OUT, RELAUNCH),
    ],
)
def test_convergence(platform: TcbStatus, enclave: TcbStatus, result: TcbStatus) -> None:
    assert converge(platform, enclave) == result


def test_enclave_levels() -> None:
    levels = (EnclaveLevel(isvsvn=8, standing=standing(UP)), EnclaveLevel(isvsvn=5, standing=standing(OUT)))
    found = [enclave_standing(levels, svn, step=Step.TCB, reason="x").status for svn in (9, 8, 7, 5)]
    assert found == [UP, UP, OUT, OUT]
    with pytest.raises(EvidenceRejected, match="below every known level"):
        enclave_standing(levels, 4, step=Step.TCB, reason="x")


# Trust domains: a module of version 1 with levels 6 (up to date) and 2 (out of date), and platform levels that ask for
# TDX components 7 0 4 (of which a versioned module answers the first two itself).
TDX = bytes([7, 0, 4]) + bytes(13)
MODULE = TdxModule(
    id="TDX_01",
    mrsigner=b"\x01" * 48,
    attributes=bytes(8),
    attributes_mask=b"\xff" * 8,
    levels=(
        EnclaveLevel(isvsvn=6, standing=standing(UP)),
        EnclaveLevel(isvsvn=2, standing=standing(OUT, "MODULE")),
        EnclaveLevel(isvsvn=1, standing=standing(REVOKED)),
    ),
)


def td(svn: tuple[int, int, int], now: tuple[int, int, int] | None = None, **changes: object) -> TdReport:
    report = TdReport(
        tee_tcb_svn=bytes(svn) + bytes(13),
        mrseam=bytes(48),
        mrsignerseam=b"\x01" * 48 if svn[1] else bytes(48),
        seam_attributes=bytes(8),
        td_attributes=bytes(8),
        xfam=3,
        mrtd=bytes(48),
        mrconfigid=bytes(48),
        mrowner=bytes(48),
        mrownerconfig=bytes(48),
        rtmrs=(bytes(48),) * 4,
        report_data=bytes(64),
        tee_tcb_svn2=bytes(now) + bytes(13) if now else None,
    )
    return replace(report, **changes)  # type: ignore[arg-type]  # each test names a field


def judged_td(report: TdReport, status: TcbStatus = UP, qe: TcbStatus = UP) -> TcbStatus:
    levels = info(level(5, 10, status, "PLATFORM", tdx=TDX), level(1, 1, OUT, tdx=bytes(16)), modules=(MODULE,))
    return tcb_level(PLATFORM, report, standing(qe), levels).status


def test_a_module_without_a_version_is_measured_by_all_components() -> None:
    assert judged_td(td((7, 0, 4))) == UP
    assert judged_td(td((6, 0, 4))) == OUT
    assert judged_td(td((7, 0, 3))) == OUT


def test_a_module_with_a_version_is_measured_by_its_identity() -> None:
    assert judged_td(td((6, 1, 4))) == UP
    assert judged_td(td((5, 1, 4))) == OUT
    assert judged_td(td((5, 1, 4)), CONFIGURE) == OUT_CONFIGURE
    with pytest.raises(EvidenceRejected, match="revoked"):
        judged_td(td((1, 1, 4)))
    with pytest.raises(EvidenceRejected, match="below every known level"):
        judged_td(td((0, 1, 4)))


def test_module_advisories_apply() -> None:
    levels = info(level(5, 10, UP, "PLATFORM", tdx=TDX), modules=(MODULE,))
    found = tcb_level(PLATFORM, td((5, 1, 4)), standing(UP, "QE"), levels)
    assert found.advisory_ids == ("MODULE", "PLATFORM", "QE")


@pytest.mark.parametrize(
    "report",
    [
        td((6, 2, 4)),
        td((6, 1, 4), mrsignerseam=bytes(48)),
        td((7, 0, 4), mrsignerseam=b"\x01" * 48),
        td((6, 1, 4), seam_attributes=b"\x01" + bytes(7)),
    ],
)
def test_a_module_nobody_vouches_for(report: TdReport) -> None:
    with pytest.raises(EvidenceRejected) as refused:
        judged_td(report)
    assert (refused.value.step, refused.value.reason) == (6, "tdx_module.mismatched")


def test_seam_attributes_are_zero_even_where_the_mask_does_not_look() -> None:
    blind = replace(MODULE, attributes_mask=bytes(8))
    levels = info(level(5, 10, UP, tdx=TDX), modules=(blind,))
    with pytest.raises(EvidenceRejected, match="vouches"):
        tcb_level(PLATFORM, td((6, 1, 4), seam_attributes=b"\x01" + bytes(7)), standing(UP), levels)


@pytest.mark.parametrize(
    ("now", "status", "qe", "result"),
    [
        ((6, 1, 4), UP, UP, RELAUNCH),
        ((6, 1, 4), CONFIGURE, UP, RELAUNCH_CONFIGURE),
        ((5, 1, 4), UP, UP, OUT),
        ((6, 1, 3), UP, UP, OUT),
        ((7, 0, 4), UP, UP, RELAUNCH),
        ((6, 0, 4), UP, UP, OUT),
        ((6, 1, 4), OUT, UP, OUT),
        ((6, 1, 4), UP, OUT, OUT),
        (None, UP, UP, OUT),
    ],
)
def test_relaunch(now: tuple[int, int, int] | None, status: TcbStatus, qe: TcbStatus, result: TcbStatus) -> None:
    """A domain begun under an old module that has since been replaced by a current one."""
    assert judged_td(td((5, 1, 4), now), status, qe) == result


def test_relaunch_where_more_than_the_module_was_behind() -> None:
    assert judged_td(td((6, 1, 3), (6, 1, 4))) == RELAUNCH
    assert judged_td(td((6, 0, 4), (7, 0, 4))) == RELAUNCH
    assert judged_td(td((5, 1, 3), (6, 1, 4)), CONFIGURE) == RELAUNCH_CONFIGURE


@pytest.mark.parametrize(
    ("now", "reason"),
    [((6, 2, 4), "tdx_module.mismatched"), ((0, 1, 4), "tcb.level_missing"), ((1, 1, 4), "tcb.revoked")],
)
@pytest.mark.parametrize("launched", [(6, 1, 4), (5, 1, 4)])
def test_what_a_domain_runs_under_is_judged_too(
    launched: tuple[int, int, int], now: tuple[int, int, int], reason: str
) -> None:
    with pytest.raises(EvidenceRejected) as refused:
        judged_td(td(launched, now))
    assert (refused.value.step, refused.value.reason) == (6, reason)


def test_a_domain_that_runs_below_every_platform_level() -> None:
    levels = info(level(5, 10, UP, tdx=TDX), modules=(MODULE,))
    assert tcb_level(PLATFORM, td((6, 1, 4), (6, 1, 4)), standing(UP), levels).status == UP
    with pytest.raises(EvidenceRejected, match="below every known TCB level"):
        tcb_level(PLATFORM, td((6, 1, 4), (6, 1, 3)), standing(UP), levels)


def test_advisories_are_those_of_the_launch() -> None:
    levels = info(level(5, 10, UP, "RUNNING", tdx=TDX), level(1, 1, OUT, "LAUNCHED", tdx=bytes(16)), modules=(MODULE,))
    found = tcb_level(PLATFORM, td((5, 1, 3), (6, 1, 4)), standing(UP, "QE"), levels)
    assert (found.status, found.advisory_ids) == (RELAUNCH, ("LAUNCHED", "MODULE", "QE"))


def test_an_up_to_date_domain_needs_no_relaunch() -> None:
    assert judged_td(td((6, 1, 4), (6, 1, 4))) == UP
