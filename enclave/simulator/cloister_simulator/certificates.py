"""The certificates and revocation lists of a simulated platform.

Common names are those Intel's PKI uses, because Verifiers check roles by them; the organisation says what this is.
Signatures are deterministic (RFC 6979), so the same keys and recipe give the same certificate bytes every time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from cloister_simulator.extension import SGX_EXTENSIONS, sgx_extensions
from cloister_simulator.recipe import CERTIFICATES_FROM, CERTIFICATES_UNTIL, Recipe, Role, Window

ORGANISATION = "Cloister Simulator, not Intel"
_CRL_URL = "https://simulator.cloister.invalid/crl"


def _fresh() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformKeys:
    """Every private key of a simulated platform, Intel's part included. Hidden in repr."""

    root: ec.EllipticCurvePrivateKey = field(default_factory=_fresh, repr=False)
    platform_ca: ec.EllipticCurvePrivateKey = field(default_factory=_fresh, repr=False)
    tcb_signing: ec.EllipticCurvePrivateKey = field(default_factory=_fresh, repr=False)
    pck: ec.EllipticCurvePrivateKey = field(default_factory=_fresh, repr=False)
    attestation: ec.EllipticCurvePrivateKey = field(default_factory=_fresh, repr=False)

    def of(self, role: Role) -> ec.EllipticCurvePrivateKey:
        """The key that signs as `role`."""
        return {
            "root": self.root,
            "platform_ca": self.platform_ca,
            "tcb_signing": self.tcb_signing,
            "pck": self.pck,
        }[role]


def certificate(recipe: Recipe, keys: PlatformKeys, role: Role) -> x509.Certificate:
    """The certificate of `role`, the same bytes for the same arguments."""
    signer = issuer(recipe, role)
    path_length = {"root": 1, "platform_ca": 0}.get(role)
    if role == "platform_ca" and not recipe.platform_ca_is_ca:
        path_length = None
    public = keys.of(role).public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject(recipe, role)))
        .issuer_name(_name(subject(recipe, signer)))
        .public_key(public)
        .serial_number(serial_number(keys, role))
        .not_valid_before(CERTIFICATES_FROM)
        .not_valid_after(_not_after(recipe, role))
        .add_extension(_authority_key(keys, signer), critical=False)
        .add_extension(_crl_location(), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_key_usage(authority=path_length is not None), critical=True)
        .add_extension(x509.BasicConstraints(ca=path_length is not None, path_length=path_length), critical=True)
    )
    if role == "pck":
        extension = x509.UnrecognizedExtension(SGX_EXTENSIONS, sgx_extensions(recipe))
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(keys.of(signer), hashes.SHA256(), ecdsa_deterministic=True)


def chain(recipe: Recipe, keys: PlatformKeys, role: Role) -> bytes:
    """PEM certificates from that of `role` up to the root, leaf first, as collateral and quotes carry them."""
    roles: list[Role] = [role]
    while roles[-1] != "root":
        roles.append(issuer(recipe, roles[-1]))
    return b"".join(certificate(recipe, keys, each).public_bytes(Encoding.PEM) for each in roles)


def root_crl(recipe: Recipe, keys: PlatformKeys) -> bytes:
    """The root's revocation list in DER: it can name the platform CA and the TCB signer."""
    revoked: list[Role] = [role for role in ("platform_ca", "tcb_signing") if role in recipe.revoked]
    window = recipe.root_crl_window or recipe.window
    return _crl(recipe, keys, issued_by="root", signer=recipe.root_crl_signer, revoked=revoked, window=window)


def pck_crl(recipe: Recipe, keys: PlatformKeys) -> bytes:
    """The platform CA's revocation list in DER: it can name the PCK."""
    revoked: list[Role] = ["pck"] if "pck" in recipe.revoked else []
    window = recipe.pck_crl_window or recipe.window
    return _crl(recipe, keys, issued_by="platform_ca", signer=recipe.pck_crl_signer, revoked=revoked, window=window)


def serial_number(keys: PlatformKeys, role: Role) -> int:
    """A positive serial of 152 bits, derived from role and key so that it survives a restart."""
    public = keys.of(role).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return int.from_bytes(hashlib.sha256(role.encode() + b"\0" + public).digest()[:19], "big")


def subject(recipe: Recipe, role: Role) -> str:
    """The common name `recipe` gives to `role`."""
    return {
        "root": recipe.root_subject,
        "platform_ca": recipe.platform_ca_subject,
        "tcb_signing": recipe.tcb_signing_subject,
        "pck": recipe.pck_subject,
    }[role]


def issuer(recipe: Recipe, role: Role) -> Role:
    """Who signs the certificate of `role`."""
    return recipe.pck_signer if role == "pck" else "root"


def _not_after(recipe: Recipe, role: Role) -> datetime:
    return {
        "root": CERTIFICATES_UNTIL,
        "platform_ca": recipe.platform_ca_not_after,
        "tcb_signing": recipe.tcb_signing_not_after,
        "pck": recipe.pck_not_after,
    }[role]


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
        ]
    )


def _authority_key(keys: PlatformKeys, signer: Role) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(keys.of(signer).public_key())


def _crl_location() -> x509.CRLDistributionPoints:
    location = x509.UniformResourceIdentifier(_CRL_URL)
    return x509.CRLDistributionPoints([x509.DistributionPoint([location], None, None, None)])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _crl(
    recipe: Recipe, keys: PlatformKeys, *, issued_by: Role, signer: Role, revoked: list[Role], window: Window
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_name(subject(recipe, issued_by)))
        .last_update(window.issued_at)
        .next_update(window.next_update)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(_authority_key(keys, issued_by), critical=False)
    )
    for role in revoked:
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(serial_number(keys, role))
            .revocation_date(window.issued_at)
            .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
        )
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(keys.of(signer), hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)
