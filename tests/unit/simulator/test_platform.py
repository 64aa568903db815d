"""A good platform is believed by a verifier that knows nothing of us, and each thing broken is seen by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

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
    attributes,
)
from fakes.sim import library_verdict, simulated_platform
from fakes.sim_breaks import BREAKS

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


@pytest.mark.parametrize("name", [name for name, broken in BREAKS.items() if broken.library is not None])
def test_one_thing_broken_is_refused(sim: Platform, name: str) -> None:
    BREAKS[name].apply(sim, NOW)
    with pytest.raises(ValueError, match=BREAKS[name].library):
        library_verdict(sim, now=NOW)


@pytest.mark.parametrize("name", [name for name, broken in BREAKS.items() if broken.library is None])
def test_what_only_a_stricter_verifier_refuses_is_otherwise_whole(sim: Platform, name: str) -> None:
    BREAKS[name].apply(sim, NOW)
    library_verdict(sim, now=NOW)


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
