"""Both services as processes: they start from their settings file, stop as asked, and say why when they cannot."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloister.ear import SigningKey
from cloister.verifier.settings import Settings as VerifierSettings
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.programs import program, written
from fakes.running_services import provisioner_settings, verifier_settings


@pytest.fixture(params=["verifier", "provisioner"])
def service(
    request: pytest.FixtureRequest, tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> tuple[str, Any]:
    """Name and settings of one service."""
    if request.param == "verifier":
        return "verifier", verifier_settings(tmp_path, pki, platform, signing_key)
    return "provisioner", provisioner_settings(tmp_path, pki, signing_key)


async def started(name: str, settings: Path) -> asyncio.subprocess.Process:
    return await running(program(name, settings))


async def running(command: list[str], **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONASYNCIODEBUG": "", **environment},
    )


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def alive(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_it_serves_until_told_to_stop(service: tuple[str, Any], tmp_path: Path) -> None:
    name, settings = service
    process = await started(name, written(tmp_path, settings))
    assert process.stdout is not None
    async with asyncio.timeout(30):
        events = []
        while not events or events[-1] != "server.listening":
            events.append(json.loads(await process.stdout.readline())["event"])
        assert events.count("policy.unpinned") == (name == "verifier")  # simulated, and a policy that names no code
        assert events.count("verifier.simulated") == (name == "verifier")
        process.send_signal(signal.SIGTERM)
        rest, _ = await process.communicate()
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()][-1] == "service.stopped"


async def test_its_judging_processes_end_with_it_however_it_ends(
    tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> None:
    settings = replace(verifier_settings(tmp_path, pki, platform, signing_key), appraisal_processes=2)
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = await started("verifier", written(tmp_path, settings))
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while json.loads(await process.stdout.readline())["event"] != "server.listening":
                pass
            children = children_of(process.pid)
            assert len(children) == 2
            process.send_signal(number)
            said, _ = await process.communicate()
            assert process.returncode == (0 if number is signal.SIGTERM else -number)
            assert b"judge.lost" not in said
            while any(map(alive, children)):  # noqa: ASYNC110 - not ours to await
                await asyncio.sleep(0.01)


@pytest.mark.attack("C12")
async def test_an_unknown_key_in_its_settings_is_named(service: tuple[str, Any], tmp_path: Path) -> None:
    name, settings = service
    path = written(tmp_path, settings)
    path.write_text("simulation = true\n" + path.read_text())
    async with asyncio.timeout(30):
        process = await started(name, path)
        _, said = await process.communicate()
    assert process.returncode == 2
    (line,) = [line for line in said.splitlines() if not line.startswith(b"This is simulated")]
    assert line.startswith(f"cloister-{name}: ".encode())
    assert b"simulation" in line


async def test_a_key_that_others_can_read_is_said_in_one_line(service: tuple[str, Any], tmp_path: Path) -> None:
    name, settings = service
    key = settings.signing_key if name == "verifier" else settings.vault.file.key_file
    key.chmod(0o644)
    async with asyncio.timeout(30):
        process = await started(name, written(tmp_path, settings))
        out, _ = await process.communicate()
    assert process.returncode == 1
    last = json.loads(out.splitlines()[-1])
    assert last["event"] == "service.failed"
    assert f"{key} is open to other users" in last["error"]


@pytest.fixture
def production(tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey) -> VerifierSettings:
    """A verifier under Intel's root, as far as its settings go."""
    policy = tmp_path / "policy.toml"
    policy.write_text(f'policy_id = "production"\n[[reference_values]]\nmrenclave = "{"ab" * 32}"\n')
    settings = verifier_settings(tmp_path, pki, platform, signing_key)
    return replace(settings, anchor_root=None, policy=policy)


def genuine(settings: Path) -> list[str]:
    """`cloister-verifier`, whatever the settings say."""
    return [sys.executable, "-m", "cloister.verifier", "--settings", str(settings)]


async def refused(settings: Path, **environment: str) -> str:
    """What `cloister-verifier` says when it does not start."""
    async with asyncio.timeout(30):
        process = await running(genuine(settings), **environment)
        out, said = await process.communicate()
    assert process.returncode == 2
    assert b"server.listening" not in out
    return said.decode()


@pytest.mark.attack("C12")
async def test_the_production_program_refuses_a_private_root(production: VerifierSettings, tmp_path: Path) -> None:
    said = await refused(written(tmp_path, replace(production, anchor_root=tmp_path / "root.der")))
    assert "anchor_root" in said
    assert "cloister-simulator verifier" in said


@pytest.mark.attack("C12")
@pytest.mark.parametrize("name", ["CLOISTER_VERIFIER_ANCHOR_ROOT", "CLOISTER_VERIFIER_SIMULATION"])
async def test_no_variable_makes_the_production_program_believe_simulated_evidence(
    production: VerifierSettings, tmp_path: Path, name: str
) -> None:
    said = await refused(written(tmp_path, production), **{name: str(tmp_path / "root.der")})
    assert name.removeprefix("CLOISTER_VERIFIER_").lower() in said.lower()


@pytest.mark.attack("C11")
async def test_a_production_verifier_starts_and_judges_nobody_by_simulated_collateral(
    production: VerifierSettings, tmp_path: Path
) -> None:
    """The same settings without the private root are good ones; what is simulated in them is not believed."""
    process = await running(genuine(written(tmp_path, production)))
    assert process.stdout is not None
    async with asyncio.timeout(30):
        entries = []
        while not {"server.listening", "collateral.unusable"} <= {entry["event"] for entry in entries}:
            entries.append(json.loads(await process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0
    assert "anchor.simulated" not in {entry["event"] for entry in entries}
