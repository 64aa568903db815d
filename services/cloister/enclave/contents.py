"""The measured files of an enclave as they lie there: names, those inside zip files too, and what small ones hold.

Code is not looked into: it is what its name says.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.enclave.code_paths import named_as_code
from cloister.enclave.manifest_view import ManifestView, path_of

MOST_BYTES: Final = 64 << 10
"""Of a file that is looked into: keys, certificates and settings are smaller."""


@dataclass(frozen=True, slots=True)
class MeasuredFile:
    """One file, or one member of a zip file.

    Attributes:
        key: Its place in the manifest.
        path: Relative to the enclave's folder; of a member, that of the zip file and its own.
        content: Empty of code, of what is larger than anything that is looked into, and where the file is not there.
    """

    key: str
    path: str
    content: bytes = b""


def measured_files(manifest: ManifestView) -> Iterator[MeasuredFile]:
    """What the manifest trusts, members of zip files after each."""
    for file in manifest.trusted:
        path = path_of(file.uri)
        place = manifest.folder / path
        yield MeasuredFile(file.key, path, _content(place))
        if path.endswith(".zip") and zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as archive:
                for member in archive.infolist():
                    looked_into = member.file_size <= MOST_BYTES and not named_as_code(member.filename)
                    content = archive.read(member) if looked_into else b""
                    yield MeasuredFile(file.key, f"{path}/{member.filename}", content)


def _content(place: Path) -> bytes:
    try:
        looked_into = not named_as_code(place.name) and place.is_file() and place.stat().st_size <= MOST_BYTES
        return place.read_bytes() if looked_into else b""
    except OSError:
        return b""
