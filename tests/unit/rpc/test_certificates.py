"""Certificates are made as the profile says; handshakes with them are in tests/wire/rpc/test_tls.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from cloister.errors import InvalidRequest
from cloister.rpc import certificates as c
from cloister.rpc.spiffe import spiffe_id
from fakes.pki import MeshPki

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def pki() -> MeshPki:
    return MeshPki(now=NOW)


def leaf_of(pki: MeshPki, role: str, name: str, **options: object) -> x509.Certificate:
    return c.load_certificate(pki.identity(role, name, **options).certificate)  # type: ignore[arg-type]  # as the test likes


def test_the_root_signs_itself_and_one_level_below(pki: MeshPki) -> None:
    root = pki.root.certificate
    root.verify_directly_issued_by(root)
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 1)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)


def test_the_intermediate_can_name_workers_only(pki: MeshPki) -> None:
    middle = pki.attested.certificate
    middle.verify_directly_issued_by(pki.root.certificate)
    assert middle.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    names = middle.extensions.get_extension_for_class(x509.NameConstraints)
    assert names.critical
    assert names.value.permitted_subtrees == [
        x509.DNSName(f"worker.{pki.cluster}"),
        x509.UniformResourceIdentifier(pki.cluster),
    ]


def test_a_leaf_has_what_it_needs(pki: MeshPki) -> None:
    leaf = leaf_of(
        pki, "gateway", "g1", dns=["gateway.demo.cloister.internal", "gw.example.org"], ips=["127.0.0.1", "::1"]
    )
    leaf.verify_directly_issued_by(pki.root.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{pki.cluster}/gateway/g1"]
    assert names.get_values_for_type(x509.DNSName) == ["gateway.demo.cloister.internal", "gw.example.org"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca) == (True, False)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    own = pki.root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == own
    assert leaf.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)


def test_a_client_may_not_serve(pki: MeshPki) -> None:
    usage = leaf_of(pki, "client", "c1").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    both = leaf_of(pki, "gateway", "g1").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(both) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_dates_begin_a_little_early_and_end_with_the_authority(pki: MeshPki) -> None:
    leaf = leaf_of(pki, "gateway", "g1", life=HOUR)
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == NOW + HOUR
    long = leaf_of(pki, "gateway", "g1", life=timedelta(days=36500))
    assert long.not_valid_after_utc == pki.root.certificate.not_valid_after_utc


def test_an_authority_that_has_expired_signs_nothing(pki: MeshPki) -> None:
    with pytest.raises(InvalidRequest, match="expired"):
        pki.identity("gateway", "g1", now=NOW + timedelta(days=4000))


def test_serial_numbers_do_not_repeat(pki: MeshPki) -> None:
    assert len({leaf_of(pki, "gateway", "g1").serial_number for _ in range(5)}) == 5


def test_a_long_cluster_name_fits(pki: MeshPki) -> None:
    cluster = "a-rather-long-label-of-a-cluster.with-another-quite-long-label.cloister.internal"
    long = MeshPki(cluster, now=NOW)
    assert leaf_of(long, "worker", "a" * 32).issuer == long.attested.certificate.subject


def test_a_spki_from_a_stranger_is_p256_in_its_one_encoding() -> None:
    key = c.new_key().public_key()
    der = c.spki(key)
    assert c.load_spki(der) == key
    compressed = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    shorter = der.replace(point, compressed)
    shorter = bytes([shorter[0], shorter[1] - 32]) + shorter[2:].replace(b"\x03\x42\x00", b"\x03\x22\x00")
    other_curve = c.spki(ec.generate_private_key(ec.SECP384R1()).public_key())
    other_kind = (
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for wrong in (b"", der[:-1], der + b"\0", shorter, other_curve, other_kind, b"\x30\x00"):
        with pytest.raises(InvalidRequest):
            c.load_spki(wrong)


def test_pem_round_trips_and_refusals(pki: MeshPki) -> None:
    pems = pki.identity("gateway", "g1")
    assert c.certificate_pem(c.load_certificate(pems.certificate)) == pems.certificate
    assert c.key_pem(c.load_key(pems.private_key)) == pems.private_key
    assert len(c.load_certificates(pki.identity("worker", "a" * 32).certificate)) == 2
    for load in (c.load_key, c.load_certificate, c.load_certificates):
        with pytest.raises(InvalidRequest):
            load(b"-----BEGIN NOTHING-----")
    encrypted = c.load_key(pems.private_key).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(InvalidRequest):
        c.load_key(encrypted)


def test_an_authority_is_one_pair_that_may_sign(pki: MeshPki) -> None:
    again = c.Authority.from_pem(pki.root.certificate_pem, c.key_pem(pki.root.key))
    assert again.certificate == pki.root.certificate
    assert "key" not in repr(again)
    with pytest.raises(InvalidRequest, match="not the one"):
        c.Authority.from_pem(pki.root.certificate_pem, c.key_pem(pki.attested.key))
    leaf = pki.identity("gateway", "g1")
    with pytest.raises(InvalidRequest, match="authority"):
        c.Authority.from_pem(leaf.certificate, leaf.private_key)


def test_an_address_that_is_none_is_refused(pki: MeshPki) -> None:
    with pytest.raises(InvalidRequest, match="IP address"):
        c.issue(
            pki.root,
            c.new_key().public_key(),
            spiffe_id(pki.cluster, "gateway", "g1"),
            now=NOW,
            life=HOUR,
            usage=c.Usage.SERVICE,
            ips=["localhost"],
        )
