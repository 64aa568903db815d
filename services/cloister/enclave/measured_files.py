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


def measured_files(into: Path, folders: tuple[str, ...]) -> Iterator[MeasuredFile]:
    """Every file of these folders of an enclave, in the same order on every machine.

    Raises:
        InvalidRequest: Something there is no file, such as a link that leads to none (`manifest.refused`).
        NotReady: A folder is missing (`enclave.incomplete`).
    """
    for folder in folders:
        if not (into / folder).is_dir():
            raise NotReady(f"{into / folder} is missing", reason="enclave.incomplete")
        for path in sorted(_files(into / folder)):
            if not path.is_file():
                raise InvalidRequest(f"{path} is no file, or leads to none", reason="manifest.refused")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield MeasuredFile(path.relative_to(into).as_posix(), digest, path.stat().st_size)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path)
        else:
            yield path
