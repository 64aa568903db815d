"""`cloister-gateway` with Envoy, as processes that are started, stopped and killed for real."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from cloister.gateway.settings import Settings
from cloister.rpc.identity import TlsFiles
from fakes.pki import MeshPki
from fakes.programs import program, written
from fakes.running_gateway import free_port

NOBODY = "127.0.0.1:9"


@pytest.fixture
def settings(tmp_path: Path, pki: MeshPki) -> Settings:
    files = pki.identity("gateway", "main", ips=("127.0.0.1",)).write(tmp_path / "tls")
    listen = f"127.0.0.1:{free_port()}"
    return Settings(cluster=pki.cluster, listen=listen, verifier=NOBODY, tls=files, front="envoy", grace_s=1.0)


@asynccontextmanager
async def started(folder: Path, settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    python, *words = program("gateway", written(folder, settings))
    process = await asyncio.create_subprocess_exec(
        *(python, "-P", *words),  # imports nothing from where it is started, as an installed program
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONASYNCIODEBUG": ""},
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def event(process: asyncio.subprocess.Process, name: str) -> dict[str, Any]:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        record: dict[str, Any] = json.loads(line)
        if record["event"] == name:
            return record
    raise AssertionError(f"{name} was never logged")


def envoy_under(process: asyncio.subprocess.Process) -> int:
    """The one child."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert "envoy" in Path(f"/proc/{child}/cmdline").read_text()
    return int(child)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def makes_no_core_file(pid: int) -> bool:
    limits = Path(f"/proc/{pid}/limits").read_text()
    return re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE) is not None


async def gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while alive(pid):  # noqa: ASYNC110 - it is not our child
            await asyncio.sleep(0.02)


def named_sockets(pid: int) -> set[str]:
    """Names of the Unix sockets that a process has; those that begin with @ are open to everybody on the machine."""
    own = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            own.add(str(each.readlink()))
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {line[7] for line in lines if len(line) > 7 and f"socket:[{line[6]}]" in own}


@pytest.mark.attack("G17")
async def test_it_serves_and_ends_as_asked_and_others_on_the_machine_have_no_say(
    tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "uvloop.py").write_text("raise SystemExit('the working directory is not to be imported from')")
    files = settings.tls
    relative = TlsFiles(**{each.name: getattr(files, each.name).relative_to(tmp_path) for each in fields(files)})
    async with started(tmp_path, replace(settings, tls=relative)) as process:
        said = await event(process, "server.listening")
        assert (said["port"], said["front"]) == (int(settings.listen.split(":")[1]), "envoy")
        envoy = envoy_under(process)
        assert makes_no_core_file(envoy)
        if os.access(f"/proc/{envoy}/fd", os.R_OK):  # root may look into it, and nobody else
            (admin,) = named_sockets(envoy)
            assert Path(admin).name == "admin.sock"
            assert Path(admin).parent.stat().st_mode & 0o077 == 0
        process.send_signal(signal.SIGTERM)
        rest, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert [json.loads(line)["event"] for line in rest.splitlines()][-1] == "service.stopped"
    await gone(envoy)


async def test_whoever_of_the_two_is_killed_the_other_ends(tmp_path: Path, settings: Settings) -> None:
    async with started(tmp_path, settings) as process:
        await event(process, "server.listening")
        os.kill(envoy_under(process), signal.SIGKILL)
        said, _ = await process.communicate()
    assert process.returncode == 1
    failed = [json.loads(line) for line in said.splitlines()][-1]
    assert failed["event"] == "service.failed"
    assert "inside Envoy" in str(failed)
    async with started(tmp_path, settings) as process:
        await event(process, "server.listening")
        envoy = envoy_under(process)
        process.kill()
        await process.wait()
        await gone(envoy)


@pytest.mark.parametrize("wrong", ["address", "metrics", "key", "routing"])
async def test_what_it_cannot_start_with_is_named(tmp_path: Path, settings: Settings, wrong: str) -> None:
    with socket.socket() as taken:
        if wrong == "address":
            taken.bind(("127.0.0.1", int(settings.listen.split(":")[1])))
            taken.listen()
        elif wrong == "metrics":
            settings = replace(settings, metrics_listen="everywhere")
        elif wrong == "routing":
            (tmp_path / "routing.toml").write_text("models = 3")
            settings = replace(settings, routing=tmp_path / "routing.toml")
        else:
            settings.tls.private_key.chmod(0o644)
        async with started(tmp_path, settings) as process:
            said, errors = await process.communicate()
    refused = {"metrics": "metrics_listen: must be host:port", "routing": "routing: routing.toml: models is no table"}
    if wrong in refused:
        assert process.returncode == 2
        assert errors.decode().splitlines()[-1] == f"cloister-gateway: {refused[wrong]}"
    else:
        assert process.returncode == 1
        assert {"address": "cannot listen on", "key": "key"}[wrong] in said.decode()
