"""A process that says too much, in every way there is: what of it reaches those outside (attack I05)."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloister.kit.environment import LABEL
from wire.kit.leaking_service import MARKER

PROGRAM = Path(__file__).with_name("leaking_service.py")
INSIDE = {LABEL: "worker hardened"}
CLASSES = {"ValueError", "ParseError", "RuntimeError"}


@asynccontextmanager
async def leaking(folder: Path, dies: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, allowed by whoever starts it to leave as large a core file as there may be."""
    (folder / "settings.toml").write_text(f'dies = "{dies}"\n')
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(PROGRAM), "--settings", str(folder / "settings.toml")),
        cwd=folder,
        env={"HOME": str(folder), "LC_ALL": "C.UTF-8", **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)),
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def core_files(folder: Path) -> list[Path]:
    """Where the kernel puts them by default."""
    return list(folder.glob("*core*"))


def records(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.attack("I05")
@pytest.mark.parametrize(("dies", "number"), [("fatal", signal.SIGABRT), ("segfault", signal.SIGSEGV)])
async def test_inside_an_enclave_nothing_but_a_log_without_contents_comes_out(
    tmp_path: Path, dies: str, number: int
) -> None:
    async with leaking(tmp_path, dies, **INSIDE) as process:
        out, err = await process.communicate()
    assert process.returncode == -number
    assert err == b""
    assert MARKER.encode() not in out
    said = records(out)
    assert said[-1]["event"] == "all.leaked"
    assert {each["error"] for each in said if "error" in each} >= CLASSES
    events = {each["event"] for each in said}
    assert {"thread.failed", "error.ignored", "warning.issued", "library.logged"} <= events
    assert core_files(tmp_path) == []


@pytest.mark.attack("I05")
async def test_outside_no_message_of_an_error_is_logged_by_us_and_no_core_file_is_left(tmp_path: Path) -> None:
    """What libraries say of their own accord is the operator's there; that it is seen shows that the test can see."""
    async with leaking(tmp_path, "abort") as process:
        out, err = await process.communicate()
    assert process.returncode == -signal.SIGABRT
    lines = [line for line in out.splitlines() if line.startswith(b"{")]
    ours = [each for each in records(b"\n".join(lines)) if each["event"] != "library.logged"]
    assert MARKER not in json.dumps(ours)
    assert {each["error"] for each in ours if "error" in each} >= CLASSES
    assert f"{MARKER} by native code".encode() in out
    assert f"{MARKER} by native code".encode() in err
    assert b"Traceback" not in out + err
    assert core_files(tmp_path) == []


@pytest.mark.attack("I05")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_its_memory_is_closed_whatever_the_kernel_does_with_core_files(tmp_path: Path) -> None:
    async with leaking(tmp_path, "waiting") as process:
        assert process.stdout is not None
        while b"all.leaked" not in (line := await process.stdout.readline()):
            assert line
        assert json.loads(line)["dumpable"] == 0
        proc = Path("/proc") / str(process.pid)
        (limit,) = [line for line in (proc / "limits").read_text().splitlines() if line.startswith("Max core")]
        assert limit.split()[4:6] == ["0", "0"]
        if os.geteuid() == 0:  # to others of its user, it belongs to root now
            assert int((proc / "coredump_filter").read_text(), 16) == 0
        assert (proc / "environ").stat().st_uid == 0
