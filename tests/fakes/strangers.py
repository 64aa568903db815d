"""Certificates that a mesh must not let in, each valid but for one thing (G17, G18), and clients that show them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloister.rpc import certificates
from cloister.rpc.identity import TlsIdentity
from fakes.http2_client import PREFACE, SETTINGS, settings
from fakes.pki import MeshPki, Pems


async def speaks_http2(
    port: int, pki: MeshPki, service: str, pems: Pems | None, folder: Path, **limits: ssl.TLSVersion
) -> bool:
    """Whether the server speaks HTTP/2 to a client made with Python's ssl module."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pki.roots_pem.decode())
    context.set_alpn_protocols(["h2"])
    for name, version in limits.items():
        setattr(context, name, version)
    if pems is not None:
        files = pems.write(folder)
        context.load_cert_chain(files.certificate, files.private_key)
    try:
        async with asyncio.timeout(5):
            name = f"{service}.{pki.cluster}"
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
            try:
                writer.write(PREFACE + settings())
                frame = await reader.readexactly(9)
                return frame[3] == SETTINGS
            finally:
                writer.transport.abort()
    except (OSError, asyncio.IncompleteReadError):
        return False


def altered(
    pki: MeshPki,
    *,
    uris: tuple[str, ...] | None = None,
    usage: tuple[x509.ObjectIdentifier, ...] | None = None,
    ca: bool = False,
    signer: certificates.Authority | None = None,
    algorithm: hashes.HashAlgorithm | None = None,
    without: type[x509.ExtensionType] | None = None,
) -> Pems:
    """A gateway's certificate with one thing wrong that `certificates.issue` would not make."""
    good = pki.identity("gateway", "g1")
    leaf = certificates.load_certificate(good.certificate)
    signer = signer or pki.root
    builder = x509.CertificateBuilder(leaf.issuer, leaf.subject, leaf.public_key(), leaf.serial_number)
    builder = builder.not_valid_before(leaf.not_valid_before_utc).not_valid_after(leaf.not_valid_after_utc)
    for extension in leaf.extensions:
        value: x509.ExtensionType = extension.value
        if isinstance(value, x509.SubjectAlternativeName) and uris is not None:
            value = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        if isinstance(value, x509.ExtendedKeyUsage) and usage is not None:
            value = x509.ExtendedKeyUsage(usage)
        if isinstance(value, x509.BasicConstraints) and ca:
            value = x509.BasicConstraints(ca=True, path_length=None)
        if without is None or not isinstance(value, without):
            builder = builder.add_extension(value, extension.critical)
    signed = builder.sign(signer.key, algorithm or hashes.SHA256())
    return replace(good, certificate=certificates.certificate_pem(signed))


def deep_chain(pki: MeshPki, above: certificates.Authority, depth: int) -> Pems:
    """A leaf under so many further authorities, each of which says it may make more."""
    signer, chain = above, b"" if above is pki.root else above.certificate_pem
    for level in range(depth):
        key = certificates.new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"level {level}")])
        made = (
            x509.CertificateBuilder(signer.certificate.subject, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(pki.now)
            .not_valid_after(pki.now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(signer.key, hashes.SHA256())
        )
        signer = certificates.Authority(made, key)
        chain = certificates.certificate_pem(made) + chain
    role, own = ("gateway", "g1") if above is pki.root else ("worker", "a" * 32)
    leaf = pki.identity(role, own, authority=signer)
    return replace(leaf, certificate=leaf.certificate.replace(signer.certificate_pem, b"") + chain)


def self_signed(pki: MeshPki) -> Pems:
    own = pki.identity("gateway", "g1")
    key = certificates.load_key(own.private_key)
    authority = certificates.Authority(certificates.load_certificate(own.certificate), key)
    return pki.identity("gateway", "g1", key=key, authority=authority)


REFUSED_BY_TLS: dict[str, Callable[[MeshPki], Pems]] = {
    "self signed": self_signed,
    "expired": lambda pki: pki.identity("gateway", "g1", now=pki.now - timedelta(hours=2)),
    "not yet valid": lambda pki: pki.identity("gateway", "g1", now=pki.now + timedelta(hours=1)),
    "of another mesh": lambda pki: MeshPki("other.mesh.internal").identity("gateway", "g1"),
    "of another mesh with our name": lambda _: MeshPki().identity("gateway", "g1"),
    "signed by a key that is not the issuer's": lambda pki: altered(pki, signer=pki.attested),
    "for servers only": lambda pki: altered(pki, usage=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    "under a CA that the intermediate made": lambda pki: deep_chain(pki, pki.attested, 1),
    "thirty deep": lambda pki: deep_chain(pki, pki.attested, 30),
    "a service's host name from the intermediate": lambda pki: pki.identity(
        "worker", "a" * 32, [f"verifier.{pki.cluster}"]
    ),
    "an address from the intermediate": lambda pki: pki.identity("worker", "a" * 32, ips=["127.0.0.1"]),
    "another trust domain from the intermediate": lambda pki: pki.identity(
        "worker", "a" * 32, (), cluster="other.mesh.internal"
    ),
}
REFUSED_BY_US: dict[str, Callable[[MeshPki], Pems]] = {
    "another trust domain under our root": lambda pki: pki.identity("gateway", "g1", cluster="other.mesh.internal"),
    "a worker under the root": lambda pki: pki.identity("worker", "a" * 32, authority=pki.root),
    "a gateway under the intermediate": lambda pki: pki.identity("gateway", "g1", (), authority=pki.attested),
    "an authority that is neither root nor intermediate": lambda pki: deep_chain(pki, pki.root, 2),
    "a certificate authority": lambda pki: altered(pki, ca=True),
    "two identities": lambda pki: altered(
        pki, uris=(f"spiffe://{pki.cluster}/gateway/g1", f"spiffe://{pki.cluster}/verifier/v1")
    ),
    "an unknown role": lambda pki: altered(pki, uris=(f"spiffe://{pki.cluster}/king/k1",)),
    "a longer path": lambda pki: altered(pki, uris=(f"spiffe://{pki.cluster}/gateway/g1/x",)),
    "not SPIFFE": lambda pki: altered(pki, uris=(f"https://{pki.cluster}/gateway/g1",)),
    "no names": lambda pki: altered(pki, without=x509.SubjectAlternativeName),
    "no key usage": lambda pki: altered(pki, without=x509.ExtendedKeyUsage),
}


class Presenting(TlsIdentity):
    """A client that presents whatever it is given, which the real one would not."""

    def __init__(self, pems: Pems, roots: bytes) -> None:
        usual = MeshPki().identity("gateway", "g1")
        super().__init__(usual.certificate, usual.private_key, roots)
        self._pems = replace(self._pems, certificate=pems.certificate, private_key=pems.private_key)
