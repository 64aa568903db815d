"""Certificates, revocation lists and the SGX extension, each refused for its own defect."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from cloister import der
from cloister.appraisal import certs, crls, pck
from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.certs import Certificate, Role
from cloister.errors import EvidenceRejected, InvalidRequest
from cloister_simulator.platform import Platform
from fakes import corpus

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC)
CA_USAGE = {"key_cert_sign": True, "crl_sign": True}
LEAF_USAGE = {"digital_signature": True, "content_commitment": True}


def usage(**set_bits: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    names += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: set_bits.get(name, False) for name in names})


def name_of(*common_names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])


def issued(
    *names: str,
    by: Certificate | None = None,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = KEY,
    ca: bool = True,
    path_length: int | None = None,
    bits: dict[str, bool] | None = None,
    extension: x509.ExtensionType | None = None,
    digest: hashes.SHA256 | hashes.SHA384 | None = None,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(*names))
        .issuer_name(by.subject if by else name_of(*names))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(usage(**(bits or (CA_USAGE if ca else LEAF_USAGE))), critical=True)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(KEY, digest or hashes.SHA256()).public_bytes(Encoding.DER)


ROOT = certs.load(issued("Intel SGX Root CA"))


def reason(act: Callable[[], object]) -> str:
    with pytest.raises(EvidenceRejected) as refused:
        act()
    assert refused.value.step == 2
    return refused.value.reason


def test_algorithms_of_this_hierarchy_only() -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    for raw in (
        issued("x", key=p384),
        issued("x", key=rsa.generate_private_key(65537, 2048)),
        issued("x", digest=hashes.SHA384()),
    ):
        assert reason(lambda raw=raw: certs.load(raw)) == "certificate.algorithm_refused"


def test_malformed() -> None:
    for raw in (b"", b"\x30\x00", ROOT.der + b"\x00", ROOT.der[:-1]):
        assert reason(lambda raw=raw: certs.load(raw)) == "certificate.malformed"
    assert reason(lambda: certs.load(issued("one", "two"))) == "certificate.role_mismatched"


@pytest.mark.parametrize("role", [Role.ROOT, Role.PCK_CA])
@pytest.mark.parametrize(
    "changes", [{"ca": False}, {"bits": {"key_cert_sign": True}}, {"bits": {"crl_sign": True}}, {"bits": LEAF_USAGE}]
)
def test_a_ca_is_a_ca(role: Role, changes: dict[str, object]) -> None:
    certs.check(certs.load(issued(role.value[0])), role, BEGIN)
    raw = issued(role.value[0], **changes)  # type: ignore[arg-type]  # each case names arguments
    assert reason(lambda: certs.check(certs.load(raw), role, BEGIN)) == "chain.broken"


@pytest.mark.parametrize("role", [Role.PCK, Role.TCB_SIGNER])
@pytest.mark.parametrize(
    "changes",
    [{"ca": True}, {"bits": {"crl_sign": True}}, {"bits": {"digital_signature": True, "key_cert_sign": True}}],
)
def test_a_leaf_is_a_leaf(role: Role, changes: dict[str, object]) -> None:
    certs.check(certs.load(issued(role.value[0], ca=False)), role, BEGIN)
    raw = issued(role.value[0], **{"ca": False, **changes})  # type: ignore[arg-type]  # as above
    assert reason(lambda: certs.check(certs.load(raw), role, BEGIN)) == "chain.broken"


def test_validity_has_two_ends() -> None:
    certs.check(ROOT, Role.ROOT, END)
    for moment in (BEGIN - timedelta(seconds=1), END + timedelta(seconds=1)):
        assert reason(lambda moment=moment: certs.check(ROOT, Role.ROOT, moment)) == "certificate.expired"


def test_unknown_critical_extensions() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    raw = issued("Intel SGX Root CA", extension=unknown)
    assert reason(lambda: certs.check(certs.load(raw), Role.ROOT, BEGIN)) == "certificate.malformed"


def test_path_length() -> None:
    narrow = certs.load(issued("Intel SGX Root CA", path_length=0))
    ca = certs.load(issued("Intel SGX PCK Platform CA", by=narrow))
    certs.check_issued(ca, narrow, below=0)
    assert reason(lambda: certs.check_issued(ca, narrow, below=1)) == "chain.broken"


def test_issued_by_another() -> None:
    ca = certs.load(issued("Intel SGX PCK Platform CA", by=ROOT))
    certs.check_issued(ca, ROOT, below=1)
    stranger = certs.load(issued("Intel SGX Root CA", key=ec.generate_private_key(ec.SECP256R1())))
    assert reason(lambda: certs.check_issued(ca, stranger, below=1)) == "chain.broken"
    other_name = certs.load(issued("Some Other CA"))
    assert reason(lambda: certs.check_issued(ca, other_name, below=1)) == "chain.broken"


def pem(*ders: bytes) -> bytes:
    return b"".join(x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in ders)


def test_pem() -> None:
    raw = ROOT.der
    assert certs.split_pem(pem(raw)) == [raw]
    assert certs.split_pem(pem(raw, raw) + b"\x00") == [raw, raw]
    assert reason(lambda: certs.split_pem(b"")) == "chain.missing"
    assert reason(lambda: certs.split_pem(raw)) == "chain.missing"
    assert reason(lambda: certs.split_pem(pem(*[raw] * 5))) == "chain.too_long"
    for bad in (
        b"\x00" + pem(raw),
        pem(raw) + b"\x00" + pem(raw),
        pem(raw) + b"\x00x",
        pem(raw) + b"x",
        pem(raw)[:-10],
        pem(raw).replace(b"A", b"=", 1),
    ):
        assert reason(lambda bad=bad: certs.split_pem(bad)) in {"certificate.malformed", "chain.missing"}


@pytest.mark.attack("A22")
@pytest.mark.parametrize(
    "spaced",
    [
        lambda text: b"\n " + text,
        lambda text: text.rstrip(),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b" \t\n"),
        lambda text: text.replace(b"\n", b"\n  "),
        lambda text: text.replace(b"\n", b"\n\n"),
        lambda text: text.replace(b"MII", b"M\x0bI I"),
        lambda text: text + b"\x00" * 4,
        lambda text: text + b"\x00\n",
    ],
)
def test_white_space_says_nothing(spaced: Callable[[bytes], bytes]) -> None:
    text = pem(ROOT.der, ROOT.der)
    assert spaced(text) != text
    assert certs.split_pem(spaced(text)) == [ROOT.der, ROOT.der]


@pytest.mark.attack("A16")
@pytest.mark.parametrize(
    "raw", [b" " * 60_000, b"-----BEGIN CERTIFICATE-----" + b"A\n" * 30_000, b"-----BEGIN CERTIFICATE-----\n" * 2_000]
)
def test_what_never_becomes_a_certificate_is_looked_through_once(raw: bytes) -> None:
    begun = time.perf_counter()
    assert reason(lambda: certs.split_pem(raw)) == "chain.missing"
    assert time.perf_counter() - begun < 0.05


@given(st.binary(max_size=200))
def test_any_certificate_bytes(raw: bytes) -> None:
    assert reason(lambda: certs.load(raw)) == "certificate.malformed"


def revocation_list(
    *, next_update: datetime = END, extension: x509.ExtensionType | None = None, issuer: str = "Intel SGX Root CA"
) -> bytes:
    entry = x509.RevokedCertificateBuilder().serial_number(7).revocation_date(BEGIN).build()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name_of(issuer))
        .last_update(BEGIN)
        .next_update(next_update)
        .add_revoked_certificate(entry)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def test_revocation_lists() -> None:
    found = crls.verify(revocation_list(), ROOT, BEGIN)
    assert found.serials == {7}
    assert reason(lambda: found.check(ROOT)) == "certificate.revoked"
    found.check(replace(ROOT, serial=8))
    assert reason(lambda: found.check(replace(ROOT, issuer=name_of("x"), serial=8))) == "crl.issuer_mismatched"
    assert reason(lambda: crls.verify(revocation_list(issuer="x"), ROOT, BEGIN)) == "crl.issuer_mismatched"
    assert reason(lambda: crls.verify(revocation_list(), ROOT, END)) == "crl.expired"
    assert reason(lambda: crls.verify(revocation_list(), ROOT, BEGIN - timedelta(seconds=1))) == "crl.expired"
    delta = revocation_list(extension=x509.DeltaCRLIndicator(1))
    assert reason(lambda: crls.verify(delta, ROOT, BEGIN)) == "crl.malformed"
    stranger = certs.load(issued("Intel SGX Root CA", key=ec.generate_private_key(ec.SECP256R1())))
    assert reason(lambda: crls.verify(revocation_list(), stranger, BEGIN)) == "crl.signature_broken"


@pytest.mark.attack("B08")
def test_a_revocation_list_whose_issuer_has_no_name_is_malformed() -> None:
    """Found by fuzzing: the name is parsed late, and was parsed where nothing caught what it raised."""
    good = revocation_list()
    issuer = name_of("Intel SGX Root CA").public_bytes()
    nameless = der.encoded(der.SEQUENCE, der.encoded(0x31, b""))
    assert good.count(issuer) == 1
    (_, tbs), *rest = der.elements(der.contents(good, der.SEQUENCE))
    parts = der.encoded(der.SEQUENCE, tbs.replace(issuer, nameless)) + b"".join(der.encoded(*each) for each in rest)
    damaged = der.encoded(der.SEQUENCE, parts)
    assert reason(lambda: crls.verify(damaged, ROOT, BEGIN)) == "crl.malformed"


def test_the_pinned_root() -> None:
    assert not INTEL_SGX.simulated
    assert INTEL_SGX.root.common_name == "Intel SGX Root CA"
    assert hashes_of(INTEL_SGX.root_der) == "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"


def hashes_of(raw: bytes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(raw)
    return digest.finalize().hex()


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
def test_the_pinned_root_is_the_one_the_corpus_has() -> None:
    assert (corpus.FOLDER / "intel-sgx-root-ca.der").read_bytes() == INTEL_SGX.root_der


def test_simulated_is_what_is_not_intels(sim: Platform) -> None:
    assert TrustAnchor("mine", sim.root_der()).simulated
    assert not TrustAnchor("intel-sgx", INTEL_SGX.root_der).simulated
    assert not TrustAnchor("under another name", INTEL_SGX.root_der).simulated
    for name, root in (("intel-sgx", sim.root_der()), ("", sim.root_der()), ("x", b""), ("x", issued("Other CA"))):
        with pytest.raises(InvalidRequest) as refused:
            TrustAnchor(name, root)
        assert refused.value.reason == "anchor.refused"


def test_a_root_that_did_not_sign_itself() -> None:
    ca = certs.load(issued("Other CA"))
    with pytest.raises(InvalidRequest):
        TrustAnchor("x", issued("Intel SGX Root CA", by=ca))


def test_an_anchor_is_a_name_and_a_key() -> None:
    anchor = TrustAnchor("x", ROOT.der)
    anchor.check_is_root(issued("Intel SGX Root CA", path_length=1))
    stranger = issued("Intel SGX Root CA", key=ec.generate_private_key(ec.SECP256R1()))
    for raw in (stranger, issued("Other CA"), issued("Intel SGX Root CA", by=certs.load(issued("Other CA")))):
        assert reason(lambda raw=raw: anchor.check_is_root(raw)) == "anchor.untrusted"


def extension_of(sim: Platform) -> Certificate:
    chain = sim.quote(bytes(64)).split(b"-----BEGIN CERTIFICATE-----", 1)[1]
    return certs.load(certs.split_pem(b"-----BEGIN CERTIFICATE-----" + chain)[0])


def test_the_sgx_extension(sim: Platform) -> None:
    leaf = extension_of(sim)
    assert pck.parse_platform(leaf).pce_id == sim.pceid
    assert reason(lambda: pck.parse_platform(replace(leaf, sgx_extension=None))) == "certificate.malformed"


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_sgx_extension_is_a_value_or_a_rejection(offset: int, mask: int) -> None:
    leaf = extension_of(PLATFORM)
    assert leaf.sgx_extension is not None
    raw = bytearray(leaf.sgx_extension)
    raw[offset % len(raw)] ^= mask
    try:
        pck.parse_platform(replace(leaf, sgx_extension=bytes(raw)))
    except EvidenceRejected as error:
        refused = error.reason
    else:
        refused = None
    assert refused in {None, "certificate.malformed"}


PLATFORM = Platform.generate(datetime(2026, 11, 22, tzinfo=UTC))


@pytest.mark.parametrize(
    "raw",
    ["", "04", "0401", "048101ff", "04820001ff", "0480", "1f0100", "040100ff", "0483000001ff", "04ff", "0481"],
)
def test_der_has_one_form(raw: str) -> None:
    with pytest.raises(ValueError, match="DER"):
        der.contents(bytes.fromhex(raw), der.OCTET_STRING)


def test_der_values() -> None:
    assert der.contents(bytes.fromhex("04818080") + bytes(127), der.OCTET_STRING) == b"\x80" + bytes(127)
    assert der.elements(bytes.fromhex("0101ff020107")) == [(1, b"\xff"), (2, b"\x07")]
    assert [der.unsigned(bytes.fromhex(raw)) for raw in ("00", "7f", "0080")] == [0, 127, 128]
    assert (der.boolean(b"\xff"), der.boolean(b"\x00")) == (True, False)
    for raw in ("", "80", "0000", "007f"):
        with pytest.raises(ValueError, match="integer"):
            der.unsigned(bytes.fromhex(raw))
    with pytest.raises(ValueError, match="boolean"):
        der.boolean(b"\x01")
