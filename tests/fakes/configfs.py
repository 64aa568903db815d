"""A guest's `/sys/kernel/config/tsm/report` on an ordinary disk, as fs/configfs and drivers/virt/coco/tsm.c have it.

Folders and files are real; what an ordinary disk would do otherwise is done here, by a `Path` that every path made from
it is one of: making a folder fills it with attributes, what is written to `inblob` counts once the file is closed and
not before, errors then are told to nobody, reading `outblob` has the host asked for a quote, and a folder with its
attributes can be removed, which no other filesystem would do.
"""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PosixPath
from typing import Any

QuoteOf = Callable[[bytes], bytes]


@dataclass
class Kernel:
    """What the guest's kernel, and the host behind it, do.

    Attributes:
        quote_of: The host's quoting service.
        provider: Name of the driver; empty where none is loaded.
        mkdir_errors: Errors that the next attempts to make an entry come to, as are `read_errors` of reading `outblob`.
        deaf: Whether what is written to `inblob` is refused, as when a counter would overflow.
        before_read: Called with an entry before its quote is made; another process of the guest.
        released: Cleared while the quoting service takes its time.
        entries: All that were ever made; `left` are those that were not removed.
        removed: Set once one was removed.
        under_way: How many quotes are being made at once, and the most there ever were.
    """

    quote_of: QuoteOf
    provider: str = "tdx_guest"
    mkdir_errors: Sequence[int] = ()
    read_errors: Sequence[int] = ()
    deaf: bool = False
    before_read: Callable[[Path], None] = lambda entry: None
    released: threading.Event = field(default_factory=threading.Event)
    entries: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    removed: threading.Event = field(default_factory=threading.Event)
    under_way: int = 0
    most_under_way: int = 0

    def __post_init__(self) -> None:
        self.released.set()

    def reports(self, folder: Path) -> Path:
        """The folder that entries are made in; entries can be made in no other."""
        return _path_of(self)(folder)

    def error(self, name: str) -> None:
        """Fail as the list of that name says, and once less the next time."""
        errors: Sequence[int] = getattr(self, name)
        if errors:
            setattr(self, name, errors[1:])
            raise OSError(errors[0], "as the test has it")


def _path_of(kernel: Kernel) -> type[PosixPath]:
    class ConfigfsPath(PosixPath):
        def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
            kernel.error("mkdir_errors")
            if not kernel.provider:
                raise OSError(errno.ENXIO, "no provider")
            super().mkdir(mode)
            kernel.entries.append(self.name)
            kernel.left.append(self.name)
            for name, content in (("provider", f"{kernel.provider}\n"), ("generation", "0\n"), ("auxblob", "")):
                Path(self, name).write_text(content)
            Path(self, "inblob").touch()
            Path(self, "outblob").touch()

        def rmdir(self) -> None:
            for file in Path(self).iterdir():
                file.unlink()
            super().rmdir()
            kernel.left.remove(self.name)
            kernel.removed.set()

        def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # as much as is used
            match self.name, mode:
                case "inblob", "wb":
                    return _Inblob(kernel, Path(self.parent))
                case "outblob", "rb":
                    return io.BytesIO(_made(kernel, Path(self.parent)))
                case (("provider" | "generation"), "rb"):
                    return super().open(mode, *args, **kwargs)
            raise OSError(errno.EACCES, f"{self.name} cannot be opened as {mode}")

    return ConfigfsPath


class _Inblob(io.BytesIO):
    """Commits when it is closed."""

    def __init__(self, kernel: Kernel, entry: Path) -> None:
        super().__init__()
        self._kernel = kernel
        self._entry = entry

    def close(self) -> None:
        if not self.closed and not self._kernel.deaf:
            written(self._entry, self.getvalue())
        super().close()


def written(entry: Path, report_data: bytes) -> None:
    """What a write to an entry's `inblob` comes to, whoever writes."""
    (entry / "inblob").write_bytes(report_data)
    count = entry / "generation"
    count.write_text(f"{int(count.read_text()) + 1}\n")


def _made(kernel: Kernel, entry: Path) -> bytes:
    kernel.before_read(entry)
    kernel.error("read_errors")
    report_data = (entry / "inblob").read_bytes()
    if not report_data:
        raise OSError(errno.EINVAL, "nothing was written")
    kernel.under_way += 1
    kernel.most_under_way = max(kernel.most_under_way, kernel.under_way)
    try:
        if not kernel.released.wait(10):
            raise OSError(errno.ETIMEDOUT, "the host took too long")
        return kernel.quote_of(report_data)
    finally:
        kernel.under_way -= 1
