"""`pip install cloister` in a fresh environment, without a network: the wheel, and the distributions it asks for.

Those are linked from this environment, so it takes a second, and what the wheel does not ask for is not there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def installed(folder: Path) -> Path:
    """Build the wheel, install it without extras; returns the interpreter."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "services", source / "services", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    options = ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *options, "-w", folder, source], check=True)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (wheel,) = folder.glob("cloister-*.whl")
    subprocess.run([*pip, "install", *options, "--target", site, wheel], check=True)
    (metadata,) = site.glob("cloister-*.dist-info")
    for found in asked_for(Distribution.at(metadata).requires or ()).values():
        _link(found, site)
    return folder / "venv" / "bin" / "python"


def asked_for(requirements: Iterable[str]) -> dict[str, Distribution]:
    """What requirements ask for without extras, and what that asks for, by name."""
    found: dict[str, Distribution] = {}
    waiting = list(requirements)
    while waiting:
        wanted = Requirement(waiting.pop())
        if wanted.name not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            found[wanted.name] = distribution(wanted.name)
            waiting += found[wanted.name].requires or ()
    return found


def _link(found: Distribution, site: Path) -> None:
    for part in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
        target = site / part
        if not target.exists():
            target.symlink_to(Path(str(found.locate_file(part))).resolve())
