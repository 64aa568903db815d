"""What a file of collateral is about, in words for a person and in JSON for a script."""

from __future__ import annotations

from datetime import datetime

from cloister.cli.output import facts, say, table, warn
from cloister.client.collateral_bundles import CollateralFacts, CollateralSummary


def print_summary(summary: CollateralSummary) -> None:
    """A few lines about the file, and a row for each platform family."""
    if summary.version is None:
        say("collateral of one platform family, in no bundle: signed by nobody but whoever published it")
    else:
        issued = _day(summary.issued_at) if summary.issued_at else "-"
        signers = ", ".join(sorted(summary.signers)) or "nobody"
        facts({"bundle": f"version {summary.version}, of {issued}", "signed by": signers})
    table(
        ("tee", "fmspc", "ca", "evaluation", "tcb info", "qe identity", "pck crl", "revoked", "good until"),
        [_row(one) for one in summary.families],
    )
    for one in summary.families:
        if one.refusal is not None:
            warn(f"{one.tee} {one.fmspc} {one.ca}: {one.refusal} ({one.refusal.reason})")


def plain_summary(summary: CollateralSummary) -> dict[str, object]:
    """The same for a script; times in ISO 8601."""
    return {
        "version": summary.version,
        "issued_at": summary.issued_at.isoformat() if summary.issued_at else None,
        "signers": sorted(summary.signers),
        "families": [_plain(one) for one in summary.families],
    }


def _row(one: CollateralFacts) -> tuple[object, ...]:
    same = one.tcb_evaluation == one.qe_evaluation
    return (
        one.tee,
        one.fmspc,
        one.ca,
        one.tcb_evaluation if same else f"{one.tcb_evaluation}, QE {one.qe_evaluation}",
        _days(one.tcb_info),
        _days(one.qe_identity),
        _days(one.pck_crl),
        "-" if one.revoked is None else one.revoked,
        _day(one.valid_until) if one.valid_until else "not now",
    )


def _plain(one: CollateralFacts) -> dict[str, object]:
    return {
        "tee": one.tee,
        "fmspc": one.fmspc,
        "ca": one.ca,
        "tcb_evaluation": one.tcb_evaluation,
        "qe_evaluation": one.qe_evaluation,
        "tcb_info": _times(one.tcb_info),
        "qe_identity": _times(one.qe_identity),
        "pck_crl": _times(one.pck_crl),
        "root_crl": _times(one.root_crl),
        "revoked": one.revoked,
        "valid_until": one.valid_until.isoformat() if one.valid_until else None,
        "reason": one.refusal.reason if one.refusal else None,
    }


def _times(window: tuple[datetime, datetime] | None) -> dict[str, str] | None:
    return {"issued_at": window[0].isoformat(), "next_update": window[1].isoformat()} if window else None


def _days(window: tuple[datetime, datetime] | None) -> str:
    return f"{window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}" if window else "-"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
