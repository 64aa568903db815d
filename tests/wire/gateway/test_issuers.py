"""Where the keys of an issuer are asked for, over real HTTPS: nobody else, nothing endless, and nothing for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from cloister.errors import CloisterError, InvalidRequest, NotReady, Unavailable
from cloister.gateway import jwks_source
from cloister.gateway.jwks_source import source_of
from cloister.gateway.limits import TenantLimits
from cloister.gateway.tenancy import Tenancy
from cloister.gateway.tenant_file import IssuerTable, TenantsFile
from cloister.kit.lifecycle import Lifecycle
from fakes.oidc_issuer import KeysPage, OidcIssuer, jwks_of, send, serving_keys
from fakes.pki import CLUSTER, MeshPki
from fakes.tenants import bearer, issuer_table, tenants_text

ISSUER = OidcIssuer()


@pytest.fixture
def ca(tmp_path: Path, pki: MeshPki) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(pki.roots_pem)
    return path


@pytest.fixture
def page(pki: MeshPki) -> Iterator[KeysPage]:
    with serving_keys(KeysPage(ISSUER.jwks()), pki) as made:
        yield made


def table(url: str, ca: Path | None = None) -> IssuerTable:
    return IssuerTable(issuer="i", audience="a", jwks_url=url, ca=ca)


async def fetched(url: str, ca: Path | None) -> bytes:
    fetch, _ = source_of(table(url, ca), Path("/"))
    return await fetch()


async def test_tokens_are_verified_by_keys_that_are_asked_for_and_asked_for_again(
    page: KeysPage, ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tenants_text(issuer_table(jwks_url=page.url, ca=ca.name))
    file = TenantsFile.parse(text.encode(), tmp_path / "tenants.toml", CLUSTER)
    monkeypatch.setattr(jwks_source, "URL_S", 0.2)
    async with Lifecycle.running() as lifecycle:
        tenancy = Tenancy(CLUSTER, TenantLimits(calls=1), 1 << 20, spawn=lifecycle.spawn)
        await tenancy.use(file, tmp_path)
        lifecycle.spawn(tenancy.tokens.refreshing(), "issuers")
        peer = await tenancy.credentials.identify(bearer(ISSUER.token(department="radiology")), None)
        assert tenancy.directory.of(peer.spiffe_id).name == "radiology"
        newer = OidcIssuer("EdDSA", "k2")
        page.body = jwks_of(ISSUER, newer)
        heard = len(page.heard)
        async with asyncio.timeout(5):
            while len(page.heard) < heard + 2:  # noqa: ASYNC110 - there is no event across a wire
                await asyncio.sleep(0.01)
        await tenancy.credentials.identify(bearer(newer.token(department="radiology")), None)


async def test_keys_in_a_file_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(ISSUER.jwks())
    path.chmod(0o644)
    text = tenants_text(issuer_table(jwks_url="", jwks_file=path.name))
    file = TenantsFile.parse(text.encode(), tmp_path / "tenants.toml", CLUSTER)
    newer = OidcIssuer(kid="k2")
    async with Lifecycle.running() as lifecycle:
        tenancy = Tenancy(CLUSTER, TenantLimits(calls=1), 1 << 20, spawn=lifecycle.spawn)
        await tenancy.use(file, tmp_path)
        lifecycle.spawn(tenancy.tokens.refreshing(), "issuers")
        await tenancy.credentials.identify(bearer(ISSUER.token(department="radiology")), None)
        path.write_bytes(jwks_of(newer))
        async with asyncio.timeout(5):
            while True:
                try:
                    await tenancy.credentials.identify(bearer(newer.token(department="radiology")), None)
                    break
                except CloisterError:
                    await asyncio.sleep(0.05)


def _redirected(handler: BaseHTTPRequestHandler) -> None:
    if handler.path == "/keys":
        send(handler, 302, b"", Location="/inside")
    else:
        send(handler, 200, ISSUER.jwks())


def _endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(b"1000\r\n" + b"0" * 4096 + b"\r\n")


def _dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def _compressed(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b"\x1f\x8b", **{"Content-Encoding": "gzip"})


def _failed(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 500, ISSUER.jwks())


@pytest.mark.attack("G27")
@pytest.mark.parametrize(
    ("misbehaves", "kind", "reason"),
    [
        (_redirected, InvalidRequest, "jwks.redirected"),
        (_endless, InvalidRequest, "jwks.invalid"),
        (_dripping, Unavailable, "jwks.unreachable"),
        (_compressed, InvalidRequest, "jwks.invalid"),
        (_failed, Unavailable, "jwks.unreachable"),
    ],
)
async def test_an_address_that_leads_elsewhere_drips_or_does_not_end(
    page: KeysPage,
    ca: Path,
    monkeypatch: pytest.MonkeyPatch,
    misbehaves: object,
    kind: type[CloisterError],
    reason: str,
) -> None:
    monkeypatch.setattr(jwks_source, "DEADLINE_S", 1.0)
    assert await fetched(page.url, ca) == ISSUER.jwks()
    page.misbehaves = misbehaves  # type: ignore[assignment]
    with pytest.raises(kind) as raised:
        await fetched(page.url, ca)
    assert raised.value.reason == reason
    assert page.heard == ["/keys", "/keys"]


@pytest.mark.attack("E09")
async def test_who_stands_in_the_issuers_place_is_not_believed(page: KeysPage, ca: Path, pki: MeshPki) -> None:
    with pytest.raises(Unavailable, match="its TLS certificate is not believed"):
        await fetched(page.url, None)  # by the system's roots
    other = MeshPki()
    with serving_keys(KeysPage(ISSUER.jwks()), other) as elsewhere:
        with pytest.raises(Unavailable, match="its TLS certificate is not believed"):
            await fetched(elsewhere.url, ca)
        assert elsewhere.heard == []
    with (
        serving_keys(KeysPage(ISSUER.jwks()), pki, name="another.example") as misnamed,
        pytest.raises(Unavailable, match="its TLS certificate is not believed"),
    ):
        await fetched(misnamed.url, ca)


@pytest.mark.attack("G27")
async def test_the_environment_names_no_proxy(page: KeysPage, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await fetched(page.url, ca) == ISSUER.jwks()


@pytest.mark.parametrize("url", ["https://[v1.a]/keys", "https://999.1.1.1/keys"])
async def test_an_address_that_is_none_is_not_reached_and_ends_nothing(ca: Path, url: str) -> None:
    with pytest.raises(Unavailable):
        await fetched(url, ca)


def test_a_file_of_certificates_that_holds_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(NotReady, match="holds no usable CA certificates"):
        source_of(table("https://a.example/keys", path), tmp_path)
