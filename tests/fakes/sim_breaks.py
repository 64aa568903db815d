"""Every way to break a simulated platform by one field, and who must object.

`library` is what dcap-qvl says, or None where it accepts; `step` and `reason` are what our own appraisal says under its
default policy, with step 0 where the collateral does not even parse. One table, so that both look at every break.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cloister_simulator.platform import Platform
from cloister_simulator.recipe import (
    ATTRIBUTE_DEBUG,
    ATTRIBUTE_EINITTOKEN_KEY,
    ATTRIBUTE_INIT,
    ATTRIBUTE_KSS,
    ATTRIBUTE_MODE64BIT,
    ATTRIBUTE_PROVISION_KEY,
    Window,
    attributes,
)

ORDINARY = ATTRIBUTE_INIT | ATTRIBUTE_MODE64BIT
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Break:
    """One thing broken in a platform that is otherwise wholly valid."""

    fields: Mapping[str, Any] | Callable[[datetime], Mapping[str, Any]]
    library: str | None
    step: int
    reason: str

    def apply(self, sim: Platform, now: datetime) -> None:
        """Break `sim` as seen at `now`."""
        for name, value in (self.fields(now) if callable(self.fields) else self.fields).items():
            setattr(sim, name, value)


def past(now: datetime) -> Window:
    return Window(issued_at=now - 60 * DAY, next_update=now - SECOND)


def future(now: datetime) -> Window:
    return Window(issued_at=now + SECOND, next_update=now + 60 * DAY)


BREAKS: dict[str, Break] = {
    # Collateral and certificates
    "tcb status unknown": Break(
        fields={"tcb_status": "Fine"}, library="unknown variant", step=0, reason="collateral.malformed"
    ),
    "15 components": Break(
        fields={"tcb_info_components": (0,) * 15}, library="component count", step=0, reason="collateral.malformed"
    ),
    "tcb info version": Break(fields={"tcb_info_version": 9}, library=None, step=0, reason="collateral.unsupported"),
    "tcb type": Break(fields={"tcb_info_type": 9}, library=None, step=0, reason="collateral.unsupported"),
    "tcb info of tdx": Break(
        fields={"tcb_info_id": "TDX"}, library="non-SGX TCB info", step=0, reason="collateral.malformed"
    ),
    "other fmspc": Break(
        fields={"tcb_info_fmspc": bytes(6)}, library="(?i)fmspc", step=2, reason="collateral.mismatched"
    ),
    "other pceid": Break(fields={"tcb_info_pceid": b"\0\1"}, library=None, step=2, reason="collateral.mismatched"),
    "tcb info expired": Break(
        fields=lambda now: {"tcb_info_window": past(now)},
        library="TCBInfo expired",
        step=2,
        reason="collateral.expired",
    ),
    "tcb info from the future": Break(
        fields=lambda now: {"tcb_info_window": future(now)},
        library="in the future",
        step=2,
        reason="collateral.not_yet_valid",
    ),
    "qe identity expired": Break(
        fields=lambda now: {"qe_identity_window": past(now)},
        library="expired",
        step=2,
        reason="collateral.expired",
    ),
    "tcb info signed by the pck": Break(
        fields={"tcb_info_signer": "pck"}, library=None, step=2, reason="certificate.role_mismatched"
    ),
    "qe identity signed by the pck": Break(
        fields={"qe_identity_signer": "pck"}, library=None, step=2, reason="certificate.role_mismatched"
    ),
    "tcb signer of another role": Break(
        fields={"tcb_signing_subject": "Intel SGX Attestation Report Signing"},
        library=None,
        step=2,
        reason="certificate.role_mismatched",
    ),
    "pck of another role": Break(
        fields={"pck_subject": "Intel SGX TCB Signing"}, library=None, step=2, reason="certificate.role_mismatched"
    ),
    "pck not of the platform ca": Break(fields={"pck_signer": "root"}, library=None, step=2, reason="chain.broken"),
    "platform ca is no ca": Break(
        fields={"platform_ca_is_ca": False}, library="EndEntityUsedAsCa", step=2, reason="chain.broken"
    ),
    "pck crl expired": Break(
        fields=lambda now: {"pck_crl_window": past(now)}, library="CrlExpired", step=2, reason="crl.expired"
    ),
    "root crl expired": Break(
        fields=lambda now: {"root_crl_window": past(now)}, library="CrlExpired", step=2, reason="crl.expired"
    ),
    "pck crl from the future": Break(
        fields=lambda now: {"pck_crl_window": future(now)}, library=None, step=2, reason="crl.expired"
    ),
    "pck crl forged": Break(
        fields={"pck_crl_signer": "pck"}, library="InvalidCrlSignature", step=2, reason="crl.signature_broken"
    ),
    "root crl forged": Break(
        fields={"root_crl_signer": "platform_ca"}, library="InvalidCrlSignature", step=2, reason="crl.signature_broken"
    ),
    "pck revoked": Break(fields={"revoked": {"pck"}}, library="CertRevoked", step=2, reason="certificate.revoked"),
    "platform ca revoked": Break(
        fields={"revoked": {"platform_ca"}}, library="CertRevoked", step=2, reason="certificate.revoked"
    ),
    "tcb signer revoked": Break(
        fields={"revoked": {"tcb_signing"}}, library="CertRevoked", step=2, reason="certificate.revoked"
    ),
    "pck expired": Break(
        fields=lambda now: {"pck_not_after": now - SECOND},
        library="CertExpired",
        step=2,
        reason="certificate.expired",
    ),
    "platform ca expired": Break(
        fields=lambda now: {"platform_ca_not_after": now - SECOND},
        library="CertExpired",
        step=2,
        reason="certificate.expired",
    ),
    "tcb signer expired": Break(
        fields=lambda now: {"tcb_signing_not_after": now - SECOND},
        library="CertExpired",
        step=2,
        reason="certificate.expired",
    ),
    # The quoting enclave
    "qe report signed by another": Break(
        fields={"qe_report_signer": "tcb_signing"}, library="qe_report", step=3, reason="qe_report.signature_broken"
    ),
    "qe auth data empty": Break(
        fields={"qe_auth_data": b""}, library="auth data", step=3, reason="qe_auth_data.malformed"
    ),
    "qe auth data of 64 bytes": Break(
        fields={"qe_auth_data": bytes(64)}, library="auth data", step=3, reason="qe_auth_data.malformed"
    ),
    "qe report data padding": Break(
        fields={"qe_report_data_padding": b"\1" + bytes(31)}, library=None, step=3, reason="qe_report.data_mismatched"
    ),
    "qe of another signer": Break(
        fields={"qe_mrsigner": bytes(32)}, library="QE MRSIGNER", step=3, reason="qe_identity.mismatched"
    ),
    "qe of another product": Break(
        fields={"qe_isvprodid": 2}, library="QE ISVPRODID", step=3, reason="qe_identity.mismatched"
    ),
    "qe in debug mode": Break(
        fields={"qe_attributes": attributes(ORDINARY | ATTRIBUTE_PROVISION_KEY | ATTRIBUTE_DEBUG)},
        library="Debug mode",
        step=3,
        reason="qe_identity.mismatched",
    ),
    "qe without its key": Break(
        fields={"qe_attributes": attributes(ORDINARY)},
        library="(?i)attributes",
        step=3,
        reason="qe_identity.mismatched",
    ),
    "qe below all levels": Break(
        fields={"qe_isvsvn": 0}, library="below minimum", step=3, reason="qe_identity.level_missing"
    ),
    # The platform's patch level
    "tcb revoked": Break(fields={"tcb_status": "Revoked"}, library="Revoked", step=6, reason="tcb.revoked"),
    "qe revoked": Break(fields={"qe_isvsvn": 1}, library="Revoked", step=6, reason="tcb.revoked"),
    "no tcb level": Break(
        fields={"tcb_info_components": (255,) * 16},
        library="No matching TCB level",
        step=6,
        reason="tcb.level_missing",
    ),
    "no tcb level by pcesvn": Break(
        fields={"tcb_info_pcesvn": 14}, library="No matching TCB level", step=6, reason="tcb.level_missing"
    ),
    "out of date": Break(fields={"tcb_status": "OutOfDate"}, library=None, step=7, reason="tcb_status.refused"),
    "qe out of date": Break(fields={"qe_isvsvn": 7}, library=None, step=7, reason="tcb_status.refused"),
    "configuration needed": Break(
        fields={"tcb_status": "ConfigurationNeeded"}, library=None, step=7, reason="tcb_status.refused"
    ),
    "another advisory": Break(
        fields={"tcb_status": "SWHardeningNeeded", "advisory_ids": ("INTEL-SA-99003",)},
        library=None,
        step=7,
        reason="advisory.refused",
    ),
    # The quote header
    "header version": Break(fields={"quote_version": 2}, library="(?i)version", step=1, reason="quote.unsupported"),
    "attestation key type": Break(
        fields={"attestation_key_type": 3}, library="(?i)key type", step=1, reason="quote.unsupported"
    ),
    "tee type": Break(fields={"tee_type": 0x81}, library="TEE type", step=1, reason="quote.unsupported"),
    "qe vendor": Break(fields={"qe_vendor_id": bytes(16)}, library="vendor", step=1, reason="qe_vendor.unknown"),
    "certification type": Break(
        fields={"certification_type": 3}, library="(?i)cert", step=1, reason="pck_chain.missing"
    ),
    # The enclave
    "enclave in debug mode": Break(fields={"debug": True}, library="Debug mode", step=7, reason="enclave.debug"),
    "provision key": Break(
        fields={"attributes": attributes(ORDINARY | ATTRIBUTE_PROVISION_KEY)},
        library=None,
        step=7,
        reason="attributes.refused",
    ),
    "launch key": Break(
        fields={"attributes": attributes(ORDINARY | ATTRIBUTE_EINITTOKEN_KEY)},
        library=None,
        step=7,
        reason="attributes.refused",
    ),
    "not initialised": Break(
        fields={"attributes": attributes(ATTRIBUTE_MODE64BIT)}, library=None, step=7, reason="attributes.refused"
    ),
    "unknown processor state": Break(
        fields={"attributes": attributes(ORDINARY, xfrm=0x8003)}, library=None, step=7, reason="attributes.refused"
    ),
    "unknown miscselect": Break(fields={"misc_select": 2}, library=None, step=7, reason="attributes.refused"),
    "configid not pinned": Break(
        fields={"attributes": attributes(ORDINARY | ATTRIBUTE_KSS), "config_id": b"c" * 64, "config_svn": 4},
        library=None,
        step=7,
        reason="kss.unpinned",
    ),
}
