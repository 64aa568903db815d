"""The Node.js client, run as a person would; where it cannot run, tests that need it are skipped and say why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "clients" / "node"


class Ended(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """What `infer.mjs` printed."""
        return json.loads(self.out)


def need_node() -> str:
    """Where Node.js is; skips the test where it or the client's packages are not."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules" / "installed").exists():
        pytest.skip("needs Node.js 20.19 or later, npm, and `sh deploy/node.sh clients/node`, which `make test` runs")
    return node


def run(words: Sequence[str | Path], within_s: float = 60.0) -> Ended:
    """Run `node` in the client's folder."""
    command = [need_node(), *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NODE_", "GRPC_"))}
    done = subprocess.run(
        command, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=within_s, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)
