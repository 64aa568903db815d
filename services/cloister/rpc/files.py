"""Small files that matter: keys and contents that nobody else may read, and certificates.

A key that lies open is refused, not warned about. Links are followed inside the key's own folder only, which is how
Kubernetes mounts secrets. What we write for our own eyes is so from its first byte, whatever the umask.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from cloister.errors import NotReady

_MAX_FILE_BYTES: Final = 1 << 20
_OWNER_ONLY: Final = stat.S_IRUSR | stat.S_IWUSR


def read_private(path: Path) -> bytes:
    """The content of a file that only we may read.

    Raises:
        NotReady: It is missing, belongs to somebody else, is open to group or others, or leads out of its folder.
    """
    return _read_owned(path, stat.S_IRWXG | stat.S_IRWXO, "open to other users; chmod 600 makes it yours")


def read_guarded(path: Path) -> bytes:
    """The content of a file that is no secret, and that nobody but us may write: what it says decides who gets in.

    Raises:
        NotReady: It is missing, belongs to somebody else, is open to changes by others, or leads out of its folder.
    """
    return _read_owned(path, stat.S_IWGRP | stat.S_IWOTH, "open to changes by other users; chmod go-w makes it yours")


def _read_owned(path: Path, forbidden_mode: int, exposed: str) -> bytes:
    target = path.resolve()
    if path.is_symlink() and not target.is_relative_to(path.parent.resolve()):
        raise NotReady(f"{path} is a link that leads out of its folder", reason="file.exposed")
    try:
        with open(target, "rb", opener=_opened) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotReady(f"{path} is not a regular file", reason="file.unreadable")
            if status.st_mode & forbidden_mode:
                raise NotReady(f"{path} is {exposed}", reason="file.exposed")
            if status.st_uid not in (os.geteuid(), 0):
                raise NotReady(f"{path} belongs to another user", reason="file.exposed")
            return _capped(file.read(_MAX_FILE_BYTES + 1), path)
    except OSError as error:
        raise NotReady(f"{path} cannot be read: {error.strerror}", reason="file.unreadable") from error


def read_public(path: Path) -> bytes:
    """The content of a file that is no secret; raises NotReady when it cannot be read or is far too large."""
    try:
        with path.open("rb") as file:
            return _capped(file.read(_MAX_FILE_BYTES + 1), path)
    except OSError as error:
        raise NotReady(f"{path} cannot be read: {error.strerror}", reason="file.unreadable") from error


def create_private(path: Path, content: bytes) -> None:
    """Write a file that only we may read, where there is none yet; raises OSError, FileExistsError before all.

    It is on the disk when this returns.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_private(path: Path, content: bytes) -> None:
    """Write a file that only we may read, in place of what is there: whole, or not at all.

    What was there keeps neither its mode nor its readers, who have the old content open. A link is replaced, not
    followed; a device or a pipe is written to.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    staged = _beside(path)
    try:
        create_private(staged, content)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def replace_public(path: Path, content: bytes) -> None:
    """Write a file that is no secret, in place of what is there: whole, or not at all.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    staged = _beside(path)
    try:
        staged.write_bytes(content)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")


def _capped(content: bytes, path: Path) -> bytes:
    if len(content) > _MAX_FILE_BYTES:
        raise NotReady(f"{path} is far too large for what it should hold", reason="file.unreadable")
    return content


def _opened(path: str, flags: int) -> int:
    # What was looked at is what is opened: no link in its place, and no waiting for somebody to write into a pipe.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
