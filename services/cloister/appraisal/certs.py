"""Certificates of Intel's SGX public key infrastructure, checked explicitly rather than by path building.

The hierarchy is fixed: a root; under it PCK CAs (platform, processor) and the TCB signer; under a PCK CA the PCK
certificates of platforms. Every chain here has a known length and every place in it a known common name, so there is
nothing to search for, and a leaf cannot take the place of another role. RFC 5280 section 6.1 for what one certificate
must satisfy to have issued the next; Intel's "PCK Certificate and CRL Profile" for names, curve and key usages.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from cloister.appraisal.steps import Step, rejected

MAX_CHAIN_LENGTH: Final = 4
SGX_EXTENSION: Final = x509.ObjectIdentifier("1.2.840.113741.1.13.1")

# White space may be anywhere in the base64, as in the lax form of RFC 7468: what it encodes is what is signed.
_PEM_BLOCK: Final = re.compile(rb"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]{1,8192})-----END CERTIFICATE-----")
_PEM_END: Final = re.compile(rb"[\s\x00]*")
# What the library merely warns of, it will refuse one day; where warnings are errors, we refuse it now.
_MALFORMED: Final = (
    ValueError,
    TypeError,
    UserWarning,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_UNDERSTOOD: Final = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})


class Role(Enum):
    """What a certificate is for, by the exact common name of its subject."""

    ROOT = ("Intel SGX Root CA",)
    PCK_CA = ("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA")
    PCK = ("Intel SGX PCK Certificate",)
    TCB_SIGNER = ("Intel SGX TCB Signing",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The parts of a certificate that we check, all read at once so that nothing can fail later.

    Attributes:
        key_usage: None when the extension is absent, which no role allows.
        critical: Critical extensions that RFC 5280 obliges us to refuse.
        sgx_extension: DER contents of the SGX extension, None unless this is a PCK certificate.
    """

    der: bytes = field(repr=False)
    parsed: x509.Certificate = field(repr=False, compare=False)
    subject: x509.Name
    issuer: x509.Name
    common_name: str
    serial: int
    not_before: datetime
    not_after: datetime
    public_key: EllipticCurvePublicKey = field(repr=False, compare=False)
    spki: bytes = field(repr=False)
    is_ca: bool
    path_length: int | None
    key_usage: x509.KeyUsage | None
    critical: frozenset[x509.ObjectIdentifier]
    sgx_extension: bytes | None = field(repr=False)


def split_pem(pem: bytes) -> list[bytes]:
    """Return the DER certificates of a PEM chain, in order.

    Only certificates and white space are admitted, and NULs at the end, of which Intel's library writes one.

    Raises:
        EvidenceRejected: Step 2; not such a chain, or more than `MAX_CHAIN_LENGTH` certificates.
    """
    ders: list[bytes] = []
    position = 0
    while block := _PEM_BLOCK.match(pem, position):
        if len(ders) == MAX_CHAIN_LENGTH:
            raise rejected(Step.CHAIN, "chain.too_long", "a certificate chain is longer than any we accept")
        try:
            ders.append(binascii.a2b_base64(re.sub(rb"\s", b"", block[1]), strict_mode=True))
        except binascii.Error:
            raise rejected(Step.CHAIN, "certificate.malformed", "a certificate is not base64") from None
        position = block.end()
    if not ders:
        raise rejected(Step.CHAIN, "chain.missing", "a certificate chain is empty")
    if not _PEM_END.fullmatch(pem, position):
        raise rejected(Step.CHAIN, "certificate.malformed", "a certificate chain holds more than certificates")
    return ders


def load(der: bytes) -> Certificate:
    """Read a certificate and refuse algorithms that this hierarchy does not use.

    Raises:
        EvidenceRejected: Step 2; malformed, not on P-256, or not signed with ECDSA and SHA-256.
    """
    try:
        parsed = x509.load_der_x509_certificate(der)
        certificate = _read(der, parsed, parsed.public_key(), parsed.extensions)
    except _MALFORMED:
        raise rejected(Step.CHAIN, "certificate.malformed", "a certificate does not parse") from None
    return certificate


