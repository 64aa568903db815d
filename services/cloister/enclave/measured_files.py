"""Every file that an enclave can read, with its digest: none is taken by its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cloister.errors import InvalidRequest, NotReady


class MeasuredFile(NamedTuple):
    """A file as the manifest names it: relative to the enclave's folder, with its SHA-256 in hex."""

    path: str
    sha256: str
    size_bytes: int


def measured_files(into: Path, folders: tuple[str, ...], *, linked: str = "") -> Iterator[MeasuredFile]:
    """Every file of these folders of an enclave, in the same order on every machine.

    Links are not followed: in an enclave's folder that somebody else has made they lead anywhere, round in circles too.

    Args:
        into: The enclave's folder.
        folders: Names in it.
        linked: The one of them whose entries are links, and are followed.

    Raises:
        InvalidRequest: Something there is no file, such as a link (`manifest.refused`).
        NotReady: A folder is missing (`enclave.incomplete`).
    """
    for folder in folders:
        if not (into / folder).is_dir():
            raise NotReady(f"{into / folder} is missing", reason="enclave.incomplete")
        for path in sorted(_files(into / folder, follow=folder == linked)):
            if not path.is_file() or (path.is_symlink() and folder != linked):
                raise InvalidRequest(f"{path} is no file, but a link or something else", reason="manifest.refused")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield MeasuredFile(path.relative_to(into).as_posix(), digest, path.stat().st_size)


def _files(folder: Path, *, follow: bool) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and (follow or not path.is_symlink()):
            yield from _files(path, follow=False)
        else:
            yield path
