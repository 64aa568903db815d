"""A file system as an enclave's manifest gives it: read-only, but for scratch in memory at `/tmp` and `/dev/shm`.

It is a mount namespace that a process enters before it becomes a service (`unshare`, util-linux).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fakes.process_memory import require_root

# Every mount becomes read-only; one that does not (some are the machine's own) is found out by the probe.
_BECOME = r"""
set -e
scratch=$1 probe=$2
shift 2
mount --make-rprivate /
for at in $(awk '{print $5}' /proc/self/mountinfo); do mount -o remount,bind,ro "$at" 2>/dev/null || :; done
if touch "$probe" 2>/dev/null; then echo "the file system is writable" >&2; exit 97; fi
mount -t tmpfs tmpfs "$scratch"
mount -t tmpfs tmpfs /dev/shm
cd "$scratch"
exec "$@"
"""
SHM = Path("/dev/shm")


def require_namespaces() -> None:
    """Skip the test where this machine gives us no mount namespace of our own."""
    require_root()
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespaces here: {done.stderr.decode().strip()}")


def private_root(scratch: Path) -> Sequence[str]:
    """The program that becomes whatever is run through it, with `scratch` as `/tmp` and working directory."""
    scratch.mkdir()
    return ["unshare", "--mount", "sh", "-c", _BECOME, "sh", str(scratch), str(scratch.parent / "probe")]


def environment_of(scratch: Path) -> dict[str, str]:
    """What the manifest fixes of a worker's environment, with `scratch` for `/tmp`."""
    return {"HOME": str(scratch), "TMPDIR": str(scratch), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def left_in(pid: int, *folders: Path) -> list[str]:
    """Every file in these folders, as that process sees them."""
    root = Path("/proc") / str(pid) / "root"
    return sorted(
        str(path.relative_to(root))
        for folder in folders
        for path in (root / folder.relative_to("/")).rglob("*")
        if path.is_file()
    )
