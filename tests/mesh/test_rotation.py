"""Everything that can be rotated is, while clients ask: no request fails, and what is new is really used (J08)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from fakes.load import Truth, load_on
from fakes.running_mesh import RunningMesh, probe, soon

MEMBERSHIP_S = 9


@pytest.fixture(scope="module")
def turning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh of its own, whose members renew every few seconds."""
    mesh = RunningMesh(tmp_path_factory.mktemp("turning") / "mesh")
    mesh.found()
    settings = mesh.folder / "verifier" / "settings.toml"
    settings.write_text(settings.read_text().replace("[tls]", f"membership_s = {MEMBERSHIP_S}.0\n[tls]"))
    sealed = mesh.seal(probe())
    with mesh.up(workers=2):
        mesh.cli("model", "publish", sealed)
        mesh.allow("--allow-simulated", "--allow-plain")
        mesh.until_serving(2)
        yield mesh


def presented(mesh: RunningMesh, program: str) -> x509.Certificate:
    """The certificate that a service shows at a new handshake."""
    host, _, port = str(mesh.program(program)["address"]).rpartition(":")
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((host, int(port))).encode())


def on_disk(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.attack("J08")
async def test_new_identities_for_everybody_fail_no_request(turning: RunningMesh, truth: Truth) -> None:
    async with load_on(turning, truth) as load:
        await asyncio.to_thread(turning.cli, "identity", "renew", "--all")
        for service in ("gateway", "verifier", "provisioner"):
            renewed = on_disk(turning.identity(service) / "certificate.pem")
            await soon(lambda: presented(turning, service) == renewed, f"the {service} shows what it was given")  # noqa: B023
        await load.more()


@pytest.mark.attack("J08")
async def test_a_new_authority_for_workers_fails_no_request(turning: RunningMesh, truth: Truth) -> None:
    path = turning.folder / "verifier" / "attested_ca.pem"

    def certified_by(authority: x509.Certificate, program: str) -> bool:
        try:
            presented(turning, program).verify_directly_issued_by(authority)
        except Exception:  # whatever the library says of another issuer
            return False
        return True

    async with load_on(turning, truth) as load:
        before = on_disk(path)
        assert certified_by(before, "worker-1")
        await asyncio.to_thread(turning.cli, "ca", "rotate")
        after = on_disk(path)
        assert after.public_key() != before.public_key()
        for program in ("worker-1", "worker-2"):
            await soon(lambda: certified_by(after, program), f"{program} has a certificate of the new one")  # noqa: B023
        await load.more()


@pytest.mark.attack("J08")
async def test_new_signing_keys_fail_no_request_and_need_no_restart(turning: RunningMesh, truth: Truth) -> None:
    pids = {program["name"]: program["pid"] for program in turning.state["programs"]}
    async with load_on(turning, truth) as load:
        for _ in range(2):
            said = await asyncio.to_thread(turning.cli, "verifier", "rotate-key", "--lead", "2")
            kid = said.split()[0]
            load.kids.clear()
            await soon(lambda: list(load.kids.values()) == [kid, kid], "both are vouched for by the new key")  # noqa: B023
        await load.more()
    assert {program["name"]: program["pid"] for program in turning.state["programs"]} == pids
    events = [json.loads(line)["event"] for line in turning.log("provisioner").splitlines() if line.startswith("{")]
    assert events.count("verifier_keys.learned") == 2
