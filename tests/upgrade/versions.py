"""Two versions of Cloister on one machine: this folder's, and that of an older commit, in an environment of its own.

Both use the same packages, the locked ones: what differs is Cloister.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "protos", "services", "enclave")
FOLDER = ROOT / ".venv-upgrade"


@dataclass(frozen=True)
class Version:
    """One version, with everything that it runs.

    Attributes:
        name: For people.
        bin: Folder of its programs.
    """

    name: str
    bin: Path

    @cached_property
    def mrenclave(self) -> str:
        """What its worker measures as, simulated."""
        done = subprocess.run([self.bin / "cloister-simulator", "measure", "--json"], capture_output=True, check=True)
        return str(json.loads(done.stdout)["mrenclave"])


def here() -> Version:
    """This folder's."""
    return Version("new", Path(sys.executable).parent)


def installed(ref: str) -> Version:
    """That of a commit, installed under FOLDER; one that is there already is taken as it is.

    Raises:
        AssertionError: There is no such commit here.
    """
    commit = _git("rev-parse", "--verify", f"{ref}^{{commit}}").strip()
    home = FOLDER / commit[:12]
    if not (home / "installed").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        _extract(commit, home)
        _install(home)
        (home / "installed").touch()
    return Version(f"old ({commit[:8]})", home / "venv" / "bin")


def _extract(commit: str, home: Path) -> None:
    archive = home / "tree.tar"
    _git("archive", "--format=tar", f"--output={archive}", commit, *PARTS)
    with tarfile.open(archive) as tar:
        tar.extractall(home / "tree", filter="data")
    archive.unlink()


def _install(home: Path) -> None:
    """Into an environment that finds our packages behind its own, and nothing that is installed to be edited."""
    venv, tree = home / "venv", home / "tree"
    _run([sys.executable, "-m", "venv", "--without-pip", venv])
    (own,) = venv.glob("lib/python3*/site-packages")
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (own / "locked.pth").write_text("".join(f"{path}\n" for path in packages))
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--quiet", "--no-index"]
    options = ("--no-deps", "--no-build-isolation", "--ignore-installed", "--disable-pip-version-check")
    _run([*pip, *options, tree, tree / "enclave" / "simulator"])


def _git(*words: str) -> str:
    return _run(["git", "-C", ROOT, *words])


def _run(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr.strip()}"
    return done.stdout
