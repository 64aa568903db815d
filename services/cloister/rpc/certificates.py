"""Certificates of the mesh: a root, an intermediate for attested workers, and identities.

ECDSA P-256 with SHA-256 throughout. The root signs the static identities; the intermediate, whose key the verifier
holds, signs workers only: its name constraints let it name hosts below `worker.<cluster>` and nothing else, and
`rpc/identity.py` believes the role `worker` from it alone and no other role from it. Profile:
RFC 5280, names as in X.509-SVID. Pure: the clock is an argument.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloister.errors import InvalidRequest
from cloister.rpc.spiffe import WORKER, SpiffeId, check_cluster, server_name

ROOT_NAME = "Cloister root"
ATTESTED_NAME = "Cloister attested workers"
ROOT_LIFE = timedelta(days=3650)
INTERMEDIATE_LIFE = timedelta(days=1825)

# Peers' clocks differ; a certificate that begins "now" is refused by whoever is a second behind.
_BACKDATED = timedelta(minutes=5)


class Usage(Enum):
    """What an identity's certificate is for."""

    CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    SERVICE = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that may sign, with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def from_pem(cls, certificate: bytes, private_key: bytes) -> Authority:
        """Read both; raises InvalidRequest when they do not parse, do not belong together, or may not sign."""
        authority = cls(load_certificate(certificate), load_key(private_key))
        if authority.certificate.public_key() != authority.key.public_key():
            raise InvalidRequest("the private key is not the one of the CA certificate")
        if not _may_sign(authority.certificate):
            raise InvalidRequest("the certificate is not one of a certificate authority")
        return authority

    @property
    def certificate_pem(self) -> bytes:
        """The certificate alone."""
        return certificate_pem(self.certificate)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def root_ca(cluster: str, *, now: datetime, life: timedelta = ROOT_LIFE) -> Authority:
    """A self-signed root for `cluster`, which may sign one level of intermediates."""
    check_cluster(cluster)
    key = new_key()
    name = _ca_name(ROOT_NAME, cluster)
    builder = _builder(name, name, key.public_key(), now, now + life)
    builder = _as_authority(builder, path_length=1)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def intermediate_ca(root: Authority, cluster: str, *, now: datetime, life: timedelta = INTERMEDIATE_LIFE) -> Authority:
    """The CA for attested workers of `cluster`: it cannot name any other host, and cannot make another CA."""
    check_cluster(cluster)
    key = new_key()
    until = min(now + life, root.certificate.not_valid_after_utc)
    subject = _ca_name(ATTESTED_NAME, cluster)
    builder = _builder(subject, root.certificate.subject, key.public_key(), now, until)
    builder = _as_authority(builder, path_length=0)
    constraints = x509.NameConstraints(
        permitted_subtrees=[
            x509.DNSName(server_name(cluster, WORKER)),
            x509.UniformResourceIdentifier(cluster),
        ],
        excluded_subtrees=[
            x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")),
            x509.IPAddress(ipaddress.ip_network("::/0")),
        ],
    )
    builder = builder.add_extension(constraints, critical=True)
    builder = builder.add_extension(_issued_by(root.certificate), critical=False)
    return Authority(builder.sign(root.key, hashes.SHA256()), key)


def issue(
    authority: Authority,
    public_key: ec.EllipticCurvePublicKey,
    spiffe_id: SpiffeId,
    *,
    now: datetime,
    life: timedelta,
    usage: Usage,
    dns: Sequence[str] = (),
    ips: Sequence[str] = (),
) -> bytes:
    """A certificate for one identity, as PEM; it ends no later than the authority's own.

    Args:
        authority: Who signs: the root, or the intermediate for a worker.
        public_key: P-256; from a stranger, it comes through `load_spki`.
        spiffe_id: Goes into the URI SAN.
        now: Aware UTC.
        life: Counted from `now`; the certificate is backdated by five minutes besides.
        usage: Client only, or client and server.
        dns: DNS SANs.
        ips: IP SANs.

    Raises:
        InvalidRequest: An IP address does not parse, or the authority has expired.
    """
    until = min(now + life, authority.certificate.not_valid_after_utc)
    if until <= now:
        raise InvalidRequest("the certificate authority has expired")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{spiffe_id.role} {spiffe_id.name}"[:64])])
    builder = _builder(subject, authority.certificate.subject, public_key, now, until)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(spiffe_id))]
    names += [x509.DNSName(name) for name in dns]
    names += [x509.IPAddress(_address(ip)) for ip in ips]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usage.value), critical=False)
    builder = builder.add_extension(_issued_by(authority.certificate), critical=False)
    return certificate_pem(builder.sign(authority.key, hashes.SHA256()))


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """One certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PKCS #8 PEM, not encrypted: for a file with mode 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """A P-256 private key from PEM; raises InvalidRequest."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidRequest("not a private key in PEM without a passphrase") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidRequest("the private key is not of the curve P-256")
    return key


def load_certificate(pem: bytes) -> x509.Certificate:
    """The first certificate in PEM; raises InvalidRequest."""
    return load_certificates(pem)[0]


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """All certificates in PEM, at least one; raises InvalidRequest."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidRequest("not a certificate in PEM") from error


def load_spki(der: bytes) -> ec.EllipticCurvePublicKey:
    """A P-256 public key from a DER SubjectPublicKeyInfo that a stranger sent.

    Raises:
        InvalidRequest: Anything else, another curve or another encoding of the same key included.
    """
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequest("not a SubjectPublicKeyInfo") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidRequest("the public key is not of the curve P-256")
    if spki(key) != der:
        raise InvalidRequest("the SubjectPublicKeyInfo is not in its one encoding")
    return key


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """DER SubjectPublicKeyInfo of a public key."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def spki_sha256(certificate: x509.Certificate | bytes) -> bytes:
    """SHA-256 of a certificate's SubjectPublicKeyInfo (of the first, when given PEM): 32 bytes."""
    found = load_certificate(certificate) if isinstance(certificate, bytes) else certificate
    der = found.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _as_authority(builder: x509.CertificateBuilder, *, path_length: int) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_key_usage(ca=True), critical=True)


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _ca_name(common_name: str, cluster: str) -> x509.Name:
    # The cluster as domain components: an organisation name may have 64 characters only.
    parts = [x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label) for label in reversed(cluster.split("."))]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(ip)
    except ValueError as error:
        raise InvalidRequest("not an IP address") from error
