"""The members of a Result that say what code an Attester runs: four for an enclave, one object for a trust domain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from cloister.ear.members import count, exact_object, hex_32
from cloister.td_measurement import TdMeasurement

SGX: Final = "sgx"
TDX: Final = "tdx"
_MEMBERS: Final = {SGX: frozenset({"mrenclave", "mrsigner", "isvprodid", "isvsvn"}), TDX: frozenset({"td"})}
_RTMRS: Final = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")
_REGISTERS: Final = ("mrtd", *_RTMRS, "mrconfigid", "mrowner", "mrownerconfig")
_REGISTER: Final = re.compile(r"[0-9a-f]{96}")
_ATTRIBUTES: Final = re.compile(r"[0-9a-f]{16}")


class Code(NamedTuple):
    """What was found of the code; a trust domain has nothing in the place of an enclave's four."""

    mrenclave: str = ""
    mrsigner: str = ""
    isvprodid: int = 0
    isvsvn: int = 0
    td: TdMeasurement | None = None


def code_members(tee: object) -> frozenset[str]:
    """Which members there are; raises ValueError for a technology that is neither."""
    if not isinstance(tee, str) or tee not in _MEMBERS:
        raise ValueError("neither an enclave nor a trust domain")
    return _MEMBERS[tee]


def write_code(tee: str, code: Code) -> dict[str, object]:
    """The members of `code`."""
    if tee == SGX or code.td is None:
        return {
            "mrenclave": code.mrenclave,
            "mrsigner": code.mrsigner,
            "isvprodid": code.isvprodid,
            "isvsvn": code.isvsvn,
        }
    return {"td": plain_td(code.td)}


def read_code(tee: object, own: Mapping[str, object]) -> Code:
    """Read them; raises ValueError."""
    if tee == TDX:
        return Code(td=_td(own["td"]))
    return Code(
        mrenclave=hex_32(own["mrenclave"]),
        mrsigner=hex_32(own["mrsigner"]),
        isvprodid=count(own["isvprodid"]),
        isvsvn=count(own["isvsvn"]),
    )


def plain_td(td: TdMeasurement) -> dict[str, str]:
    """What a trust domain measures as, by the names of its report, in lower-case hex digits."""
    values = (td.mrtd, *td.rtmrs, td.mrconfigid, td.mrowner, td.mrownerconfig)
    named = {name: value.hex() for name, value in zip(_REGISTERS, values, strict=True)}
    return {**named, "attributes": td.attributes.to_bytes(8, "little").hex()}


def _td(member: object) -> TdMeasurement:
    found = exact_object(member, {*_REGISTERS, "attributes"})
    mrtd, rtmr0, rtmr1, rtmr2, rtmr3, mrconfigid, mrowner, mrownerconfig = (
        _octets(found[name], _REGISTER) for name in _REGISTERS
    )
    return TdMeasurement(
        mrtd=mrtd,
        rtmrs=(rtmr0, rtmr1, rtmr2, rtmr3),
        mrconfigid=mrconfigid,
        mrowner=mrowner,
        mrownerconfig=mrownerconfig,
        attributes=int.from_bytes(_octets(found["attributes"], _ATTRIBUTES), "little"),
    )


def _octets(value: object, form: re.Pattern[str]) -> bytes:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError("not the hex digits of a register")
    return bytes.fromhex(value)
