"""How far a platform is patched: which TCB level it reaches, and what that level and those of its enclaves add up to.

Intel's algorithm, as the PCS API v4 documents it for "Get TCB Info" and its quote verification library carries it out:
the first level, from the best down, whose every component the platform reaches; then the standing of the TDX module and
of the quoting enclave, each of which can only make it worse. Advisories of all of them apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cloister.appraisal.body import TdReport
from cloister.appraisal.endorsements import EnclaveLevel, PlatformLevel, Standing, TcbInfo, TcbStatus, TdxModule
from cloister.appraisal.pck import Platform
from cloister.appraisal.steps import Step, rejected

_UP_TO_DATE_ENOUGH: Final = frozenset(
    {
        TcbStatus.UP_TO_DATE,
        TcbStatus.SW_HARDENING_NEEDED,
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    }
)
_CONFIGURATION: Final = frozenset(
    {
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    }
)
_OUT_OF_DATE: Final = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcb:
    """The conclusion about a platform.

    Attributes:
        advisory_ids: Sorted, each once.
        tcb_date: Of the platform's level: advisories up to then are accounted for.
        patched_to: The same of what is furthest behind: the earliest TCB date among platform, TDX module and quoting
            enclave as far as they are out of date, and `tcb_date` where none of them is.
    """

    status: TcbStatus
    advisory_ids: tuple[str, ...]
    tcb_date: datetime
    patched_to: datetime


def enclave_standing(levels: tuple[EnclaveLevel, ...], isvsvn: int, *, step: Step, reason: str) -> Standing:
    """Return the standing of an enclave or module with this ISVSVN.

    Raises:
        EvidenceRejected: It is below every level.
    """
    for level in levels:
        if isvsvn >= level.isvsvn:
            return level.standing
    raise rejected(step, reason, "an enclave's or module's security version is below every known level")


def tcb_level(platform: Platform, report: TdReport | None, quoting_enclave: Standing, tcb_info: TcbInfo) -> Tcb:
    """Conclude how far a platform is patched.

    Args:
        platform: From its PCK certificate.
        report: The TD's report; None for SGX.
        quoting_enclave: Standing of its quoting enclave.
        tcb_info: Of this platform's family, for the right TEE.

    Raises:
        EvidenceRejected: Step 6, with the reason `tcb.level_missing`, `tcb.revoked` or `tdx_module.mismatched`.
    """
    sgx_level = _first_level(platform, None, tcb_info)
    if report is None:
        parts, status = [sgx_level.standing, quoting_enclave], sgx_level.standing.status
    else:
        level = _first_level(platform, report, tcb_info)
        module = _module_standing(report, tcb_info)
        parts = [level.standing, *([module] if module else []), quoting_enclave]
        status = level.standing.status
        if module is not None:
            status = converge(status, module.status)
            if quoting_enclave.status is TcbStatus.UP_TO_DATE and sgx_level.standing.status in _UP_TO_DATE_ENOUGH:
                status = _relaunch(status, sgx_level.standing.status, module.status, report, tcb_info)
    status = converge(status, quoting_enclave.status)
    if status is TcbStatus.REVOKED:
        raise rejected(Step.TCB, "tcb.revoked", "the platform, its quoting enclave or its TDX module is revoked")
    advisories = {advisory for part in parts for advisory in part.advisory_ids}
    tcb_date = parts[0].tcb_date
    return Tcb(
        status=status,
        advisory_ids=tuple(sorted(advisories)),
        tcb_date=tcb_date,
        patched_to=min((part.tcb_date for part in parts if part.status in _OUT_OF_DATE), default=tcb_date),
    )


def converge(platform: TcbStatus, enclave: TcbStatus) -> TcbStatus:
    """Return what the status of a platform becomes with that of its quoting enclave or TDX module.

    Args:
        platform: Any status.
        enclave: `UpToDate`, `OutOfDate` or `Revoked`.
    """
    if TcbStatus.REVOKED in (platform, enclave):
        return TcbStatus.REVOKED
    if enclave is TcbStatus.OUT_OF_DATE and platform in _UP_TO_DATE_ENOUGH:
        needs_configuration = platform in _CONFIGURATION
        return TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED if needs_configuration else TcbStatus.OUT_OF_DATE
    return platform


def _first_level(platform: Platform, report: TdReport | None, tcb_info: TcbInfo) -> PlatformLevel:
    for level in tcb_info.levels:
        if (
            _reaches(platform.components, level.sgx_components)
            and platform.pcesvn >= level.pcesvn
            and (report is None or level.tdx_components is None or _reaches_tdx(report, level.tdx_components))
        ):
            return level
    raise rejected(Step.TCB, "tcb.level_missing", "the platform is below every known TCB level")


def _reaches(has: bytes, needs: bytes) -> bool:
    return all(one >= other for one, other in zip(has, needs, strict=True))


def _reaches_tdx(report: TdReport, needs: bytes) -> bool:
    # A module with a version has its own identity and levels for the first two components.
    begin = 2 if report.tee_tcb_svn[1] else 0
    return _reaches(report.tee_tcb_svn[begin:], needs[begin:])


def _module_standing(report: TdReport, tcb_info: TcbInfo) -> Standing | None:
    """Check the TDX module against its identity; its standing, or None for the module that has no version."""
    isvsvn, version = report.tee_tcb_svn[0], report.tee_tcb_svn[1]
    module = _module_of_version(version, tcb_info) if version else tcb_info.module
    if module is None or report.mrsignerseam != module.mrsigner or not _attributes_fit(report, module):
        raise rejected(Step.TCB, "tdx_module.mismatched", "the TDX module is not one that Intel vouches for")
    if not version:
        return None
    return enclave_standing(module.levels, isvsvn, step=Step.TCB, reason="tcb.level_missing")


def _module_of_version(version: int, tcb_info: TcbInfo) -> TdxModule | None:
    return next((module for module in tcb_info.modules if module.id == f"TDX_{version:02X}"), None)


def _attributes_fit(report: TdReport, module: TdxModule) -> bool:
    # Every SEAM attribute is reserved so far, so beside fitting the identity they must all be zero.
    masked = bytes(one & mask for one, mask in zip(report.seam_attributes, module.attributes_mask, strict=True))
    return masked == module.attributes and not any(report.seam_attributes)


def _relaunch(status: TcbStatus, sgx: TcbStatus, module: TcbStatus, report: TdReport, tcb_info: TcbInfo) -> TcbStatus:
    """Tell a TD that was launched under an old module, since replaced by a current one, from a platform left behind.

    TDX 1.5 replaces modules while TDs run; TEE_TCB_SVN2 is what runs now, TEE_TCB_SVN what the TD began under.
    """
    now = report.tee_tcb_svn2
    if now is None or module is not TcbStatus.OUT_OF_DATE or status not in _OUT_OF_DATE:
        return status
    best = tcb_info.levels[0].tdx_components or bytes(16)
    least_isvsvn = best[0]
    if now[1]:
        current = _module_of_version(now[1], tcb_info)
        if current is None:
            raise rejected(Step.TCB, "tdx_module.mismatched", "the TDX module is not one that Intel vouches for")
        least_isvsvn = current.levels[0].isvsvn
    if now[0] < least_isvsvn or now[2] < best[2]:
        return status
    if sgx in _CONFIGURATION or status in _CONFIGURATION:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED
