"""How far a platform is patched: which TCB level it reaches, and what that level and those of its enclaves add up to.

Intel's algorithm, as the PCS API v4 documents it for "Get TCB Info" and its quote verification library carries it out:
the first level, from the best down, whose every component the platform reaches; then the standing of the TDX module and
of the quoting enclave, each of which can only make it worse. Advisories of all of them apply. TDX 1.5 can replace its
module while trust domains (TDs) run, so that a TD has two such conclusions: one about what it was launched under, and
one about what it runs under now (`_relaunch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cloister.appraisal.body import TdReport
from cloister.appraisal.endorsements import EnclaveLevel, PlatformLevel, Standing, TcbInfo, TcbStatus, TdxModule
from cloister.appraisal.pck import Platform
from cloister.appraisal.steps import Step, rejected
from cloister.errors import EvidenceRejected

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
    if report is None:
        parts = [_first_level(platform, None, tcb_info).standing, quoting_enclave]
    else:
        _check_module(report, tcb_info)
        parts = [*_td_standings(platform, report.tee_tcb_svn, tcb_info), quoting_enclave]
    status = _converged(parts)
    if report is not None and report.tee_tcb_svn2 is not None:
        status = _relaunch(
            status, _converged([*_td_standings(platform, report.tee_tcb_svn2, tcb_info), quoting_enclave])
        )
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


def _converged(parts: Sequence[Standing]) -> TcbStatus:
    """What the standing of a platform becomes with those of its parts, which follow it."""
    status = parts[0].status
    for part in parts[1:]:
        status = converge(status, part.status)
    if status is TcbStatus.REVOKED:
        raise rejected(Step.TCB, "tcb.revoked", "the platform, its quoting enclave or its TDX module is revoked")
    return status


def _td_standings(platform: Platform, tee_tcb_svn: bytes, tcb_info: TcbInfo) -> list[Standing]:
    """Standing of a platform whose TDX has these security versions, and of the TDX module if it has a version."""
    standings = [_first_level(platform, tee_tcb_svn, tcb_info).standing]
    isvsvn, version = tee_tcb_svn[0], tee_tcb_svn[1]
    if version:
        levels = _module_of_version(version, tcb_info).levels
        standings.append(enclave_standing(levels, isvsvn, step=Step.TCB, reason="tcb.level_missing"))
    return standings


def _first_level(platform: Platform, tee_tcb_svn: bytes | None, tcb_info: TcbInfo) -> PlatformLevel:
    for level in tcb_info.levels:
        if (
            _reaches(platform.components, level.sgx_components)
            and platform.pcesvn >= level.pcesvn
            and (tee_tcb_svn is None or level.tdx_components is None or _reaches_tdx(tee_tcb_svn, level.tdx_components))
        ):
            return level
    raise rejected(Step.TCB, "tcb.level_missing", "the platform is below every known TCB level")


def _reaches(has: bytes, needs: bytes) -> bool:
    return all(one >= other for one, other in zip(has, needs, strict=True))


def _reaches_tdx(tee_tcb_svn: bytes, needs: bytes) -> bool:
    # A module with a version has its own identity and levels for the first two components.
    begin = 2 if tee_tcb_svn[1] else 0
    return _reaches(tee_tcb_svn[begin:], needs[begin:])


def _check_module(report: TdReport, tcb_info: TcbInfo) -> None:
    """Check that the TDX module which launched the TD is one that Intel vouches for."""
    version = report.tee_tcb_svn[1]
    module = _module_of_version(version, tcb_info) if version else tcb_info.module
    if module is None or report.mrsignerseam != module.mrsigner or not _attributes_fit(report, module):
        raise _unknown_module()


def _module_of_version(version: int, tcb_info: TcbInfo) -> TdxModule:
    for module in tcb_info.modules:
        if module.id == f"TDX_{version:02X}":
            return module
    raise _unknown_module()


def _attributes_fit(report: TdReport, module: TdxModule) -> bool:
    # Every SEAM attribute is reserved so far, so beside fitting the identity they must all be zero.
    masked = bytes(one & mask for one, mask in zip(report.seam_attributes, module.attributes_mask, strict=True))
    return masked == module.attributes and not any(report.seam_attributes)


def _relaunch(launched: TcbStatus, running: TcbStatus) -> TcbStatus:
    """Tell a TD that was launched on a platform out of date, since brought up to date, from one left behind.

    Args:
        launched: Of the security versions the TD began under, TEE_TCB_SVN.
        running: Of those that hold now, TEE_TCB_SVN2; they differ once the TDX module was replaced under the TD.
    """
    if launched not in _OUT_OF_DATE or running not in _UP_TO_DATE_ENOUGH:
        return launched
    if launched in _CONFIGURATION or running in _CONFIGURATION:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


def _unknown_module() -> EvidenceRejected:
    return rejected(Step.TCB, "tdx_module.mismatched", "the TDX module is not one that Intel vouches for")
