"""Everything that can be rotated is, while clients ask: no request fails, and what is new is really used (J08)."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest
from cryptography import x509

from cloister import Client
from cloister.rpc.files import create_private
from cloister.rpc.status import from_rpc_error
from fakes.evil_gateway import INFER, evil_gateway
from fakes.load import Truth, load_on
from fakes.running_mesh import CLUSTER, MODEL, RunningMesh, inputs, probe, soon

MEMBERSHIP_S = 9
OVERLAP_S = 2


@pytest.fixture(scope="module")
def turning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh of its own, whose members renew every few seconds."""
    mesh = RunningMesh(tmp_path_factory.mktemp("turning") / "mesh")
    mesh.found()
    settings = mesh.folder / "verifier" / "settings.toml"
    settings.write_text(settings.read_text().replace("[tls]", f"membership_s = {MEMBERSHIP_S}.0\n[tls]"))
    settings = mesh.folder / "worker" / "settings.toml"
    settings.write_text(settings.read_text().replace("[tls]", f"key_overlap_s = {OVERLAP_S}.0\n[tls]"))
    settings = mesh.folder / "provisioner" / "settings.toml"
    settings.write_text(f'{settings.read_text()}\n[next_vault.file]\nkey_file = "next.key"\n')
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

    async with load_on(turning, truth) as load:
        before = on_disk(path)
        assert is_issued(presented(turning, "worker-1"), before)
        await asyncio.to_thread(turning.cli, "ca", "rotate")
        after = on_disk(path)
        assert after.public_key() != before.public_key()
        for program in ("worker-1", "worker-2"):
            await soon(lambda: is_issued(presented(turning, program), after), f"{program} has one")  # noqa: B023
        await load.more()


@pytest.mark.attack("J08")
@pytest.mark.attack("G16")
async def test_new_keys_to_seal_to_fail_no_request_and_end_what_was_recorded(
    turning: RunningMesh, truth: Truth
) -> None:
    gateway, client = turning.identity("gateway"), turning.identity("client")
    async with evil_gateway(turning.gateway, CLUSTER, gateway, client) as evil, load_on(turning, truth) as load:
        async with Client.connect(evil.address, trust=turning.trust, identity=client) as recorded:
            await recorded.infer(MODEL, {"x": inputs(1)}, timeout_s=580)  # valid for longer than all of this lasts
        (request,) = evil.sent()
        load.keys.clear()
        await soon(lambda: all(len(load.keys[each["instance"]]) > 2 for each in turning.serving()), "keys turn")
        await load.more()
        for _ in range(20):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await evil.onward.unary_unary(INFER)(request, timeout=10)
            assert from_rpc_error(refused.value).reason == "seal.stale"


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


@pytest.mark.attack("J08")
async def test_a_new_root_fails_no_request(turning: RunningMesh, truth: Truth) -> None:
    """Workers are started anew once, one after the other; everybody else takes the new root up by itself."""

    async def started_anew(program: str) -> None:
        before = await asyncio.to_thread(turning.serving)
        pid = await asyncio.to_thread(turning.kill, program)
        await soon(lambda: turning.program(program)["pid"] not in (None, pid), "it is started again")
        known = {worker["instance"] for worker in before}
        await soon(lambda: len({each["instance"] for each in turning.serving()} - known) == 1, "and serves")
        await soon(lambda: len(turning.serving()) == 2, "and both serve")

    async with load_on(turning, truth) as load:
        await asyncio.to_thread(turning.cli, "ca", "add-root")
        for program in ("worker-1", "worker-2"):
            await started_anew(program)
        await asyncio.to_thread(turning.cli, "ca", "use-root")
        root = on_disk(turning.folder / "pki" / "root_ca.pem")
        authority = on_disk(turning.folder / "verifier" / "attested_ca.pem")
        for program, issuer in (
            ("gateway", root),
            ("verifier", root),
            ("provisioner", root),
            ("worker-1", authority),
            ("worker-2", authority),
        ):
            await soon(lambda: is_issued(presented(turning, program), issuer), f"{program} is of the new root")  # noqa: B023
        await load.more()
        await asyncio.to_thread(turning.cli, "ca", "drop-root")
        await load.more(300)


def is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # whatever the library says of another issuer
        return False
    return True


@pytest.mark.attack("J08")
async def test_another_root_key_under_the_model_keys_fails_no_request(turning: RunningMesh, truth: Truth) -> None:
    folder = turning.folder / "provisioner"
    create_private(folder / "next.key", secrets.token_bytes(32))
    async with load_on(turning, truth) as load:
        said = await asyncio.to_thread(turning.cli, "provisioner", "rotate-root")
        assert "needed no more" in said
        found = await asyncio.to_thread(turning.json, "provisioner", "status")
        assert [each["wraps"] for each in found] == [True, False]
        assert [bool(each["secrets"]) for each in found] == [True, False]
        assert found[0]["key_id"] in said
        await load.more()
    (folder / "next.key").rename(folder / "root.key")
