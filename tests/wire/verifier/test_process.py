"""Both services as processes: they start from their settings file, stop as asked, and say why when they cannot."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cloister.ear import SigningKey
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.running_services import provisioner_settings, verifier_settings


def written(folder: Path, settings: Any) -> Path:
    """The settings as the file that an operator would write."""
    lines, table = [], ["[tls]"]
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "tls":
            table += [f"{part.name} = {json.dumps(str(getattr(value, part.name)))}" for part in fields(value)]
        elif value is not None:
            lines.append(f"{field.name} = {json.dumps(str(value) if isinstance(value, Path) else value)}")
    path = folder / "settings.toml"
    path.write_text("\n".join([*lines, *table]) + "\n")
    return path


@pytest.fixture(params=["verifier", "provisioner"])
def service(
    request: pytest.FixtureRequest, tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> tuple[str, Any]:
    """Name and settings of one service."""
    if request.param == "verifier":
        return "verifier", verifier_settings(tmp_path, pki, platform, signing_key)
    return "provisioner", provisioner_settings(tmp_path, pki, signing_key)


async def started(name: str, settings: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"cloister.{name}",
        "--settings",
        str(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONASYNCIODEBUG": ""},
    )


async def test_it_serves_until_told_to_stop(service: tuple[str, Any], tmp_path: Path) -> None:
    name, settings = service
    process = await started(name, written(tmp_path, settings))
    assert process.stdout is not None
    async with asyncio.timeout(30):
        events = []
        while not events or events[-1] != "server.listening":
            events.append(json.loads(await process.stdout.readline())["event"])
        assert events.count("policy.unpinned") == (name == "verifier")  # simulated, and a policy that names no code
        process.send_signal(signal.SIGTERM)
        rest, _ = await process.communicate()
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()][-1] == "service.stopped"


async def test_an_unknown_key_in_its_settings_is_named(service: tuple[str, Any], tmp_path: Path) -> None:
    name, settings = service
    path = written(tmp_path, settings)
    path.write_text("simulation = true\n" + path.read_text())
    async with asyncio.timeout(30):
        process = await started(name, path)
        _, said = await process.communicate()
    assert process.returncode == 2
    assert said.startswith(f"cloister-{name}: ".encode())
    assert b"simulation" in said
    assert said.count(b"\n") == 1


async def test_a_key_that_others_can_read_is_said_in_one_line(service: tuple[str, Any], tmp_path: Path) -> None:
    name, settings = service
    key = settings.signing_key if name == "verifier" else settings.root_key
    key.chmod(0o644)
    async with asyncio.timeout(30):
        process = await started(name, written(tmp_path, settings))
        out, _ = await process.communicate()
    assert process.returncode == 1
    last = json.loads(out.splitlines()[-1])
    assert last["event"] == "service.failed"
    assert f"{key} is open to other users" in last["error"]
