"""Reference values and platforms, as a policy file writes them."""

from __future__ import annotations

from typing import Final

from cloister.appraisal.body import TdFlags
from cloister.appraisal.reference import Kss, PlatformMode, PlatformRule, ReferenceValue, TdReferenceValue
from cloister.appraisal.toml_table import Table, octets, wrong

_MEASUREMENT_BYTES: Final = 48
_RTMRS: Final = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")
_TD_FEATURES: Final = {
    str(flag.name): int(flag) for flag in (TdFlags.ICSSD, TdFlags.LASS, TdFlags.PKS, TdFlags.KL, TdFlags.PERFMON)
}
_MAX_TOML_INTEGER: Final = (1 << 63) - 1


def read_reference_value(row: Table) -> ReferenceValue:
    """Read one of `[[reference_values]]`: an enclave, or the enclaves of a signer.

    Raises:
        InvalidRequest: Reason `policy.malformed`; the message names the key.
    """
    nothing = Kss()
    value = ReferenceValue(
        mrenclave=row.octets("mrenclave", 32) if "mrenclave" in row else None,
        mrsigner=row.octets("mrsigner", 32) if "mrsigner" in row else None,
        isvprodid=row.integer("isvprodid", 0xFFFF) if "isvprodid" in row else None,
        minimum_isvsvn=row.integer("minimum_isvsvn", 0xFFFF) if "minimum_isvsvn" in row else None,
        kss=Kss(
            config_id=row.octets("config_id", 64) if "config_id" in row else nothing.config_id,
            config_svn=row.integer("config_svn", 0xFFFF) if "config_svn" in row else nothing.config_svn,
            ext_prod_id=row.octets("ext_prod_id", 16) if "ext_prod_id" in row else nothing.ext_prod_id,
            family_id=row.octets("family_id", 16) if "family_id" in row else nothing.family_id,
        ),
    )
    row.finish()
    return value


def read_td_reference_value(row: Table) -> TdReferenceValue:
    """Read one of `[[td_reference_values]]`: a trust domain.

    Raises:
        InvalidRequest: Reason `policy.malformed`; the message names the key.
    """

    def measured(key: str) -> bytes:
        return row.octets(key, _MEASUREMENT_BYTES) if key in row else bytes(_MEASUREMENT_BYTES)

    rtmr0, rtmr1, rtmr2, rtmr3 = (measured(key) for key in _RTMRS)
    value = TdReferenceValue(
        mrtd=row.octets("mrtd", _MEASUREMENT_BYTES),
        rtmrs=(rtmr0, rtmr1, rtmr2, rtmr3),
        mrconfigid=measured("mrconfigid"),
        mrowner=measured("mrowner"),
        mrownerconfig=measured("mrownerconfig"),
        attributes=_td_attributes(row) if "attributes" in row else int(TdFlags.SEPT_VE_DISABLE),
        xfam=row.integer("xfam", _MAX_TOML_INTEGER, least=3) if "xfam" in row else None,
        mrseam=row.octets("mrseam", _MEASUREMENT_BYTES) if "mrseam" in row else None,
        mrsignerseam=row.octets("mrsignerseam", _MEASUREMENT_BYTES) if "mrsignerseam" in row else None,
    )
    row.finish()
    return value


def _td_attributes(row: Table) -> int:
    """Attributes by name; SEPT_VE_DISABLE need not be named, since no TD is believed without it."""
    names = set(row.strings("attributes")) - {TdFlags.SEPT_VE_DISABLE.name}
    if not names <= _TD_FEATURES.keys():
        raise wrong(row.name("attributes"), f"a list of SEPT_VE_DISABLE, {', '.join(_TD_FEATURES)}; no other will do")
    return int(TdFlags.SEPT_VE_DISABLE) + sum(_TD_FEATURES[name] for name in names)


def read_platforms(table: Table) -> PlatformRule:
    """Read `[platforms]`.

    Raises:
        InvalidRequest: Reason `policy.malformed`; the message names the key.
    """
    mode = table.take("mode")
    if not isinstance(mode, str) or mode not in list(PlatformMode):
        raise wrong("platforms.mode", "off or enforce")
    if "allow" in table and mode != PlatformMode.ENFORCE:
        raise wrong("platforms.allow", "of any effect unless platforms.mode is enforce")
    rule = PlatformRule(
        mode=PlatformMode(mode),
        allow=_platform_ids(table, "allow", least=0) if "allow" in table else frozenset(),
        deny=_platform_ids(table, "deny", least=1) if "deny" in table else frozenset(),
    )
    table.finish()
    return rule


def _platform_ids(table: Table, key: str, *, least: int) -> frozenset[bytes]:
    return frozenset(octets(text, table.name(key), 16) for text in table.strings(key, least=least))
