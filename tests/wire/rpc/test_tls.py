"""Who gets in: TLS 1.3 with a certificate of this mesh, for its role, and nobody else (G17, G18)."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from google.protobuf.wrappers_pb2 import StringValue

from cloister import errors
from cloister.rpc import certificates
from cloister.rpc.channel import Peer
from fakes.echo import EchoStub, Running, echo_server
from fakes.pki import MeshPki, Pems
from fakes.strangers import REFUSED_BY_TLS, REFUSED_BY_US, Presenting, speaks_http2


@pytest.fixture
async def echo(pki: MeshPki) -> AsyncIterator[Running]:
    async with echo_server(pki) as running:
        yield running


async def answers(echo: Running, pems: Pems | None, folder: Path, **limits: ssl.TLSVersion) -> bool:
    return await speaks_http2(echo.server.port, echo.pki, "verifier", pems, folder, **limits)


async def test_tls_1_3_with_a_certificate_is_answered(echo: Running, pki: MeshPki, tmp_path: Path) -> None:
    assert await answers(echo, pki.identity("gateway", "g"), tmp_path, minimum_version=ssl.TLSVersion.TLSv1_3)


@pytest.mark.attack("G17")
async def test_tls_1_2_is_refused(echo: Running, pki: MeshPki, tmp_path: Path) -> None:
    assert not await answers(echo, pki.identity("gateway", "g"), tmp_path, maximum_version=ssl.TLSVersion.TLSv1_2)


@pytest.mark.attack("G17")
async def test_no_certificate_is_refused(echo: Running, tmp_path: Path) -> None:
    assert not await answers(echo, None, tmp_path)


@pytest.mark.attack("G17")
@pytest.mark.attack("G18")
@pytest.mark.parametrize("wrong", REFUSED_BY_TLS)
async def test_the_handshake_refuses(echo: Running, pki: MeshPki, tmp_path: Path, wrong: str) -> None:
    pems = REFUSED_BY_TLS[wrong](pki)
    assert not await answers(echo, pems, tmp_path)
    async with echo.peer(Presenting(pems, pki.roots_pem)) as peer:
        with pytest.raises(errors.Unavailable):
            await peer.stub(EchoStub).Who(StringValue(), timeout=5)
    assert echo.calls == []


@pytest.mark.attack("G17")
@pytest.mark.attack("G18")
@pytest.mark.parametrize("wrong", REFUSED_BY_US)
async def test_no_call_of_it_is_answered(echo: Running, pki: MeshPki, wrong: str) -> None:
    async with echo.peer(Presenting(REFUSED_BY_US[wrong](pki), pki.roots_pem)) as peer:
        with pytest.raises(errors.Unauthenticated):
            await peer.stub(EchoStub).Who(StringValue(), timeout=5)
    assert (await echo.calls.ended(1)).code == "UNAUTHENTICATED"


@pytest.mark.attack("I03")
async def test_a_certificate_that_expires_on_an_open_connection_ends_its_calls(pki: MeshPki) -> None:
    """By the clock that the server was given: a worker's is not the host's."""
    brief, now = pki.identity("gateway", "g1", now=pki.now, life=timedelta(hours=1)), [pki.now.timestamp()]
    async with echo_server(pki, now_s=lambda: now[0]) as echo, echo.peer(brief.held()) as peer:
        stub = peer.stub(EchoStub)
        await stub.Who(StringValue(), timeout=5)
        now[0] += 3601
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
