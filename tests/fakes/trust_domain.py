"""A simulated trust domain (TD) on the simulated platform: quotes of version 4 and 5, and the collateral about them.

The simulator is of SGX; what TDX adds is small enough to be a fake: another body, one more wrapping of the quoting
enclave's report, and TCB info with a second row of components and with identities of TDX modules.

Layouts: TDX DCAP quoting library API, appendix 3.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cloister_simulator.platform import Platform
from cloister_simulator.quote import QuoteParts
from cloister_simulator.signature import raw_public_key, raw_signature

MRSIGNERSEAM = b"\x01" * 48
_TDX = 0x81
_TDX_10, _TDX_15, _TDX_15_EXTENDED = 2, 3, 4


@dataclass(frozen=True, kw_only=True)
class TrustDomain:
    """What a TD reports of itself.

    Attributes:
        tee_tcb_svn: What it was launched under, 16 bytes.
        tee_tcb_svn2: What it runs under now; only TDX 1.5 says.
        extended: Whether a TDX 1.5 body is the extended one.
    """

    tee_tcb_svn: bytes
    tee_tcb_svn2: bytes | None = None
    extended: bool = False
    attributes: int = 1 << 28
    service_td: bytes = bytes(48)

    def body(self) -> bytes:
        """The 584, 648 or 885 bytes."""
        base = b"".join(
            [
                self.tee_tcb_svn,
                b"\x05" * 48,
                MRSIGNERSEAM,
                bytes(8),
                self.attributes.to_bytes(8, "little"),
                (0x602E7).to_bytes(8, "little"),
                b"\x06" * 48,
                bytes(3 * 48),
                b"\x07" * (4 * 48),
                bytes(64),
            ]
        )
        if self.tee_tcb_svn2 is None:
            return base
        return base + self.tee_tcb_svn2 + self.service_td + bytes(237 if self.extended else 0)

    @property
    def body_type(self) -> int:
        """How quotes of version 5 call that body."""
        if self.tee_tcb_svn2 is None:
            return _TDX_10
        return _TDX_15_EXTENDED if self.extended else _TDX_15


@dataclass(frozen=True, kw_only=True)
class Level:
    """A row of a document: least security versions, and the standing of what reaches them."""

    tdx: bytes
    status: str
    advisories: Sequence[str] = ()
    sgx: bytes = bytes(16)
    pcesvn: int = 0


@dataclass(frozen=True, kw_only=True)
class Module:
    """Identity of the TDX module of one version: status and advisories by least ISVSVN, best first."""

    version: int
    levels: Sequence[tuple[int, str, Sequence[str]]]


def td_quote(sim: Platform, domain: TrustDomain, *, version: int = 5) -> bytes:
    """A quote of `domain`, signed by the quoting enclave of `sim`; version 4 has no body but that of TDX 1.0."""
    parts: list[QuoteParts] = []
    sim.quote(bytes(64), mutate=parts.append)
    (made,) = parts
    made.header.version, made.header.tee_type, made.header.qe_svn, made.header.pce_svn = version, _TDX, 0, 0
    body = domain.body()
    about = b"" if version == 4 else struct.pack("<HI", domain.body_type, len(body))
    signed = made.header.encode() + about + body
    qe_report = made.qe_report.encode()
    certified = b"".join(
        [
            qe_report,
            raw_signature(made.qe_report_signing_key, qe_report),
            struct.pack("<H", len(made.qe_auth_data)),
            made.qe_auth_data,
            struct.pack("<HI", 5, len(made.certification_data)),
            made.certification_data,
        ]
    )
    signature_data = b"".join(
        [
            raw_signature(made.report_signing_key, signed),
            raw_public_key(made.attestation_key),
            struct.pack("<HI", 6, len(certified)),
            certified,
        ]
    )
    return signed + struct.pack("<I", len(signature_data)) + signature_data


def td_collateral(sim: Platform, levels: Sequence[Level], modules: Sequence[Module] = ()) -> bytes:
    """Collateral for TDX on the platform of `sim`, signed as that for SGX is."""

    def tdx(text: str) -> str:
        document = json.loads(text)
        document["id"] = "TDX"
        document["tdxModule"] = _identity()
        document["tcbLevels"] = [_level(level) for level in levels]
        if modules:  # a family whose modules have no versions lists none
            document["tdxModuleIdentities"] = [_module(module) for module in modules]
        return json.dumps(document, separators=(",", ":"))

    return sim.collateral(
        alter_tcb_info=tdx, alter_qe_identity=lambda text: text.replace('"id":"QE"', '"id":"TD_QE"', 1)
    )


def _identity() -> dict[str, object]:
    return {"mrsigner": MRSIGNERSEAM.hex(), "attributes": "00" * 8, "attributesMask": "FF" * 8}


def _module(module: Module) -> dict[str, object]:
    rows = [_row({"isvsvn": isvsvn}, status, advisories) for isvsvn, status, advisories in module.levels]
    return {"id": f"TDX_{module.version:02x}", **_identity(), "tcbLevels": rows}


def _level(level: Level) -> dict[str, object]:
    tcb = {
        "sgxtcbcomponents": [{"svn": svn} for svn in level.sgx],
        "pcesvn": level.pcesvn,
        "tdxtcbcomponents": [{"svn": svn, "category": "OS/VMM", "type": "TDX Module"} for svn in level.tdx],
    }
    return _row(tcb, level.status, level.advisories)


def _row(tcb: dict[str, object], status: str, advisories: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {"tcb": tcb, "tcbDate": "2026-08-12T00:00:00Z", "tcbStatus": status}
    return {**row, "advisoryIDs": list(advisories)} if advisories else row