def _read(der: bytes, parsed: x509.Certificate, key: object, extensions: x509.Extensions) -> Certificate:
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise rejected(Step.CHAIN, "certificate.algorithm_refused", "a certificate's key is not on P-256")
    if parsed.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise rejected(Step.CHAIN, "certificate.algorithm_refused", "a certificate is not signed by ECDSA with SHA-256")
    if parsed.serial_number <= 0:
        raise rejected(Step.CHAIN, "certificate.malformed", "a certificate's serial number is not positive")
    found = {extension.oid: extension.value for extension in extensions}
    constraints, usage = found.get(ExtensionOID.BASIC_CONSTRAINTS), found.get(ExtensionOID.KEY_USAGE)
    sgx = found.get(SGX_EXTENSION)
    return Certificate(
        der=der,
        parsed=parsed,
        subject=parsed.subject,
        issuer=parsed.issuer,
        common_name=common_name(parsed.subject),
        serial=parsed.serial_number,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        public_key=key,
        spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        is_ca=isinstance(constraints, x509.BasicConstraints) and constraints.ca,
        path_length=constraints.path_length if isinstance(constraints, x509.BasicConstraints) else None,
        key_usage=usage if isinstance(usage, x509.KeyUsage) else None,
        critical=frozenset(extension.oid for extension in extensions if extension.critical) - _UNDERSTOOD,
        sgx_extension=sgx.value if isinstance(sgx, x509.UnrecognizedExtension) else None,
    )


def common_name(subject: x509.Name) -> str:
    """Return the one common name in a name.

    Raises:
        EvidenceRejected: Step 2; there is none, or more than one.
    """
    match [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]:
        case [str(name)]:
            return name
    raise rejected(Step.CHAIN, "certificate.role_mismatched", "a certificate does not have exactly one common name")


def check(certificate: Certificate, role: Role, now: datetime) -> None:
    """Check that a certificate has this role and is valid at `now`.

    Raises:
        EvidenceRejected: Step 2.
    """
    check_constraints(certificate, role)
    check_date(certificate, role, now)


def check_date(certificate: Certificate, role: Role, now: datetime) -> None:
    """Check that a certificate, which has this role, is valid at `now`.

    Raises:
        EvidenceRejected: Step 2.
    """
    if not certificate.not_before <= now <= certificate.not_after:
        raise rejected(Step.CHAIN, "certificate.expired", f"the {role.name} certificate is not valid at this time")


def check_constraints(certificate: Certificate, role: Role) -> None:
    """Check that a certificate has this role, and usages that fit it.

    Raises:
        EvidenceRejected: Step 2.
    """
    if certificate.common_name not in role.value:
        raise rejected(Step.CHAIN, "certificate.role_mismatched", f"a certificate is not a {role.name} certificate")
    if certificate.critical:
        raise rejected(Step.CHAIN, "certificate.malformed", "a certificate has a critical extension nobody here knows")
    usage = certificate.key_usage
    if role in (Role.ROOT, Role.PCK_CA):
        fits = certificate.is_ca and usage is not None and usage.key_cert_sign and usage.crl_sign
    else:
        fits = not certificate.is_ca and usage is not None and usage.digital_signature and not usage.key_cert_sign
    if not fits:
        raise rejected(Step.CHAIN, "chain.broken", f"the {role.name} certificate's constraints do not fit its role")


def check_issued(certificate: Certificate, issuer: Certificate, *, below: int) -> None:
    """Check that `issuer` issued `certificate` and may have that many CAs below it in this chain.

    Raises:
        EvidenceRejected: Step 2.
    """
    if issuer.path_length is not None and issuer.path_length < below:
        raise rejected(Step.CHAIN, "chain.broken", "a certificate chain is longer than a CA in it allows")
    try:
        certificate.parsed.verify_directly_issued_by(issuer.parsed)
    except (InvalidSignature, ValueError, TypeError):
        raise rejected(Step.CHAIN, "chain.broken", "a certificate was not issued by the next in its chain") from None
