"""The HTTPS listener over real TLS: version 1.3, a certificate that follows its files, limits, and an orderly end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from cloister.errors import InvalidRequest, NotReady
from cloister.kit.https import HttpsLimits, HttpsServer, https_server
from cloister.kit.lifecycle import Lifecycle
from cloister.rpc.certificates import load_certificate, spki_sha256
from cloister.rpc.identity import TlsFiles, TlsIdentity
from fakes.pki import MeshPki, Pems


def identity(pki: MeshPki) -> Pems:
    return pki.identity("verifier", "one", ips=("127.0.0.1",))


class Site:
    """An app that answers `/`, and `/slow` once it is told to."""

    def __init__(self) -> None:
        self.entered, self.release = asyncio.Event(), asyncio.Event()
        self.app = Router([Route("/", self.shown), Route("/slow", self.slow)])

    async def shown(self, request: Request) -> Response:
        certificate = request.scope["extensions"]["tls"]["server_cert"].encode()
        return JSONResponse({"spki_sha256": spki_sha256(certificate).hex()})

    async def slow(self, _request: Request) -> Response:
        self.entered.set()
        await self.release.wait()
        return JSONResponse({"done": True})


@pytest.fixture(scope="module")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture
def files(pki: MeshPki, tmp_path: Path) -> TlsFiles:
    return identity(pki).write(tmp_path / "tls")


@asynccontextmanager
async def listening(files: TlsFiles, site: Site, **limits: Any) -> AsyncIterator[tuple[HttpsServer, TlsIdentity]]:
    async with Lifecycle.running() as lifecycle, TlsIdentity.watching(files, poll_s=0.02) as held:
        bounds = HttpsLimits(**limits)
        async with https_server("127.0.0.1:0", held, files, site.app, lifecycle=lifecycle, limits=bounds) as server:
            yield server, held


def trusting(pki: MeshPki, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=pki.roots_pem.decode())
    context.maximum_version = newest
    return context


@asynccontextmanager
async def visitor(pki: MeshPki, server: HttpsServer) -> AsyncIterator[httpx.AsyncClient]:
    url = f"https://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=url, verify=trusting(pki), trust_env=False) as client:
        yield client


async def test_a_request_knows_the_key_that_its_connection_was_made_with(pki: MeshPki, files: TlsFiles) -> None:
    async with listening(files, Site()) as (server, held), visitor(pki, server) as client:
        answer = await client.get("/")
        tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
        assert (answer.status_code, tls.version()) == (200, "TLSv1.3")
        assert answer.json() == {"spki_sha256": spki_sha256(held.certificate).hex()}
        assert "server" not in answer.headers


async def connected(pki: MeshPki, server: HttpsServer, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What a raw client hears until the server is done with it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting(pki, newest))
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    heard = await reader.read()
    writer.close()
    return heard


async def test_tls_1_2_is_refused(pki: MeshPki, files: TlsFiles) -> None:
    async with listening(files, Site()) as (server, _):
        assert (await connected(pki, server)).startswith(b"HTTP/1.1 200")
        with pytest.raises(OSError):  # noqa: PT011  # an alert or a reset, as it happens
            await connected(pki, server, ssl.TLSVersion.TLSv1_2)


async def test_connections_are_bounded(pki: MeshPki, files: TlsFiles) -> None:
    site = Site()
    async with (
        listening(files, site, max_connections=1) as (server, _),
        visitor(pki, server) as first,
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(first.get("/slow"))
        await site.entered.wait()
        async with visitor(pki, server) as second:
            with pytest.raises(httpx.TransportError):
                await second.get("/")
        site.release.set()
        assert (await asked).status_code == 200


async def test_a_new_certificate_is_shown_to_whoever_connects_after_it(pki: MeshPki, files: TlsFiles) -> None:
    async with listening(files, Site()) as (server, held), visitor(pki, server) as before:
        old = (await before.get("/")).json()
        new = identity(pki)
        generation = held.generation
        new.write(files.certificate.parent)
        async with asyncio.timeout(30):
            await held.changed(generation)
            while (await before.get("/")).json() == old:
                pass
        async with visitor(pki, server) as after:
            answer = await after.get("/")
            shown = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert x509.load_der_x509_certificate(shown) == load_certificate(new.certificate)
        assert answer.json() == {"spki_sha256": spki_sha256(new.certificate).hex()}


async def test_half_of_a_new_pair_changes_nothing(pki: MeshPki, files: TlsFiles) -> None:
    async with listening(files, Site()) as (server, held):
        old = spki_sha256(held.certificate).hex()
        files.certificate.write_bytes(identity(pki).certificate)
        await asyncio.sleep(0.1)
        async with visitor(pki, server) as client:
            assert (await client.get("/")).json() == {"spki_sha256": old}


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [("GET", "/nothing", 404, "path.unknown"), ("POST", "/", 405, "method.not_allowed")],
)
async def test_what_is_not_served_is_said_as_json(
    pki: MeshPki, files: TlsFiles, method: str, path: str, status: int, reason: str
) -> None:
    async with listening(files, Site()) as (server, _), visitor(pki, server) as client:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (status, reason)


async def test_what_is_under_way_at_the_end_is_answered(pki: MeshPki, files: TlsFiles) -> None:
    site = Site()
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        async with listening(files, site) as (server, _):
            client = await asyncio.to_thread(lambda: httpx.AsyncClient(verify=trusting(pki), trust_env=False))
            asked = group.create_task(client.get(f"https://127.0.0.1:{server.port}/slow"))
            await site.entered.wait()
            asyncio.get_running_loop().call_later(0.05, site.release.set)
        assert (await asked).json() == {"done": True}
        with pytest.raises(httpx.ConnectError):
            await client.get(f"https://127.0.0.1:{server.port}/")
        await client.aclose()


@pytest.mark.parametrize("sent", [b"", b"GET / HT"], ids=["nothing", "half a head"])
async def test_a_connection_without_a_request_is_closed(pki: MeshPki, files: TlsFiles, sent: bytes) -> None:
    async with listening(files, Site(), idle_s=0.1) as (server, _), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting(pki))
        writer.write(sent)
        assert b"200" not in await reader.read()
        writer.close()


async def test_a_head_without_end_is_refused(pki: MeshPki, files: TlsFiles) -> None:
    async with listening(files, Site()) as (server, _), visitor(pki, server) as client:
        answer = await client.get("/", headers={"x": "y" * (64 << 10)})
        assert answer.status_code in (400, 431)


async def test_an_address_that_is_taken_is_said(files: TlsFiles) -> None:
    async with listening(files, Site()) as (server, held), Lifecycle.running() as lifecycle:
        with pytest.raises(NotReady) as refused:
            async with https_server(f"127.0.0.1:{server.port}", held, files, Site().app, lifecycle=lifecycle):
                pass
        assert refused.value.reason == "address.taken"
        with pytest.raises(InvalidRequest, match="https_listen: must be host:port"):
            async with https_server("nowhere", held, files, Site().app, lifecycle=lifecycle):
                pass


# Peers that mean ill


async def raw(pki: MeshPki, server: HttpsServer, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS connection on which this was said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting(pki))
    writer.write(sent)
    return reader, writer


async def test_connections_that_do_not_even_begin_tls_are_counted(pki: MeshPki, files: TlsFiles) -> None:
    async with listening(files, Site(), max_connections=2) as (server, _), asyncio.timeout(8):
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(6)]
        for reader, _ in silent[2:]:
            with suppress(ConnectionError):
                assert await reader.read() == b""
        for _, writer in silent:
            writer.close()
        while True:
            with suppress(httpx.TransportError):
                async with visitor(pki, server) as client:
                    assert (await client.get("/")).status_code == 200
                    break


async def test_a_body_that_nobody_wants_holds_nothing(pki: MeshPki, files: TlsFiles) -> None:
    unwanted = b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 64
    async with listening(files, Site(), max_connections=1) as (server, _), asyncio.timeout(8):
        for sent in (unwanted, unwanted, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"):
            heard = b""
            while not heard:
                with suppress(ConnectionError):  # cut, while the one before is not quite gone
                    reader, writer = await raw(pki, server, sent)
                    heard = await reader.read()
                    writer.close()
            assert heard.startswith(b"HTTP/1.1 200")


async def test_who_does_not_read_is_cut_and_keeps_nobody_out(pki: MeshPki, files: TlsFiles) -> None:
    site = Site()
    async with (
        listening(files, site, max_concurrent=1, write_s=0.3) as (server, _),
        visitor(pki, server) as first,
        asyncio.timeout(20),
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(first.get("/slow"))
        await site.entered.wait()
        _, flood = await raw(pki, server, b"")
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(2):
                while True:  # each is told 429, until nothing more fits in between
                    flood.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 1000)
                    await flood.drain()
        site.release.set()
        assert (await asked).status_code == 200
        flood.transport.abort()
        async with visitor(pki, server) as other:
            while (await other.get("/")).status_code != 200:
                pass


@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n\r\n",
    ],
    ids=["prior knowledge", "upgrade"],
)
async def test_nothing_but_http_1_1_is_spoken(pki: MeshPki, files: TlsFiles, sent: bytes) -> None:
    async with listening(files, Site()) as (server, _), asyncio.timeout(8):
        reader, writer = await raw(pki, server, sent)
        heard = await reader.read()
        writer.close()
        assert b"\x00\x00\x00\x04" not in heard  # no frame of HTTP/2
        assert (await connected(pki, server)).startswith(b"HTTP/1.1 200")
