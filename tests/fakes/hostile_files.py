"""Files of a host that means harm: read in crumbs, changed while they are read, and lied about."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class HostileFile:
    """An open file, raw, whose host does as it likes at each read.

    Attributes:
        content: What it holds.
        most_bytes: Given out at one read.
        before: Called before each read with its number, from 0; may change the content, or raise.
        said: What each read says that it gave, instead of the truth.
    """

    content: bytes
    most_bytes: int = 1 << 30
    before: Callable[[HostileFile, int], None] = lambda _file, _read: None
    said: Callable[[int], int | None] = lambda got: got
    at: int = field(default=0, init=False)
    reads: int = field(default=0, init=False)

    def readinto(self, buffer: memoryview, /) -> int | None:
        self.before(self, self.reads)
        self.reads += 1
        piece = self.content[self.at : self.at + min(len(buffer), self.most_bytes)]
        buffer[: len(piece)] = piece
        self.at += len(piece)
        return self.said(len(piece))

    def read(self, size: int = -1, /) -> bytes | None:
        buffer = memoryview(bytearray(size))
        got = self.readinto(buffer)
        return None if got is None else bytes(buffer[:got])


def in_its_place(path: Path, kind: str) -> None:
    """Put something that is no file where a file is expected: `directory`, `fifo`, `device`, `socket`, `loop`."""
    path.unlink(missing_ok=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")  # and endless
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "socket":
        os.mknod(path, 0o140600)
    else:
        raise ValueError(kind)


KINDS = ("directory", "fifo", "device", "socket", "loop")


def written_unseen(path: Path, content: bytes, size_bytes: int) -> None:
    """Write in place what `stat` does not tell from what was there: padded to a length, with time 0.

    It is how Gramine shows each change of a file.
    """
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(content.ljust(size_bytes))
    os.utime(path, (0, 0))
