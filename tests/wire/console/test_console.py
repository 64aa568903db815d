"""The console's listener: plain on the loopback interface, elsewhere only mutual TLS with the right role."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from cloister.cli.ports import free_ports
from cloister.console.app import opened
from cloister.console.settings import Settings
from cloister.errors import InvalidRequest
from cloister.kit.https import loopback_server
from cloister.kit.lifecycle import Lifecycle
from cloister.rpc.identity import TlsFiles
from fakes.pki import CLUSTER, MeshPki
from fakes.serving import FakeVerifier


@pytest.fixture(scope="module")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture
def settings(pki: MeshPki, tmp_path: Path) -> dict[str, Any]:
    """A console of a mesh in which nobody answers."""
    (tmp_path / "trust.json").write_bytes(FakeVerifier().trust().to_json())
    nobody = "127.0.0.1:1"
    return {
        "cluster": CLUSTER,
        **dict.fromkeys(("gateway", "verifier", "provisioner"), nobody),
        "trust": tmp_path / "trust.json",
        "identity": pki.identity("auditor", "one").write(tmp_path / "auditor"),
        "listen": f"127.0.0.1:{free_ports(1, first=31_000)[0]}",
        "link": tmp_path / "console.link",
    }


@asynccontextmanager
async def console(settings: dict[str, Any]) -> AsyncIterator[tuple[int, list[str]]]:
    urls: list[str] = []
    async with Lifecycle.running() as lifecycle, opened(Settings(**settings), lifecycle, urls.append) as port:
        yield port, urls


def kept(settings: dict[str, Any]) -> tuple[str, int] | None:
    """What stands in the link's file, and its mode."""
    file: Path = settings["link"]
    return (file.read_text().strip(), file.stat().st_mode & 0o777) if file.exists() else None


async def test_the_link_opens_the_pages_once_and_is_nobody_elses_to_read(settings: dict[str, Any]) -> None:
    async with console(settings) as (_, urls):
        assert kept(settings) == (urls[-1], 0o600)
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as browser:
            assert (await browser.get(urls[0])).text.startswith("<!doctype html>")
            address = f"http://{settings['listen']}"
            for path, kind in (("/receipt", "text/html"), ("/static/mesh.mjs", "text/javascript")):
                assert (await browser.get(f"{address}{path}")).headers["content-type"].startswith(kind)
            assert (await browser.get(f"{address}/static/mesh.html")).status_code == 404
            assert (await browser.get(f"{address}/static/../app.py")).status_code == 404
            assert (await browser.post(f"{address}/api/mesh", content=b"x")).status_code == 403
            page = (await browser.get(f"{address}/api/mesh")).json()
        assert len(urls) == 2
        assert {service["name"] for service in page["services"] if service["trouble"]} == {
            "gateway",
            "verifier",
            "provisioner",
        }
        async with httpx.AsyncClient(trust_env=False) as late:
            assert (await late.get(urls[0])).status_code == 403
    assert kept(settings) is None


def visiting(pki: MeshPki, files: TlsFiles | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=pki.roots_pem.decode())
    if files is not None:
        context.load_cert_chain(files.certificate, files.private_key)
    return context


@pytest.mark.attack("J04")
async def test_over_https_only_operators_and_auditors_of_this_mesh_look(
    pki: MeshPki, settings: dict[str, Any], tmp_path: Path
) -> None:
    serving = pki.identity("console", "one", ips=("127.0.0.1",), dns=("console.example.org",)).write(
        tmp_path / "console"
    )
    stranger = MeshPki()
    async with console({**settings, "https": serving, "link": None}) as (_, urls):

        async def seen(who: TlsFiles | None, host: str = settings["listen"]) -> int:
            async with httpx.AsyncClient(verify=visiting(pki, who), trust_env=False) as browser:
                return (await browser.get(urls[-1], headers={"host": host})).status_code

        roles = ("operator", "auditor", "client", "owner", "enrol", "worker")
        found = {role: await seen(pki.identity(role, "a" * 32).write(tmp_path / role)) for role in roles}
        assert found == {"operator": 200, "auditor": 200, "client": 403, "owner": 403, "enrol": 403, "worker": 403}
        port = settings["listen"].rpartition(":")[2]
        operator = pki.identity("operator", "two").write(tmp_path / "two")
        assert await seen(operator, f"console.example.org:{port}") == 200
        assert await seen(operator, f"evil.example:{port}") == 403
        other = pki.identity("operator", "one", cluster="other.example").write(tmp_path / "other")
        assert await seen(other) == 403
        assert await seen(None) == 403
        with pytest.raises(httpx.TransportError):
            await seen(stranger.identity("operator", "one").write(tmp_path / "stranger"))


async def test_plain_http_is_served_on_no_other_address() -> None:
    async with Lifecycle.running() as lifecycle:
        for address in ("0.0.0.0:0", "10.1.2.3:0", ":0"):
            with pytest.raises(InvalidRequest):
                async with loopback_server(address, PlainTextResponse("x"), lifecycle=lifecycle):
                    pass
