"""The committed stubs are what protos/ says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOC_PYTHON = ROOT / ".venv-protoc" / "bin" / "python"


def test_committed_stubs_match_the_protos() -> None:
    if sys.version_info >= (3, 13):
        pytest.skip("the oldest supported protoc has no wheel for this Python; 3.11 and 3.12 check for drift")
    assert PROTOC_PYTHON.exists(), "run `make test`, or `make protos` once: the stub generator is not installed"
    done = subprocess.run(
        [PROTOC_PYTHON, ROOT / "protos" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_proto_has_a_stub() -> None:
    protos = {p.relative_to(ROOT / "protos").with_suffix("") for p in (ROOT / "protos").rglob("*.proto")}
    stubs = {
        p.relative_to(ROOT / "services").with_name(p.name.removesuffix("_pb2.py"))
        for p in (ROOT / "services").rglob("*_pb2.py")
    }
    assert protos == stubs
