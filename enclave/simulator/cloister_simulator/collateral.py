"""What Intel's provisioning certification service would say of a simulated platform, for enclaves or trust domains.

TCB info v3 and QE identity v2 are signed over exactly the JSON text that is published. The whole is one JSON object
with the QuoteCollateralV3 names: chains as PEM leaf first, CRLs as hex of DER, signatures as hex of r and s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from cloister_simulator.certificates import PlatformKeys, chain, pck_crl, root_crl
from cloister_simulator.recipe import Recipe, Window
from cloister_simulator.signature import raw_signature

AlterText = Callable[[str], str]
_QE_LEVEL_DATE = "2018-08-15T00:00:00Z"
_QE_OUT_OF_DATE_ADVISORY = "INTEL-SA-99002"  # a number Intel has not given to anything


def collateral_json(
    recipe: Recipe,
    keys: PlatformKeys,
    *,
    tdx: bool = False,
    alter_tcb_info: AlterText | None = None,
    alter_qe_identity: AlterText | None = None,
) -> bytes:
    """The collateral bundle of the platform.

    Args:
        recipe: The platform.
        keys: Its keys.
        tdx: For quotes about trust domains, rather than enclaves.
        alter_tcb_info: Changes the TCB info text before it is signed.
        alter_qe_identity: The same for the QE identity.

    Returns:
        UTF-8 JSON, one member a line.
    """
    tcb_text = _compact(td_tcb_info(recipe) if tdx else tcb_info(recipe))
    qe_text = _compact(td_qe_identity(recipe) if tdx else qe_identity(recipe))
    tcb_text = alter_tcb_info(tcb_text) if alter_tcb_info else tcb_text
    qe_text = alter_qe_identity(qe_text) if alter_qe_identity else qe_text
    members = {
        "pck_crl_issuer_chain": chain(recipe, keys, "platform_ca").decode(),
        "root_ca_crl": root_crl(recipe, keys).hex(),
        "pck_crl": pck_crl(recipe, keys).hex(),
        "tcb_info_issuer_chain": chain(recipe, keys, recipe.tcb_info_signer).decode(),
        "tcb_info": tcb_text,
        "tcb_info_signature": raw_signature(keys.of(recipe.tcb_info_signer), tcb_text.encode()).hex(),
        "qe_identity_issuer_chain": chain(recipe, keys, recipe.qe_identity_signer).decode(),
        "qe_identity": qe_text,
        "qe_identity_signature": raw_signature(keys.of(recipe.qe_identity_signer), qe_text.encode()).hex(),
    }
    return json.dumps(members, indent=0).encode()


def tcb_info(recipe: Recipe) -> dict[str, object]:
    """The TCB info: one level, the one this platform is at, with the recipe's status and advisories."""
    components = recipe.tcb_components if recipe.tcb_info_components is None else recipe.tcb_info_components
    pcesvn = recipe.pcesvn if recipe.tcb_info_pcesvn is None else recipe.tcb_info_pcesvn
    fmspc = recipe.fmspc if recipe.tcb_info_fmspc is None else recipe.tcb_info_fmspc
    pceid = recipe.pceid if recipe.tcb_info_pceid is None else recipe.tcb_info_pceid
    tcb = {"sgxtcbcomponents": [{"svn": svn} for svn in components], "pcesvn": pcesvn}
    return {
        "id": recipe.tcb_info_id,
        "version": recipe.tcb_info_version,
        **_dates(recipe.tcb_info_window or recipe.window),
        "fmspc": fmspc.hex().upper(),
        "pceId": pceid.hex().upper(),
        "tcbType": recipe.tcb_info_type,
        "tcbEvaluationDataNumber": recipe.tcb_evaluation,
        "tcbLevels": [_level(tcb, recipe.tcb_date, recipe.tcb_status, recipe.advisory_ids)],
    }


def td_tcb_info(recipe: Recipe) -> dict[str, object]:
    """The TCB info for trust domains: a second row of components, and the TDX modules that Intel vouches for."""
    document = tcb_info(recipe)
    module = {
        "mrsigner": recipe.tdx_module_mrsigner.hex().upper(),
        "attributes": "00" * 8,
        "attributesMask": "FF" * 8,
    }
    levels = [
        _level(
            {"isvsvn": recipe.tdx_module_isvsvn},
            recipe.tcb_date,
            recipe.tdx_module_status,
            recipe.tdx_module_advisory_ids,
        )
    ]
    components = [{"svn": svn, "category": "OS/VMM", "type": "TDX Module"} for svn in recipe.tdx_components]
    (level,) = cast(list[dict[str, dict[str, object]]], document["tcbLevels"])
    level["tcb"]["tdxtcbcomponents"] = components
    return {
        **document,
        "id": "TDX",
        "tdxModule": module,
        "tdxModuleIdentities": [{"id": f"TDX_{recipe.tdx_module_version:02x}", **module, "tcbLevels": levels}],
    }


def td_qe_identity(recipe: Recipe) -> dict[str, object]:
    """The identity of the enclave that quotes trust domains."""
    return {**qe_identity(recipe), "id": "TD_QE", "isvprodid": recipe.td_qe_isvprodid}


def qe_identity(recipe: Recipe) -> dict[str, object]:
    """The QE identity: which quoting enclave is known, and how its ISVSVN is judged."""
    evaluation = recipe.qe_identity_evaluation
    return {
        "id": "QE",
        "version": 2,
        **_dates(recipe.qe_identity_window or recipe.window),
        "tcbEvaluationDataNumber": recipe.tcb_evaluation if evaluation is None else evaluation,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": recipe.qe_identity_mrsigner.hex().upper(),
        "isvprodid": recipe.qe_identity_isvprodid,
        "tcbLevels": [
            _level({"isvsvn": 8}, recipe.tcb_date, recipe.qe_status, recipe.qe_advisory_ids),
            _level({"isvsvn": 5}, _QE_LEVEL_DATE, "OutOfDate", [_QE_OUT_OF_DATE_ADVISORY]),
            _level({"isvsvn": 1}, _QE_LEVEL_DATE, "Revoked", ()),
        ],
    }


def _level(tcb: Mapping[str, object], date: str, status: str, advisory_ids: Sequence[str]) -> dict[str, object]:
    level: dict[str, object] = {"tcb": tcb, "tcbDate": date, "tcbStatus": status}
    if advisory_ids:
        level["advisoryIDs"] = list(advisory_ids)
    return level


def _dates(window: Window) -> dict[str, str]:
    return {"issueDate": _timestamp(window.issued_at), "nextUpdate": _timestamp(window.next_update)}


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _compact(document: Mapping[str, object]) -> str:
    return json.dumps(document, separators=(",", ":"))
