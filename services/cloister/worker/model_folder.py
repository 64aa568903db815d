"""Which sealed models lie in the host's folder. A hint and no more: whatever it says, only keys and seals decide."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from cloister.worker.sealed_source import SEALED_NAME
from cloister.worker.settings import WantedModel

MAX_ENTRIES: Final = 4096
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}")


class ModelFolder:
    """`<name>/<version>/model.sealed`. Blocks; called off the loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def versions(self, name: str) -> list[int]:
        """The versions whose file is there, newest first; none where the folder cannot be read."""
        try:
            with os.scandir(self._folder / name) as entries:
                names = [entry.name for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False)]
        except OSError:
            return []
        found = sorted((int(each) for each in names if _VERSION.fullmatch(each)), reverse=True)
        return [version for version in found if self._size_bytes(name, version)]

    def size_bytes(self, wanted: WantedModel) -> int:
        """Length of the sealed file of a model that is wanted; 0 where there is none."""
        if wanted.version:
            return self._size_bytes(wanted.name, wanted.version)
        return max((self._size_bytes(wanted.name, version) for version in self.versions(wanted.name)[:1]), default=0)

    def _size_bytes(self, name: str, version: int) -> int:
        try:
            status = (self._folder / name / str(version) / SEALED_NAME).stat(follow_symlinks=False)
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
