"""A folder that lies in memory, for parsers that take nothing but a path (attacks I06).

OpenVINO reads TensorFlow and TFLite models from files only. What must not reach a disk is laid out under `/dev/shm`,
after a look at what is mounted there, and removed as soon as it is read. Inside an enclave that is Gramine's `tmpfs`,
the enclave's own memory, private to the process: the measured manifest mounts it, and Gramine has no `mountinfo`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cloister.errors import NotReady

ROOT: Final = Path("/dev/shm")  # noqa: S108 - looked at before it is used
MOUNTS: Final = Path("/proc/self/mountinfo")
GRAMINE: Final = Path("/dev/attestation")
_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


@contextmanager
def laid_out(files: Mapping[str, memoryview], *, under: Path = ROOT, mounts: Path = MOUNTS) -> Iterator[Path]:
    """Have these files in a folder of their own in memory; it is gone afterwards.

    Args:
        files: By relative names that `seal.names` let pass.
        under: Where to make the folder.
        mounts: What is mounted where, as Linux tells it.

    Raises:
        NotReady: `under` is not memory (`model.no_memory_folder`), or there is not enough of it
            (`model.memory_folder_full`).
    """
    check_memory(under, mounts)
    try:
        folder = Path(tempfile.mkdtemp(prefix="cloister-", dir=under))
    except OSError as error:
        raise _no_room(error) from error
    try:
        for name, content in files.items():
            _write(folder / name, content)
        yield folder
    finally:
        shutil.rmtree(folder)


def check_memory(folder: Path, mounts: Path = MOUNTS, gramine: Path = GRAMINE) -> None:
    """Check that what is written to a folder stays in memory.

    Raises:
        NotReady: It does not, or that cannot be found out.
    """
    try:
        device = folder.stat().st_dev
        lines = mounts.read_text().splitlines()
    except OSError:
        if folder.is_dir() and not mounts.exists() and gramine.is_dir():
            return  # the manifest, which is measured, says what is mounted there
        raise _no_memory(folder) from None
    # proc(5): id, parent, major:minor, root, mount point, options, optional fields, "-", type, source, options
    kinds = [line.split(" - ")[1].split()[0] for line in lines if _device(line) == device]
    if not kinds or not _MEMORY.issuperset(kinds):
        raise _no_memory(folder)


def _device(line: str) -> int:
    major, minor = line.split()[2].split(":")
    return os.makedev(int(major), int(minor))


def _write(path: Path, content: memoryview) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb", buffering=0) as file:
            at = 0
            while at < len(content):
                at += file.write(content[at:]) or 0
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> NotReady:
    return NotReady(
        f"the model's files cannot be laid out in memory: {error.strerror}; make {ROOT} larger than the model",
        reason="model.memory_folder_full",
    )


def _no_memory(folder: Path) -> NotReady:
    return NotReady(
        f"this format is read from a folder in memory, and {folder} is none: mount a tmpfs there, or seal the model as "
        "OpenVINO IR or ONNX",
        reason="model.no_memory_folder",
    )
