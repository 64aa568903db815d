"""Who gets in: TLS 1.3 with a certificate of this mesh, for its role, and nobody else (G17, G18)."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from google.protobuf.wrappers_pb2 import StringValue

from cloister import errors
from cloister.rpc import certificates
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from fakes.echo import EchoStub, Running, echo_server
from fakes.pki import MeshPki, Pems

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


@pytest.fixture
async def echo(pki: MeshPki) -> AsyncIterator[Running]:
    async with echo_server(pki) as running:
        yield running


async def answers(echo: Running, pems: Pems | None, folder: Path, **limits: ssl.TLSVersion) -> bool:
    """Whether the server speaks HTTP/2 to a client made with Python's ssl module."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=echo.pki.roots_pem.decode())
    context.set_alpn_protocols(["h2"])
    for name, version in limits.items():
        setattr(context, name, version)
    if pems is not None:
        files = pems.write(folder)
        context.load_cert_chain(files.certificate, files.private_key)
    try:
        async with asyncio.timeout(5):
            name = f"verifier.{echo.pki.cluster}"
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", echo.server.port, ssl=context, server_hostname=name
            )
            try:
                writer.write(_PREFACE)
                frame = await reader.readexactly(9)
                return frame[3] == _SETTINGS
            finally:
                writer.transport.abort()
    except (OSError, asyncio.IncompleteReadError):
        return False


async def test_tls_1_3_with_a_certificate_is_answered(echo: Running, pki: MeshPki, tmp_path: Path) -> None:
    assert await answers(echo, pki.identity("gateway", "g"), tmp_path, minimum_version=ssl.TLSVersion.TLSv1_3)


async def test_tls_1_2_is_refused(echo: Running, pki: MeshPki, tmp_path: Path) -> None:
    assert not await answers(echo, pki.identity("gateway", "g"), tmp_path, maximum_version=ssl.TLSVersion.TLSv1_2)


async def test_no_certificate_is_refused(echo: Running, tmp_path: Path) -> None:
    assert not await answers(echo, None, tmp_path)


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


@pytest.mark.parametrize("wrong", REFUSED_BY_TLS)
async def test_the_handshake_refuses(echo: Running, pki: MeshPki, tmp_path: Path, wrong: str) -> None:
    pems = REFUSED_BY_TLS[wrong](pki)
    assert not await answers(echo, pems, tmp_path)
    async with echo.peer(Presenting(pems, pki.roots_pem)) as peer:
        with pytest.raises(errors.Unavailable):
            await peer.stub(EchoStub).Who(StringValue(), timeout=5)
    assert echo.calls == []


@pytest.mark.parametrize("wrong", REFUSED_BY_US)
async def test_no_call_of_it_is_answered(echo: Running, pki: MeshPki, wrong: str) -> None:
    async with echo.peer(Presenting(REFUSED_BY_US[wrong](pki), pki.roots_pem)) as peer:
        with pytest.raises(errors.Unauthenticated):
            await peer.stub(EchoStub).Who(StringValue(), timeout=5)
    assert (await echo.calls.ended(1)).code == "UNAUTHENTICATED"


async def test_a_certificate_that_expires_on_an_open_connection_ends_its_calls(echo: Running, pki: MeshPki) -> None:
    brief = pki.identity("gateway", "g1", now=pki.now, life=timedelta(hours=1))
    async with echo.peer(brief.held()) as peer:
        stub = peer.stub(EchoStub)
        await stub.Who(StringValue(), timeout=5)
        moved = pki.now.timestamp() + 3601
        with pytest.MonkeyPatch.context() as clock:
            clock.setattr("cloister.kit.calls.time.time", lambda: moved)
            with pytest.raises(errors.Unauthenticated) as caught:
                await stub.Who(StringValue(), timeout=5)
    assert caught.value.reason == "identity.expired"


@pytest.mark.parametrize(
    "role_name_dns",
    [
        ("gateway", "g1", None),
        ("worker", "a" * 32, None),
        ("client", "c1", ()),
        ("verifier", "v1", ("*.mesh.internal",)),
    ],
    ids=["gateway", "worker", "client", "wildcard"],
)
async def test_another_roles_certificate_cannot_stand_in_for_a_server(
    pki: MeshPki, role_name_dns: tuple[str, str, tuple[str, ...] | None]
) -> None:
    stranger = pki.identity(*role_name_dns, usage=certificates.Usage.SERVICE)
    async with echo_server(pki, identity=stranger.held()) as echo, echo.peer() as peer:
        with pytest.raises(errors.Unavailable):
            await peer.stub(EchoStub).Who(StringValue(), timeout=5)


async def test_a_server_of_another_mesh_is_not_believed(echo: Running) -> None:
    stranger = MeshPki().identity("gateway", "g1").held()
    async with Peer(echo.address, stranger, f"verifier.{echo.pki.cluster}") as peer:
        with pytest.raises(errors.Unavailable):
            await peer.stub(EchoStub).Who(StringValue(), timeout=5)


async def test_a_client_only_certificate_does_not_serve(pki: MeshPki) -> None:
    pems = pki.identity("verifier", "v1", usage=certificates.Usage.CLIENT)
    async with echo_server(pki, identity=pems.held()) as echo, echo.peer() as peer:
        with pytest.raises(errors.Unavailable):
            await peer.stub(EchoStub).Who(StringValue(), timeout=5)


async def test_one_worker_cannot_stand_in_for_another(pki: MeshPki) -> None:
    async with echo_server(pki, identity=pki.identity("worker", "a" * 32).held()) as echo:
        async with echo.peer(server_name=f"{'a' * 32}.worker.{pki.cluster}") as peer:
            await peer.stub(EchoStub).Who(StringValue(), timeout=5)
        async with echo.peer(server_name=f"{'b' * 32}.worker.{pki.cluster}") as peer:
            with pytest.raises(errors.Unavailable):
                await peer.stub(EchoStub).Who(StringValue(), timeout=5)


def test_the_intermediate_excludes_all_addresses(pki: MeshPki) -> None:
    constraints = pki.attested.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")) in (constraints.value.excluded_subtrees or [])
