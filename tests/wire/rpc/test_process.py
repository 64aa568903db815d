"""A service as a process of its own: signals, exit codes, one line for what went wrong, and no TLS 1.2."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes.pki import MeshPki

_PROGRAM = Path(__file__).with_name("service_process.py")


@pytest.fixture
def settings(pki: MeshPki, tmp_path: Path) -> Path:
    pki.identity("gateway", "g1").write(tmp_path / "tls")
    file = tmp_path / "settings.toml"
    file.write_text(
        '[tls]\ncertificate = "tls/certificate.pem"\nprivate_key = "tls/key.pem"\ntrust_roots = "tls/roots.pem"\n'
    )
    return file


@asynccontextmanager
async def started(settings: Path, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, with nothing in its environment that would make gRPC speak TLS 1.3 only."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GRPC", "PYTHONASYNCIO"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(_PROGRAM),
        "--settings",
        str(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, **environ},
    )
    try:
        async with asyncio.timeout(30):
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


async def test_it_serves_tls_1_3_only_and_ends_cleanly_on_sigterm(settings: Path, pki: MeshPki) -> None:
    async with started(settings) as process:
        port = (await event(process, "server.listening"))["port"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pki.roots_pem.decode())
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        name = f"gateway.{pki.cluster}"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.transport.abort()
        process.send_signal(signal.SIGTERM)
        await event(process, "service.stopped")
        assert await process.wait() == 0


async def test_a_background_loop_that_fails_ends_the_process_with_one_line(settings: Path) -> None:
    async with started(settings, CLOISTER_GATEWAY_MODE="fail") as process:
        out, err = await process.communicate()
    assert process.returncode == 1
    failed = [line for line in out.splitlines() if b"service.failed" in line]
    assert len(failed) == 1
    assert json.loads(failed[0])["error"] == "ValueError"
    assert b"contents" not in out + err


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"CLOISTER_GATEWAY_LISTN": "x"}, b"CLOISTER_GATEWAY_LISTN"),
        ({"CLOISTER_GATEWAY_MODE": "bad"}, b"mode: no such mode"),
    ],
    ids=["unknown variable", "refused by the service"],
)
async def test_bad_settings_are_one_line_on_stderr(settings: Path, environ: dict[str, str], said: bytes) -> None:
    async with started(settings, **environ) as process:
        _, err = await process.communicate()
    assert process.returncode == 2
    assert err.count(b"\n") == 1
    assert said in err


async def test_a_key_that_others_can_read_stops_the_start(settings: Path) -> None:
    (settings.parent / "tls" / "key.pem").chmod(0o640)
    async with started(settings) as process:
        out, _ = await process.communicate()
    assert process.returncode == 1
    assert b"open to other users" in out
