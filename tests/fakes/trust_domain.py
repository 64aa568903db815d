"""Quotes and collateral of trust domains (TDs) with more in them than the simulator has: levels, modules, versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cloister_simulator.platform import Platform
from cloister_simulator.trust_domain import TrustDomain

__all__ = ["Level", "Module", "TrustDomain", "td_collateral", "td_quote"]


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
    """A quote of `domain` over nothing, signed by the quoting enclave of `sim`."""
    return sim.td_quote(bytes(64), domain, version=version)


def td_collateral(sim: Platform, levels: Sequence[Level], modules: Sequence[Module] = ()) -> bytes:
    """Collateral for TDX on the platform of `sim`, with these levels and modules in the place of its own."""

    def altered(text: str) -> str:
        document = json.loads(text)
        document["tcbLevels"] = [_level(level) for level in levels]
        identity = document["tdxModule"]
        del document["tdxModuleIdentities"]
        if modules:  # a family whose modules have no versions lists none
            document["tdxModuleIdentities"] = [_module(module, identity) for module in modules]
        return json.dumps(document, separators=(",", ":"))

    return sim.collateral(tdx=True, alter_tcb_info=altered)


def _module(module: Module, identity: dict[str, object]) -> dict[str, object]:
    rows = [_row({"isvsvn": isvsvn}, status, advisories) for isvsvn, status, advisories in module.levels]
    return {"id": f"TDX_{module.version:02x}", **identity, "tcbLevels": rows}


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
