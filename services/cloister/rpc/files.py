"""Small files that matter: keys and contents that nobody else may read, and certificates.

A key that lies open is refused, not warned about. Links are followed inside the key's own folder only, which is how
Kubernetes mounts secrets. What we write for our own eyes is so from its first byte, whatever the umask.

Inside an enclave the disk is the host's (attacks I01). So a file is opened once and read once, whatever changes
meanwhile; what was read is what is checked and used. No size is believed that was told beforehand, nothing larger than
a bound is taken in, and neither a pipe nor a device that lies in a file's place can make us wait.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
from pathlib import Path
from typing import Final, NamedTuple

from cloister.errors import NotReady

MAX_FILE_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 64 << 10
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
    try:
        target, folder = path.resolve(), path.parent.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
        raise NotReady(f"{path} is a link that leads nowhere", reason="file.unreadable") from error
    if path.is_symlink() and not target.is_relative_to(folder):
        raise NotReady(f"{path} is a link that leads out of its folder", reason="file.exposed")
    found = _read(target, MAX_FILE_BYTES, named=path, flags=os.O_NOFOLLOW)  # what was looked at is what is opened
    if found.status.st_mode & forbidden_mode:
        raise NotReady(f"{path} is {exposed}", reason="file.exposed")
    if found.status.st_uid not in (os.geteuid(), 0):
        raise NotReady(f"{path} belongs to another user", reason="file.exposed")
    return found.content


def read_public(path: Path, *, most_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The content of a file that is no secret.

    Raises:
        NotReady: It cannot be read, is no regular file, or holds more than `most_bytes` (`file.unreadable`).
    """
    return _read(path, most_bytes, named=path).content


class _Found(NamedTuple):
    status: os.stat_result
    content: bytes


def _read(path: Path, most_bytes: int, *, named: Path, flags: int = 0) -> _Found:
    def opened(place: str, how: int) -> int:
        return os.open(place, how | flags | os.O_NONBLOCK | os.O_CLOEXEC)  # never waits for a pipe's other end

    try:
        with open(path, "rb", buffering=0, opener=opened) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotReady(f"{named} is not a regular file", reason="file.unreadable")
            return _Found(status, read_whole(file, most_bytes))
    except OSError as error:
        raise NotReady(f"{named} cannot be read: {error.strerror}", reason="file.unreadable") from error
    except OverflowError:
        raise NotReady(f"{named} is far too large for what it should hold", reason="file.unreadable") from None


def read_whole(file: io.RawIOBase, most_bytes: int) -> bytes:
    """All that there is until the end, in as many pieces as it comes in.

    Raises:
        OSError: It cannot be read, or breaks off with no end.
        OverflowError: There is more than `most_bytes`.
    """
    content = bytearray()
    while piece := file.read(_PIECE_BYTES):
        content += piece
        if len(content) > most_bytes:
            raise OverflowError
    if piece is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return bytes(content)


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
