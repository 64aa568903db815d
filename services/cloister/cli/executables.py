"""Where the programs of a mesh are: beside this Python, or on the path."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from cloister.cli.failures import Stop

SIMULATOR = "cloister-simulator"
WORKER = "cloister-worker"

_PACKAGE = {SIMULATOR: "cloister-simulator", WORKER: "cloister[worker]"}


def executable(name: str) -> str:
    """Full path of the program `name`; raises Stop with what to install."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise Stop(f"there is no program '{name}' here; install '{_PACKAGE.get(name, 'cloister[serve]')}'")
    return found
