"""`cloister model import-zoo`, killed while it seals: no disk has anything of the model in clear."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fakes.founded import found
from fakes.zoo_encryption import SALT, SECRET, as_their_jvm, encrypted

SHARED = Path("/dev/shm")
CANARY = b"canary-of-the-weights"
XML = b'<net name="canary-of-the-topology"><layers/></net>'


def test_a_kill_leaves_nothing_in_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = found(tmp_path / "mesh", monkeypatch)
    for name, content in (("secret", SECRET.encode()), ("salt", SALT.encode())):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    files = {"model.xml": XML, "model.bin": CANARY * 400_000}
    for name, plain in files.items():
        (tmp_path / name).write_bytes(encrypted(as_their_jvm(plain), "AES256"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    out = tmp_path / "sealed"
    given = [tmp_path / "model.xml", tmp_path / "model.bin", "--name", "digits", "--out", out, "--unchecked"]
    secrets = ["--secret-file", tmp_path / "secret", "--salt-file", tmp_path / "salt", "--mesh", mesh.folder]
    words = [sys.executable, "-m", "cloister.cli", "model", "import-zoo", *given, *secrets]
    memory = set(SHARED.iterdir())
    with subprocess.Popen(words, cwd=temporary, env={**os.environ, "TMPDIR": str(temporary)}) as process:
        until = time.monotonic() + 60
        while not (out / "model.sealed").exists() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert out / "model.sealed" in left, "killed before there was anything to leave"
    assert not list(temporary.iterdir())
    assert not [path for path in set(SHARED.iterdir()) - memory if path.name.startswith("cloister-")]
    for path in left:
        content = path.read_bytes()
        assert CANARY[:8] not in content, path
        assert XML[:16] not in content, path
