"""A sealed model on the host's disk: opened once, read once, forwards, and believed in nothing (attacks I01, F07).

What the host says of the file counts for nothing: under Gramine a file keeps the size that it had when it was first
looked at, and its host may say any. That it has the length which its owner signed shows when it ends there. What it
holds is for the chunk tags and the model digest to say.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from cloister.errors import NotReady

SEALED_NAME: Final = "model.sealed"
MISSING: Final = "model.missing"
"""Why a model is not served whose file is not there."""


class _File(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


class SealedSource:
    """A file of exactly so many bytes, whatever pieces it comes in.

    Args:
        file: Opened, and not read by anybody else.
        size_bytes: As its owner signed it.
    """

    def __init__(self, file: _File, size_bytes: int) -> None:
        self._file = file
        self._left_bytes = size_bytes

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer, or less of it; 0 at the end.

        Raises:
            NotReady: It cannot be read (`model.unreadable`), or ends elsewhere than it must (`model.other`).
        """
        try:
            got = self._file.readinto(buffer)
        except OSError as error:
            raise _unreadable(error.strerror or "it says not why") from error
        if got is None or not 0 <= got <= len(buffer):
            raise _unreadable("what was read has no length")
        if got > self._left_bytes or (not got and buffer and self._left_bytes):
            raise _other()
        self._left_bytes -= got
        return got


@contextmanager
def sealed_source(path: Path, size_bytes: int) -> Iterator[SealedSource]:
    """The sealed model at `path`, without following a link there or waiting for what is no file.

    Raises:
        NotReady: There is none (`model.missing`), or no regular file (`model.other`).
    """
    with _opened(path) as file:
        yield SealedSource(file, size_bytes)


def _opened(path: Path) -> io.FileIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotReady(f"{SEALED_NAME} cannot be opened: {error.strerror}", reason=MISSING) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _other()
    return io.FileIO(descriptor, "rb")


def _unreadable(why: str) -> NotReady:
    return NotReady(f"{SEALED_NAME} cannot be read: {why}", reason="model.unreadable")


def _other() -> NotReady:
    return NotReady(f"{SEALED_NAME} is not a regular file of the length that its owner signed", reason="model.other")
