"""The quoter of production under `gramine-direct`: with the simulator's files in place of Gramine's, and without."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister_simulator.held_file import HeldFile
from fakes.attestation import is_served, quote_over

PYTHON = Path("/usr/bin/python3.11")
MISSING = [name for name in ("gramine-direct", "gramine-manifest", str(PYTHON)) if shutil.which(name) is None]
pytestmark = [
    pytest.mark.gramine,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}"),
]
# What an enclave of ours has, but for its files: those are the machine's, and nobody looks at their digests.
MANIFEST = """
loader.entrypoint.uri = "file:{{ gramine.libos }}"
loader.argv = ["{{ python }}", "-I", "-S", "-B", "/program/attest.py"]
loader.env.LD_LIBRARY_PATH = "/lib:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu"
libos.entrypoint = "{{ python }}"
fs.root = { type = "tmpfs" }
fs.mounts = [
  { path = "/lib", uri = "file:{{ gramine.runtimedir() }}" },
  { path = "/lib/x86_64-linux-gnu", uri = "file:/lib/x86_64-linux-gnu" },
  { path = "/usr/lib", uri = "file:/usr/lib" },
  { path = "{{ python }}", uri = "file:{{ python }}" },
  { path = "/program/cloister", uri = "file:{{ cloister }}" },
  { path = "/program/attest.py", uri = "file:attest.py" },
  { type = "tmpfs", path = "/tmp" },
{% if mounted == "yes" %}
  { path = "/dev/attestation", uri = "file:host/attestation" },
{% endif %}
]
sgx.allowed_files = ["file:host/attestation"]
sgx.file_check_policy = "allow_all_but_log"
sgx.remote_attestation = "dcap"
sys.stack.size = "2M"
"""
# Asks for eight quotes at once, and prints what came of it.
PROGRAM = """
import asyncio, json, sys
sys.path.insert(0, "/program")
from cloister.errors import NotReady
from cloister.evidence.gramine import GramineQuoter

async def main():
    quoter = GramineQuoter(deadline_s=1.0)
    async with asyncio.TaskGroup() as group:
        quotes = [group.create_task(quoter.quote(bytes([i]) * 64)) for i in range(8)]
    return [task.result().hex() for task in quotes]

code, said = 0, None
try:
    said = asyncio.run(main())
except* NotReady as failed:
    code, said = 1, {"reason": failed.exceptions[0].reason, "said": str(failed.exceptions[0])}
print(json.dumps(said))
sys.exit(code)
"""


@contextmanager
def enclave(folder: Path, *, mounted: bool = True) -> Iterator[subprocess.Popen[str]]:
    """The program under Gramine, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "attest.py").write_text(PROGRAM)
    (folder / "attest.manifest.template").write_text(MANIFEST)
    said = {"python": PYTHON, "cloister": Path(cloister.__file__).parent, "mounted": "yes" if mounted else "no"}
    defined = [f"-D{name}={value}" for name, value in said.items()]
    render = ["gramine-manifest", *defined, "attest.manifest.template", "attest.manifest"]
    subprocess.run(render, cwd=folder, check=True, capture_output=True)
    with subprocess.Popen(
        ["gramine-direct", "attest"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, Any]:
    """Its exit code, and what it printed."""
    out, err = process.communicate(timeout=60)
    assert out, err
    return process.returncode, json.loads(out)


@contextmanager
def simulator(folder: Path, mrenclave: str) -> Iterator[None]:
    """`cloister-simulator attestation` for the enclave in a folder."""
    (folder / "measurement.json").write_text(json.dumps(MEASURED | {"mrenclave": mrenclave}))
    program = Path(sys.executable).with_name("cloister-simulator")
    served = folder / "host" / "attestation"
    words = ["attestation", served, "--platform", folder.parent / "sim", "--enclave", folder]
    words += ["--until-exit-of", str(os.getpid())]
    with subprocess.Popen([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not is_served(served):
                assert process.poll() is None
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert not list(served.iterdir())


MEASURED = {"set": "simulated", "mrsigner": None, "isvprodid": 101, "isvsvn": 1, "debug": False}


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    program = Path(sys.executable).with_name("cloister-simulator")
    subprocess.run([program, "init", tmp_path / "sim"], check=True, capture_output=True)
    return tmp_path / "sim"


def test_each_enclave_gets_quotes_of_its_own_over_what_it_asked(platform: Path, tmp_path: Path) -> None:
    mrenclaves = ["ab" * 32, "cd" * 32]
    with ExitStack() as stack:
        running = []
        for mrenclave in mrenclaves:
            folder = tmp_path / mrenclave[:2]
            folder.mkdir()
            stack.enter_context(simulator(folder, mrenclave))
            running.append(stack.enter_context(enclave(folder)))
        for mrenclave, process in zip(mrenclaves, running, strict=True):
            code, quotes = ended(process)
            assert code == 0
            raw = [bytes.fromhex(quote) for quote in quotes]
            assert [quote[368:432] for quote in raw] == [bytes([i]) * 64 for i in range(8)]
            assert {quote[112:144].hex() for quote in raw} == {mrenclave}


def test_without_the_mount_there_is_no_quote(tmp_path: Path) -> None:
    with enclave(tmp_path / "plain", mounted=False) as process:
        code, said = ended(process)
    assert (code, said["reason"]) == (1, "enclave.absent")
    assert "gramine-direct makes no quotes" in said["said"]


def written(folder: Path, **files: bytes) -> Path:
    """Attestation files that nobody serves."""
    host = folder / "host" / "attestation"
    host.mkdir(parents=True)
    for name, content in {"attestation_type": b"dcap", "user_report_data": bytes(64), **files}.items():
        (host / name).write_bytes(content)
    return host


@pytest.mark.attack("I12")
def test_a_quote_over_other_report_data_ends_the_program(tmp_path: Path) -> None:
    written(tmp_path / "hostile", quote=quote_over()(b"\xee" * 64))
    with enclave(tmp_path / "hostile") as process:
        code, said = ended(process)
    assert (code, said["reason"]) == (1, "quote.substituted")


def test_a_host_that_never_answers_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    """Gramine holds a lock on all paths meanwhile, and a thread is inside the call that nobody answers."""
    host = written(tmp_path / "silent")
    handler = signal.signal(signal.SIGIO, lambda *_: None)
    held = HeldFile.placed(host / "quote")
    try:
        with enclave(tmp_path / "silent") as process:
            code, said = ended(process)
    finally:
        held.let_go()
        signal.signal(signal.SIGIO, handler)
    assert (code, said["reason"]) == (1, "quote.overdue")
