"""A good platform is believed by a verifier that knows nothing of us, and each thing broken is seen by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dcap_qvl
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloister_simulator.platform import Platform
from cloister_simulator.quote import QuoteParts
from cloister_simulator.recipe import (
    ATTRIBUTE_DEBUG,
    ATTRIBUTE_INIT,
    ATTRIBUTE_MODE64BIT,
    INTEL_QE_VENDOR_ID,
    QE_ATTRIBUTES,
    Window,
    attributes,
)
from fakes.sim import library_verdict, simulated_platform

NOW = datetime(2026, 11, 22, 12, 30, 15, tzinfo=UTC)
REPORT_DATA = bytes(range(64))


@pytest.fixture
def sim() -> Platform:
    return simulated_platform(NOW)


def test_a_good_platform_is_up_to_date(sim: Platform) -> None:
    assert library_verdict(sim, now=NOW) == ("UpToDate", [])


def test_the_default_dates_are_the_present() -> None:
    assert library_verdict(simulated_platform()) == ("UpToDate", [])


def test_intels_own_root_does_not_vouch_for_it(sim: Platform) -> None:
    bundle = dcap_qvl.QuoteCollateralV3.from_json(sim.collateral().decode())
    with pytest.raises(ValueError, match="Verification failed"):
        dcap_qvl.verify(sim.quote(REPORT_DATA), bundle, int(NOW.timestamp()))


def test_another_simulators_root_does_not_vouch_for_it(sim: Platform) -> None:
    other = Platform.generate(NOW)
    with pytest.raises(ValueError, match="Verification failed"):
        library_verdict(sim, quote=other.quote(REPORT_DATA), collateral=other.collateral(), now=NOW)


@pytest.mark.parametrize(
    "status",
    [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    ],
)
def test_the_status_is_the_one_the_recipe_names(sim: Platform, status: str) -> None:
    sim.tcb_level = status
    sim.advisory_ids = ["INTEL-SA-00615"]
    assert sim.tcb_status == status
    assert library_verdict(sim, now=NOW) == (status, ["INTEL-SA-00615"])


def test_an_old_quoting_enclave_makes_the_platform_out_of_date(sim: Platform) -> None:
    sim.qe_isvsvn = 7
    assert library_verdict(sim, now=NOW) == ("OutOfDate", ["INTEL-SA-99002"])


def test_quotes_say_what_they_were_asked_to(sim: Platform) -> None:
    raw = sim.quote(
        REPORT_DATA,
        mrenclave=b"e" * 32,
        mrsigner=b"s" * 32,
        isvprodid=515,
        isvsvn=4,
        attributes=attributes(ATTRIBUTE_INIT, xfrm=3),
    )
    report = dcap_qvl.parse_quote(raw).report
    assert report.report_data == REPORT_DATA
    assert report.mr_enclave == b"e" * 32
    assert report.mr_signer == b"s" * 32
    assert raw[48 + 256 : 48 + 260] == b"\x03\x02\x04\x00"  # ISVPRODID, ISVSVN
    assert report.attributes == attributes(ATTRIBUTE_INIT, xfrm=3)


def test_every_report_field_of_the_recipe_reaches_the_quote(sim: Platform) -> None:
    sim.misc_select, sim.config_svn, sim.isvprodid, sim.isvsvn = 1, 2, 3, 4
    sim.config_id, sim.family_id, sim.extended_product_id = b"c" * 64, b"f" * 16, b"x" * 16
    sim.cpusvn, sim.debug = b"v" * 16, True
    report = sim.quote(REPORT_DATA)[48:432]
    assert report[:20] == b"v" * 16 + b"\x01\0\0\0"
    assert report[32:48] == b"x" * 16
    assert report[48:64] == attributes(ATTRIBUTE_INIT | ATTRIBUTE_MODE64BIT | ATTRIBUTE_DEBUG)
    assert report[192:262] == b"c" * 64 + b"\x03\0\x04\0\x02\0"
    assert report[304:320] == b"f" * 16


def test_a_field_of_the_wrong_length_is_not_padded_in_silence(sim: Platform) -> None:
    with pytest.raises(ValueError, match="report_data has 64 bytes"):
        sim.quote(REPORT_DATA[:-1])
    with pytest.raises(ValueError, match="mrenclave has 32 bytes"):
        sim.quote(REPORT_DATA, mrenclave=bytes(33))


def test_a_misspelt_break_is_not_silent(sim: Platform) -> None:
    with pytest.raises(AttributeError):
        sim.tcb_stauts = "OutOfDate"


def test_copies_share_the_root_and_nothing_that_changes(sim: Platform) -> None:
    broken = sim.copy()
    broken.tcb_status = "Revoked"
    broken.revoked.add("pck")
    assert broken.root_der() == sim.root_der()
    assert library_verdict(sim, now=NOW) == ("UpToDate", [])


def test_keys_are_not_in_the_repr(sim: Platform) -> None:
    assert "PrivateKey" not in repr(sim)
    assert "PrivateKey" not in repr(sim.keys)
    seen: list[str] = []
    sim.quote(REPORT_DATA, mutate=lambda parts: seen.append(repr(parts)))
    assert seen
    assert "Key" not in seen[0]


def set_to(**changes: object) -> Callable[[Platform], None]:
    """A break that sets fields of the recipe."""

    def change(sim: Platform) -> None:
        for name, value in changes.items():
            setattr(sim, name, value)

    return change


PAST = Window(issued_at=NOW - timedelta(days=60), next_update=NOW - timedelta(seconds=1))
FUTURE = Window(issued_at=NOW + timedelta(seconds=1), next_update=NOW + timedelta(days=60))
LIBRARY_OBJECTS = {
    "tcb revoked": (set_to(tcb_status="Revoked"), "Revoked"),
    "tcb status unknown": (set_to(tcb_status="Fine"), "unknown variant"),
    "no tcb level": (set_to(tcb_info_components=(255,) * 16), "No matching TCB level"),
    "no tcb level by pcesvn": (set_to(tcb_info_pcesvn=14), "No matching TCB level"),
    "15 components": (set_to(tcb_info_components=(0,) * 15), "component count"),
    "other fmspc": (set_to(tcb_info_fmspc=bytes(6)), "[Ff]mspc|FMSPC"),
    "tcb info of tdx": (set_to(tcb_info_id="TDX"), "non-SGX TCB info"),
    "tcb info expired": (set_to(tcb_info_window=PAST), "TCBInfo expired"),
    "tcb info from the future": (set_to(tcb_info_window=FUTURE), "in the future"),
    "qe identity expired": (set_to(qe_identity_window=PAST), "expired"),
    "pck crl expired": (set_to(pck_crl_window=PAST), "CrlExpired"),
    "root crl expired": (set_to(root_crl_window=PAST), "CrlExpired"),
    "pck crl forged": (set_to(pck_crl_signer="pck"), "InvalidCrlSignature"),
    "root crl forged": (set_to(root_crl_signer="platform_ca"), "InvalidCrlSignature"),
    "pck revoked": (set_to(revoked={"pck"}), "CertRevoked"),
    "platform ca revoked": (set_to(revoked={"platform_ca"}), "CertRevoked"),
    "tcb signer revoked": (set_to(revoked={"tcb_signing"}), "CertRevoked"),
    "pck expired": (set_to(pck_not_after=NOW - timedelta(seconds=1)), "CertExpired"),
    "platform ca expired": (set_to(platform_ca_not_after=NOW - timedelta(seconds=1)), "CertExpired"),
    "tcb signer expired": (set_to(tcb_signing_not_after=NOW - timedelta(seconds=1)), "CertExpired"),
    "platform ca is no ca": (set_to(platform_ca_is_ca=False), "EndEntityUsedAsCa"),
    "qe revoked": (set_to(qe_isvsvn=1), "Revoked"),
    "qe below all levels": (set_to(qe_isvsvn=0), "below minimum"),
    "qe of another signer": (set_to(qe_mrsigner=bytes(32)), "QE MRSIGNER"),
    "qe of another product": (set_to(qe_isvprodid=2), "QE ISVPRODID"),
    "qe in debug mode": (set_to(qe_attributes=attributes(ATTRIBUTE_DEBUG)), "Debug|ATTRIBUTES"),
    "qe without its key": (set_to(qe_attributes=attributes(ATTRIBUTE_INIT)), "(?i)attributes"),
    "qe auth data empty": (set_to(qe_auth_data=b""), "auth data"),
    "qe report signed by another": (set_to(qe_report_signer="tcb_signing"), "qe_report"),
    "enclave in debug mode": (set_to(debug=True), "Debug mode"),
    "header version": (set_to(quote_version=2), "(?i)version"),
    "attestation key type": (set_to(attestation_key_type=3), "(?i)key type"),
    "tee type": (set_to(tee_type=0x81), "TEE type"),
    "qe vendor": (set_to(qe_vendor_id=bytes(16)), "vendor"),
    "certification type": (set_to(certification_type=3), "(?i)cert"),
}


@pytest.mark.parametrize("name", LIBRARY_OBJECTS)
def test_one_thing_broken_is_refused(sim: Platform, name: str) -> None:
    break_it, message = LIBRARY_OBJECTS[name]
    break_it(sim)
    with pytest.raises(ValueError, match=message):
        library_verdict(sim, now=NOW)


LIBRARY_IS_LAX = {
    "tcb info signed by the pck": set_to(tcb_info_signer="pck"),
    "qe identity signed by the pck": set_to(qe_identity_signer="pck"),
    "tcb signer of another role": set_to(tcb_signing_subject="Intel SGX Attestation Report Signing"),
    "pck of another role": set_to(pck_subject="Intel SGX TCB Signing"),
    "other pceid": set_to(tcb_info_pceid=b"\0\1"),
    "tcb info version": set_to(tcb_info_version=9),
    "tcb type": set_to(tcb_info_type=9),
    "qe report data padding": set_to(qe_report_data_padding=b"\1" + bytes(31)),
}


@pytest.mark.parametrize("name", LIBRARY_IS_LAX)
def test_what_only_a_stricter_verifier_refuses_is_otherwise_whole(sim: Platform, name: str) -> None:
    LIBRARY_IS_LAX[name](sim)
    assert library_verdict(sim, now=NOW) == ("UpToDate", [])


def another_attestation_key(parts: QuoteParts) -> None:
    parts.attestation_key = parts.report_signing_key = ec.generate_private_key(ec.SECP256R1())


def another_signing_key(parts: QuoteParts) -> None:
    parts.report_signing_key = ec.generate_private_key(ec.SECP256R1())


def other_certificates(parts: QuoteParts) -> None:
    parts.certification_data = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (another_attestation_key, "QE report hash mismatch"),
        (another_signing_key, "report signature is invalid"),
        (other_certificates, "Verification failed"),
    ],
)
def test_parts_can_be_changed_before_they_are_signed(
    sim: Platform, mutate: Callable[[QuoteParts], None], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        library_verdict(sim, quote=sim.quote(REPORT_DATA, mutate=mutate), now=NOW)


@pytest.mark.parametrize("offset", [20, 48, 112, 176, 368, 440, 500, 600, 1020, 1100])
def test_one_bit_flipped_is_refused(sim: Platform, offset: int) -> None:
    raw = bytearray(sim.quote(REPORT_DATA))
    raw[offset] ^= 1
    with pytest.raises(ValueError, match="Verification failed"):
        library_verdict(sim, quote=bytes(raw), now=NOW)


def test_an_intermediate_of_another_curve_is_refused(sim: Platform) -> None:
    sim.keys = replace(sim.keys, platform_ca=ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(ValueError, match="UnsupportedSignatureAlgorithm"):
        library_verdict(sim, now=NOW)


def test_texts_can_be_changed_before_they_are_signed(sim: Platform) -> None:
    doubled = sim.collateral(alter_tcb_info=lambda text: text.replace('"version":3', '"version":3,"version":3'))
    with pytest.raises(ValueError, match="duplicate field"):
        library_verdict(sim, collateral=doubled, now=NOW)
    of_td = sim.collateral(alter_qe_identity=lambda text: text.replace('"id":"QE"', '"id":"TD_QE"'))
    with pytest.raises(ValueError, match="Verification failed"):
        library_verdict(sim, collateral=of_td, now=NOW)


def test_a_text_changed_after_it_was_signed_is_refused(sim: Platform) -> None:
    bundle = json.loads(sim.collateral())
    bundle["tcb_info"] = bundle["tcb_info"].replace('"id":"SGX"', '"id": "SGX"')
    with pytest.raises(ValueError, match="Signature is invalid for tcb_info"):
        library_verdict(sim, collateral=json.dumps(bundle).encode(), now=NOW)


def test_the_vendor_is_the_one_real_quotes_name(sim: Platform) -> None:
    assert sim.quote(REPORT_DATA)[12:28] == INTEL_QE_VENDOR_ID
    assert sim.qe_attributes == QE_ATTRIBUTES
