"""What a quote says, by the names of its fields, for people and scripts. Anybody can write such bytes: no proof."""

from __future__ import annotations

from cloister.appraisal.body import EnclaveFlags, EnclaveReport, TdFlags, TdReport
from cloister.appraisal.quote import parse_quote
from cloister.errors import EvidenceRejected


def quote_facts(raw_quote: bytes) -> dict[str, object] | None:
    """Fields of a quote, bytes in hex, attributes by name; None for bytes that are no quote we know.

    Fields that name a configuration or an owner are left out where they are zero, which means that none is named.
    """
    try:
        quote = parse_quote(raw_quote)
    except EvidenceRejected:
        return None
    about = _enclave(quote.body) if isinstance(quote.body, EnclaveReport) else _trust_domain(quote.body)
    return {
        "tee": quote.tee.value,
        "version": quote.version,
        **about,
        "report_data": quote.body.report_data.hex(),
        "padding_bytes": quote.padding_bytes,
    }


def _enclave(report: EnclaveReport) -> dict[str, object]:
    return {
        "mrenclave": report.mrenclave.hex(),
        "mrsigner": report.mrsigner.hex(),
        "isvprodid": report.isvprodid,
        "isvsvn": report.isvsvn,
        "debug": report.debug,
        "attributes": _names(report),
        "xfrm": f"{report.xfrm:#x}",
        "miscselect": f"{report.miscselect:#x}",
        **_named(config_id=report.config_id, ext_prod_id=report.ext_prod_id, family_id=report.family_id),
        **({"config_svn": report.config_svn} if report.config_svn else {}),
    }


def _trust_domain(report: TdReport) -> dict[str, object]:
    return {
        "td_measurement": report.measurement.digest.hex(),
        "mrtd": report.mrtd.hex(),
        **{f"rtmr{n}": value.hex() for n, value in enumerate(report.rtmrs)},
        "mrseam": report.mrseam.hex(),
        **_named(
            mrsignerseam=report.mrsignerseam,
            mrconfigid=report.mrconfigid,
            mrowner=report.mrowner,
            mrownerconfig=report.mrownerconfig,
        ),
        "debug": report.debug,
        "attributes": _names(report),
        "xfam": f"{report.xfam:#x}",
        "service_td": any(any(value) for value in report.service_td_hashes),
    }


def _named(**fields: bytes) -> dict[str, object]:
    return {name: value.hex() for name, value in fields.items() if any(value)}


def _names(report: EnclaveReport | TdReport) -> list[str]:
    """Names of the attributes that are set, and those without a name as one number."""
    known = list(EnclaveFlags) if isinstance(report, EnclaveReport) else list(TdFlags)
    names = [str(flag.name) for flag in known if report.flags & flag]
    rest = report.flags & ~sum(known)
    return [*names, f"{rest:#x}"] if rest else names
