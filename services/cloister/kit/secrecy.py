"""What a process holds stays in it: no word leaves it that is not our log's (attack I05).

Inside, standard output and error lead to the host. The log is scrubbed (`kit.log`). What Python itself says of an error
that nobody caught, and of a warning, is made of places in place of messages, which may quote contents. What native code
prints, and Python when it dies, cannot be scrubbed: inside an enclave it leads nowhere.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from pathlib import PurePath
from types import TracebackType
from typing import Final, NamedTuple, TextIO

from cloister.kit import log

_STDOUT: Final = 1
_STDERR: Final = 2

_log = log.get_logger()


class Outlets(NamedTuple):
    """Where a process speaks: its log, and the one line that a refused start ends with."""

    log: TextIO
    complaints: TextIO


def report_places() -> None:
    """Log what nobody caught, and what is warned of, without the messages: they may be made of contents."""
    sys.excepthook = _uncaught
    threading.excepthook = lambda failed: _unhandled("thread.failed", failed.exc_value)
    sys.unraisablehook = lambda failed: _unhandled("error.ignored", failed.exc_value)
    warnings.showwarning = _warned


def only_the_log_speaks() -> Outlets:
    """Lead standard output and error nowhere for the rest of this process, but for what is returned."""
    outlets = Outlets(*(os.fdopen(os.dup(fd), "w", buffering=1, encoding="utf-8") for fd in (_STDOUT, _STDERR)))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream, fd in ((sys.stdout, _STDOUT), (sys.stderr, _STDERR)):
        stream.flush()
        os.dup2(nowhere, fd)
    os.close(nowhere)
    return outlets


def _uncaught(_kind: type[BaseException], error: BaseException, _at: TracebackType | None) -> None:
    if not isinstance(error, KeyboardInterrupt):
        _unhandled("error.uncaught", error)


def _unhandled(event: str, error: BaseException | None) -> None:
    if error is not None:
        _log.error(event, error=error, exc_info=error)


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _log.warning("warning.issued", category=category.__name__, place=f"{PurePath(filename).name}:{lineno}")
