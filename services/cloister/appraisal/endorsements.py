"""The two documents Intel signs about patch levels: TCB info of a platform family, identity of its quoting enclave.

Parsed strictly into values, not yet believed: `collateral.py` checks who signed them. TCB info of version 3 and quoting
enclave identity of version 2, as in version 4 of Intel's Provisioning Certification Service API. Members that we do not
know are ignored, since Intel adds some within a version; those we know must be there and be well-formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from cloister.appraisal import strict_json
from cloister.appraisal.body import Tee
from cloister.appraisal.strict_json import Record
from cloister.errors import InvalidRequest

COMPONENTS: Final = 16
MAX_DOCUMENT_BYTES: Final = 128 * 1024
ADVISORY: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

_MAX_LEVELS: Final = 256
_TEE_OF_TCB_INFO: Final = {"SGX": Tee.SGX, "TDX": Tee.TDX}
_TEE_OF_QE: Final = {"QE": Tee.SGX, "TD_QE": Tee.TDX}


class TcbStatus(StrEnum):
    """How far something is patched. The last two are conclusions of ours, never in a document."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"


_OF_ENCLAVES: Final = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
_OF_PLATFORMS: Final = frozenset(TcbStatus) - {
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A status with what is known to be wrong at it, and since when that is the judgement."""

    status: TcbStatus
    advisory_ids: tuple[str, ...]
    tcb_date: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformLevel:
    """One row of TCB info: least security versions, 16 bytes each, and the standing of platforms that reach them."""

    sgx_components: bytes
    pcesvn: int
    tdx_components: bytes | None
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveLevel:
    """One row of an enclave's or TDX module's identity: the least ISVSVN, and the standing of those that reach it."""

    isvsvn: int
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxModule:
    """What a TDX module's report fields must be. `id` and `levels` are empty for the module without a version."""

    id: str
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[EnclaveLevel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfo:
    """Patch levels of a platform family, best first, for one TEE."""

    tee: Tee
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pce_id: bytes
    evaluation: int
    levels: tuple[PlatformLevel, ...]
    module: TdxModule | None
    modules: tuple[TdxModule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QeIdentity:
    """What a quoting enclave's report must be, and its patch levels, best first."""

    tee: Tee
    issue_date: datetime
    next_update: datetime
    evaluation: int
    miscselect: int
    miscselect_mask: int
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isvprodid: int
    levels: tuple[EnclaveLevel, ...]


def parse_tcb_info(document: str) -> TcbInfo:
    """Read a TCB info document.

    Raises:
        InvalidRequest: Reason `collateral.malformed` or `collateral.unsupported`; the message names the member.
    """
    record = strict_json.parse(document, path="tcb_info", max_bytes=MAX_DOCUMENT_BYTES)
    _require_version(record, "tcb_info", 3)
    tee = _TEE_OF_TCB_INFO.get(record.text("id", max_length=16))
    if tee is None or record.integer("tcbType", most=0xFFFF) != 0:
        raise InvalidRequest("tcb_info is of a TEE or type we do not know", reason="collateral.unsupported")
    levels = [_platform_level(row, tee) for row in record.records("tcbLevels", most=_MAX_LEVELS)]
    # Intel's own library orders the rows by component versions, whatever the document's order, before it looks.
    levels.sort(key=lambda level: (level.sgx_components, level.pcesvn, level.tdx_components or b""), reverse=True)
    return TcbInfo(
        tee=tee,
        issue_date=record.moment("issueDate"),
        next_update=record.moment("nextUpdate"),
        fmspc=record.octets("fmspc", 6),
        pce_id=record.octets("pceId", 2),
        evaluation=record.integer("tcbEvaluationDataNumber", most=0xFFFFFFFF),
        levels=tuple(levels),
        module=_module(record.record("tdxModule")) if tee is Tee.TDX else None,
        modules=_modules(record) if tee is Tee.TDX else (),
    )


def parse_qe_identity(document: str) -> QeIdentity:
    """Read a quoting enclave identity document.

    Raises:
        InvalidRequest: Reason `collateral.malformed` or `collateral.unsupported`; the message names the member.
    """
    record = strict_json.parse(document, path="qe_identity", max_bytes=MAX_DOCUMENT_BYTES)
    _require_version(record, "qe_identity", 2)
    tee = _TEE_OF_QE.get(record.text("id", max_length=16))
    if tee is None:
        raise InvalidRequest("qe_identity is of an enclave we do not know", reason="collateral.unsupported")
    return QeIdentity(
        tee=tee,
        issue_date=record.moment("issueDate"),
        next_update=record.moment("nextUpdate"),
        evaluation=record.integer("tcbEvaluationDataNumber", most=0xFFFFFFFF),
        miscselect=int.from_bytes(record.octets("miscselect", 4), "little"),
        miscselect_mask=int.from_bytes(record.octets("miscselectMask", 4), "little"),
        attributes=record.octets("attributes", 16),
        attributes_mask=record.octets("attributesMask", 16),
        mrsigner=record.octets("mrsigner", 32),
        isvprodid=record.integer("isvprodid", most=0xFFFF),
        levels=_enclave_levels(record),
    )


def _require_version(record: Record, what: str, wanted: int) -> None:
    if record.integer("version", most=0xFFFF) != wanted:
        raise InvalidRequest(f"{what} is not of version {wanted}", reason="collateral.unsupported")


def _platform_level(row: Record, tee: Tee) -> PlatformLevel:
    tcb = row.record("tcb")
    return PlatformLevel(
        sgx_components=_components(tcb, "sgxtcbcomponents"),
        pcesvn=tcb.integer("pcesvn", most=0xFFFF),
        tdx_components=_components(tcb, "tdxtcbcomponents") if tee is Tee.TDX else None,
        standing=_standing(row, _OF_PLATFORMS),
    )


def _components(tcb: Record, name: str) -> bytes:
    components = bytes(component.integer("svn", most=0xFF) for component in tcb.records(name, most=COMPONENTS))
    if len(components) != COMPONENTS:
        raise InvalidRequest(f"{name} does not have {COMPONENTS} components", reason="collateral.malformed")
    return components


def _modules(record: Record) -> tuple[TdxModule, ...]:
    if not record.has("tdxModuleIdentities"):
        return ()
    identities = record.records("tdxModuleIdentities", most=64)
    modules = tuple(_module(one, one.text("id", max_length=16).upper(), _enclave_levels(one)) for one in identities)
    if len({module.id for module in modules}) != len(modules):
        raise InvalidRequest("tcb_info names a TDX module twice", reason="collateral.malformed")
    return modules


def _module(record: Record, name: str = "", levels: tuple[EnclaveLevel, ...] = ()) -> TdxModule:
    return TdxModule(
        id=name,
        mrsigner=record.octets("mrsigner", 48),
        attributes=record.octets("attributes", 8),
        attributes_mask=record.octets("attributesMask", 8),
        levels=levels,
    )


def _enclave_levels(record: Record) -> tuple[EnclaveLevel, ...]:
    levels = [
        EnclaveLevel(isvsvn=row.record("tcb").integer("isvsvn", most=0xFFFF), standing=_standing(row, _OF_ENCLAVES))
        for row in record.records("tcbLevels", most=_MAX_LEVELS)
    ]
    return tuple(sorted(levels, key=lambda level: level.isvsvn, reverse=True))


def _standing(row: Record, allowed: frozenset[TcbStatus]) -> Standing:
    text = row.text("tcbStatus", max_length=64)
    if text not in allowed:
        raise InvalidRequest("a document has a TCB status we do not know", reason="collateral.malformed")
    return Standing(
        status=TcbStatus(text),
        advisory_ids=row.texts("advisoryIDs", most=256, pattern=ADVISORY),
        tcb_date=row.moment("tcbDate"),
    )
