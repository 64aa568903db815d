"""A client's own memory: lines that are on disk before anything that they say is counted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]


class Journal:
    """Appends; made by `opened`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def note(self, entries: Iterable[Entry]) -> None:
        """Write them all, with the time, and return when they are on disk."""
        at = time.time()
        text = "".join(json.dumps({**entry, "at": at}) + "\n" for entry in entries)
        os.write(self._descriptor, text.encode())
        os.fsync(self._descriptor)


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """To go on with; a last line that a kill has torn is taken away."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.ftruncate(descriptor, sum(len(line) for line in _whole(path)))
        yield Journal(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; none where there is no file yet."""
    return [json.loads(line) for line in _whole(path)] if path.exists() else []


def _whole(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
