"""A certificate's evidence: read when whole, refused for its own defect when one thing of it is broken."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from cloister.appraisal.quote import parse_quote
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister.evidence import ratls
from cloister.evidence.binding import MAX_CLAIMS_BYTES, report_data
from cloister.evidence.certificate import MAX_CERTIFICATE_BYTES
from fakes import ra_tls
from fakes.ra_tls import ECDSA_SHA256, EVIDENCE, LEGACY_GRAMINE, LEGACY_INTEL, NULL, Certificate, attester, spki_of
from fakes.sealed import flipped, unhurried
from fakes.sim import good_evidence, simulated_platform

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
PLATFORM = simulated_platform(NOW)
KEY = ec.generate_private_key(ec.SECP384R1())
GOOD = attester(PLATFORM, key=KEY)
RAW = GOOD.der()
QUOTE = ratls.read(RAW, NOW).raw_quote


def refused(raw: bytes, now: datetime = NOW, **options: bool) -> str:
    with pytest.raises((InvalidRequest, EvidenceRejected)) as objection:
        ratls.read(raw, now, **options)
    return objection.value.reason


def with_value(value: bytes) -> bytes:
    return Certificate(key=KEY, extensions=[(EVIDENCE, None, value)]).der()


def with_claims(claims: bytes) -> bytes:
    return attester(PLATFORM, claims=claims, key=KEY).der()


def bound(raw: bytes, **options: bool) -> bool:
    """Whether the quote is over what the certificate says."""
    found = ratls.read(raw, NOW, **options)
    return parse_quote(found.raw_quote).body.report_data == found.report_data


# Read


@pytest.mark.parametrize(
    "raw", [RAW, GOOD.pem(), b"\n " + GOOD.pem().replace(b"\n", b"\r\n")], ids=["der", "pem", "crlf"]
)
def test_a_certificate_as_gramine_makes_it(raw: bytes) -> None:
    found = ratls.read(raw, NOW)
    assert found.report_data == parse_quote(found.raw_quote).body.report_data
    assert found.spki_sha256 == hashlib.sha256(GOOD.spki).digest()
    assert (found.nonce, found.passed_over, found.legacy) == (None, (), False)


def test_the_extension_is_the_one_of_the_profile() -> None:
    assert ratls.EVIDENCE.dotted_string == "2.23.133.5.4.9"
    value = ratls.evidence_extension(b"quote", b"claims").value
    assert value == b"\xd9\xea\x60\x82\x45quote\x46claims"


def test_a_cloister_worker_s_evidence_travels_in_a_certificate_that_anyone_can_make() -> None:
    sample = good_evidence(platform=PLATFORM, hpke_suite="x25519")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "worker")])
    made = (
        x509.CertificateBuilder(name, name, sample.tls_key.public_key(), 7, NOW, NOW + timedelta(hours=1))
        .add_extension(ratls.evidence_extension(sample.quote, sample.claims_bytes), critical=False)
        .sign(sample.tls_key, hashes.SHA256())
    )
    found = ratls.read(made.public_bytes(Encoding.PEM), NOW)
    assert (found.raw_quote, found.report_data) == (sample.quote, report_data(sample.claims_bytes))
    assert (found.nonce, found.spki_sha256) == (sample.claims.nonce, sample.claims.tls_spki_sha256)
    assert {"hpke", "role"} < set(found.passed_over)


@pytest.mark.parametrize("critical", [True, False])
def test_the_extension_may_be_critical(critical: bool) -> None:
    value = GOOD.extensions[0][2]
    assert bound(replace(GOOD, extensions=[(EVIDENCE, critical, value)]).der())


@pytest.mark.parametrize(("number", "name"), [(1, "sha256"), (7, "sha384"), (8, "sha512")])
def test_the_three_hashes_of_the_profile(number: int, name: str) -> None:
    entry = cbor2.dumps([number, hashlib.new(name, spki_of(KEY)).digest()])
    assert bound(with_claims(cbor2.dumps({"pubkey-hash": entry})))


def test_other_claims_are_passed_over_by_name_in_whatever_order() -> None:
    found = ratls.read(with_claims(ra_tls.attester_claims(GOOD.spki, nonce=b"n", key_1="text", key_0=7)), NOW)
    assert (found.nonce, found.passed_over) == (b"n", ("key_0", "key_1"))


def test_what_older_mbed_tls_wrote() -> None:
    assert bound(replace(GOOD, algorithm=ECDSA_SHA256 + NULL).der())


def test_an_rsa_key() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    claims = ra_tls.attester_claims(spki)
    name = x509.Name([])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + timedelta(hours=1))
        .add_extension(ratls.evidence_extension(PLATFORM.quote(report_data(claims)), claims), critical=False)
        .sign(key, hashes.SHA256())
    )
    assert bound(made.public_bytes(Encoding.DER))


# D13: whose evidence it is


@pytest.mark.attack("D13")
def test_evidence_of_another_key_is_refused() -> None:
    thief = ec.generate_private_key(ec.SECP384R1())
    assert refused(replace(GOOD, key=thief).der()) == "claims.key_mismatched"
    for number, size in ((1, 32), (7, 48), (8, 64)):
        entry = cbor2.dumps([number, bytes(size)])
        assert refused(with_claims(cbor2.dumps({"pubkey-hash": entry}))) == "claims.key_mismatched"


@pytest.mark.attack("D13")
def test_who_does_not_hold_the_key_cannot_make_the_certificate() -> None:
    thief = ec.generate_private_key(ec.SECP384R1())
    assert refused(replace(GOOD, signer=thief).der()) == "certificate.signature_broken"


@pytest.mark.attack("D13")
@pytest.mark.parametrize("identifier", [LEGACY_GRAMINE, LEGACY_INTEL], ids=["gramine", "intel"])
def test_the_legacy_extension_alone_is_read_only_where_that_is_allowed(identifier: bytes) -> None:
    raw = ra_tls.legacy_attester(PLATFORM, identifier).der()
    assert refused(raw) == "evidence.legacy"
    found = ratls.read(raw, NOW, allow_legacy=True)
    assert (found.legacy, found.nonce) == (True, None)
    assert bound(raw, allow_legacy=True)


@pytest.mark.attack("D13")
def test_a_legacy_quote_for_another_key_is_not_bound() -> None:
    raw = replace(ra_tls.legacy_attester(PLATFORM), key=KEY).der()
    assert not bound(raw, allow_legacy=True)


@pytest.mark.attack("D13")
@pytest.mark.parametrize("allow_legacy", [True, False])
def test_the_interoperable_form_is_never_replaced_by_the_legacy_one(allow_legacy: bool) -> None:
    legacy = ra_tls.legacy_attester(PLATFORM, key=KEY, algorithm=ECDSA_SHA256).extensions
    both = replace(GOOD, extensions=[*legacy, *GOOD.extensions])
    assert not ratls.read(both.der(), NOW, allow_legacy=allow_legacy).legacy
    broken = replace(GOOD, extensions=[*legacy, (EVIDENCE, None, b"\xf6")])
    assert refused(broken.der(), allow_legacy=allow_legacy) == "evidence.malformed"


@pytest.mark.attack("D13")
def test_two_evidence_extensions_are_refused() -> None:
    assert refused(replace(GOOD, extensions=GOOD.extensions * 2).der()) == "extension.repeated"
    both = [(each, None, QUOTE) for each in (LEGACY_GRAMINE, LEGACY_INTEL)]
    assert refused(replace(GOOD, extensions=both).der(), allow_legacy=True) == "extension.repeated"
    assert refused(replace(GOOD, extensions=[both[0]] * 2).der(), allow_legacy=True) == "extension.repeated"


def test_a_certificate_without_evidence() -> None:
    assert refused(replace(GOOD, extensions=[]).der()) == "evidence.missing"


# D12: nothing but the claims' hash


@pytest.mark.attack("D12")
def test_report_data_holds_the_hash_and_zeros_and_nothing_else() -> None:
    claims = ra_tls.attester_claims(GOOD.spki)
    longer = PLATFORM.quote(hashlib.sha256(claims).digest() + bytes(31) + b"\x01")
    assert bound(with_value(ratls.evidence_extension(QUOTE, claims).value))
    assert not bound(with_value(ratls.evidence_extension(longer, claims).value))
    key_hash = hashlib.sha256(GOOD.spki).digest()
    legacy = replace(GOOD, extensions=[(LEGACY_GRAMINE, None, PLATFORM.quote(key_hash + b"\x01" + bytes(31)))])
    assert not bound(legacy.der(), allow_legacy=True)


# D14: nothing is inflated, and size is looked at first


@pytest.mark.attack("D14")
def test_compressed_evidence_is_no_evidence() -> None:
    bomb = gzip.compress(bytes(16 << 20))
    assert len(bomb) < MAX_CERTIFICATE_BYTES
    for value in (bomb, gzip.compress(GOOD.extensions[0][2]), cbor2.dumps(cbor2.CBORTag(60000, [bomb, bomb]))):
        assert refused(with_value(value)) in {"evidence.malformed", "claims.malformed"}


@pytest.mark.attack("D14")
def test_evidence_inside_evidence_is_no_evidence() -> None:
    value = GOOD.extensions[0][2]
    for nested in (cbor2.dumps(value), cbor2.dumps(cbor2.CBORTag(24, value)), b"\xd9\xd9\xf7" + value, b"\x81" * 5000):
        assert refused(with_value(nested)) == "evidence.malformed"


@pytest.mark.attack("D14")
def test_sizes_are_capped_before_anything_is_read() -> None:
    for raw in (b"\x30" * (3 * MAX_CERTIFICATE_BYTES), b"\x30\x83\x01\x00\x01" + bytes(MAX_CERTIFICATE_BYTES)):
        assert refused(raw) == "certificate.malformed"
    long = ra_tls.attester_claims(GOOD.spki, padding=bytes(MAX_CLAIMS_BYTES))
    assert refused(with_claims(long)) == "claims.malformed"


# The certificate


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 0}, "certificate.malformed"),
        ({"issuer": "Some CA"}, "certificate.malformed"),
        ({"inner_algorithm": ECDSA_SHA256 + NULL}, "certificate.malformed"),
        ({"algorithm": bytes.fromhex("06072a8648ce3d0401")}, "certificate.algorithm_refused"),  # SHA-1
        ({"algorithm": bytes.fromhex("06082a8648ce3d040303")}, "certificate.signature_broken"),
        ({"algorithm": bytes.fromhex("06092a864886f70d01010b0500")}, "certificate.algorithm_refused"),
        ({"algorithm": b""}, "certificate.algorithm_refused"),
        ({"not_before": NOW + timedelta(seconds=1)}, "certificate.expired"),
        ({"not_after": NOW - timedelta(seconds=1)}, "certificate.expired"),
        ({"extensions": [(b"\x2a\x03\x04", True, b""), *GOOD.extensions]}, "certificate.malformed"),
    ],
)
def test_a_certificate_with_one_fault(changes: dict[str, Any], reason: str) -> None:
    assert refused(replace(GOOD, **changes).der()) == reason


def test_validity_has_two_ends() -> None:
    made = replace(GOOD, not_before=NOW, not_after=NOW)
    assert bound(made.der())


@pytest.mark.parametrize(
    "respelt",
    [
        lambda raw: raw + b"\0",
        lambda raw: raw[:-1],
        lambda raw: raw + raw,
        lambda _: b"",
        lambda _: b"\x30\x00",
        lambda _: GOOD.pem() + GOOD.pem(),
        lambda _: GOOD.pem() + b"x",
        lambda _: b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        lambda _: b"-----BEGIN CERTIFICATE-----",
        lambda _: GOOD.pem().replace(b"M", b"*", 1),
    ],
)
def test_bytes_that_are_no_certificate(respelt: Callable[[bytes], bytes]) -> None:
    assert refused(respelt(RAW)) == "certificate.malformed"


def test_a_key_of_another_kind() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([])
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW).add_extension(
        ratls.evidence_extension(QUOTE, b""), critical=False
    )
    assert refused(made.sign(key, None).public_bytes(Encoding.DER)) == "certificate.algorithm_refused"


# The claims


@pytest.mark.parametrize(
    "claims",
    [
        b"",
        b"\xa0",
        b"\x80",
        cbor2.dumps({"pubkey-hash": [1, bytes(32)]}),
        cbor2.dumps({"pubkey-hash": cbor2.dumps([1])}),
        cbor2.dumps({"pubkey-hash": cbor2.dumps([2, bytes(15)])}),
        cbor2.dumps({"pubkey-hash": b"\xf6"}),
        ra_tls.attester_claims(GOOD.spki, nonce="text"),
        ra_tls.attester_claims(GOOD.spki) + b"\0",
        b"\xbf" + ra_tls.attester_claims(GOOD.spki)[1:] + b"\xff",
        b"\xb8\x01" + ra_tls.attester_claims(GOOD.spki)[1:],
        b"\xa2" + ra_tls.attester_claims(GOOD.spki)[1:] * 2,
    ],
    ids=range(12),
)
def test_claims_that_do_not_say_one_thing(claims: bytes) -> None:
    assert refused(with_claims(claims)) == "claims.malformed"


@pytest.mark.parametrize(
    "value",
    [
        cbor2.dumps([QUOTE, b"claims"]),
        cbor2.dumps(cbor2.CBORTag(60001, [QUOTE, b"claims"])),
        cbor2.dumps(cbor2.CBORTag(60000, [QUOTE])),
        cbor2.dumps(cbor2.CBORTag(60000, [QUOTE, b"claims", b""])),
        cbor2.dumps(cbor2.CBORTag(60000, [QUOTE, "claims"])),
        cbor2.dumps(cbor2.CBORTag(60000, QUOTE)),
        GOOD.extensions[0][2] + b"\0",
        b"",
    ],
    ids=range(8),
)
def test_an_extension_that_is_not_the_profile_s(value: bytes) -> None:
    assert refused(with_value(value)) == "evidence.malformed"


@unhurried
@given(st.integers(0, len(RAW) * 8 - 1))
def test_no_changed_bit_is_read(bit: int) -> None:
    assert refused(flipped(RAW, bit))


@unhurried
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=40).map(lambda tail: RAW[:200] + tail)))
def test_any_bytes_are_refused(raw: bytes) -> None:
    assert refused(raw)
