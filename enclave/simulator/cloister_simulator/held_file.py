"""Files that are made when somebody opens them: Linux file leases (fcntl(2), F_SETLEASE).

Whoever opens a file on which another process holds a write lease waits in the kernel, which tells the holder by SIGIO.
The holder writes what the file is to contain and lets go; only then does the other's open return. So what is read was
made after it was asked for, with no daemon in the file system and no privilege but owning the file. The kernel takes a
lease away after `/proc/sys/fs/lease-break-time` seconds, 45 unless somebody changed it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Self

from cloister.errors import NotReady


class HeldFile:
    """An empty file that nobody else can open before it is let go. SIGIO must have a handler: it ends a process else.

    Args:
        descriptor: Open for writing, and the only one of this file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def placed(cls, path: Path) -> Self:
        """A new file, held before it is at `path`, where it takes the place of any before it.

        Raises:
            NotReady: The file system of `path` knows no leases.
        """
        beside = path.with_name(f"{path.name}.next")
        beside.unlink(missing_ok=True)
        held = cls(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            hold(held._descriptor, path.parent)
            beside.rename(path)
        except BaseException:
            os.close(held._descriptor)
            beside.unlink(missing_ok=True)
            raise
        return held

    def wanted(self) -> bool:
        """Whether somebody waits for it."""
        return fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) != fcntl.F_WRLCK

    def let_go(self, content: bytes = b"") -> None:
        """Write all that the file is to contain, and let those who wait have it."""
        with os.fdopen(self._descriptor, "wb") as file:
            file.write(content)
            file.flush()
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def hold(descriptor: int, folder: Path) -> None:
    """Take a write lease on a file in `folder`; raises NotReady where there are none."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EAGAIN, errno.EOPNOTSUPP):
            raise
        raise NotReady(
            f"{folder} lies on a file system without leases; take a folder on a local one, such as ext4 or tmpfs"
        ) from error
