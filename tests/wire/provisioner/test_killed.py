"""A provisioner that is killed while it writes: a short run of `make crash-provisioner`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_whatever_it_was_killed_in_its_state_opens_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    words = ("--kills", "12", "--every", "37", "--seed", "8", "--folder", tmp_path)
    ran = subprocess.run(
        [sys.executable, "-m", "chaos.provisioner", *words],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "nothing that was acknowledged is lost" in ran.stdout
    for done in ("registered", "allowed", "released", "rotated", "withdrawn", "dealt", "restored", "resumed"):
        assert done in ran.stdout
