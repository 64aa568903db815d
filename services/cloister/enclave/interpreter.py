"""The Python that enclaves run: Debian's, which is on every machine of that release as the same bytes."""

from __future__ import annotations

import marshal
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cloister.errors import NotReady

PYTHON: Final = Path("/usr/bin/python3.11")
LIBRARY: Final = "python3.11"
TAG: Final = "cp311"
_ISOLATED: Final = ("-I", "-S", "-B")


def require_interpreter() -> None:
    """See that enclaves can be made here.

    Raises:
        NotReady: With what this machine would have to be, or to have.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NotReady("enclaves are built on Linux on x86-64, as they run there", reason="image.impossible")
    if sys.version_info[:2] != (3, 11):
        raise NotReady(
            f"enclaves run Python 3.11, and the wheels here are for Python {platform.python_version()}: make the "
            f"environment anew with 'make setup PYTHON={PYTHON}'",
            reason="image.impossible",
        )
    if not PYTHON.exists():
        raise NotReady(
            f"enclaves run {PYTHON} as Debian 12 has it, and it is not here: apt-get install python3.11",
            reason="image.impossible",
        )


def run_program(program: Path, *arguments: str, stdin: Any = None, path: Sequence[Path] = ()) -> bytes:
    """Run one of our programs in that Python, with nothing of this environment; returns what it wrote.

    Args:
        program: A file of ours.
        arguments: For it.
        stdin: What it reads from its standard input, marshalled.
        path: Where to look for shared libraries first.

    Raises:
        NotReady: It failed; the message has its last line.
    """
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, path))} if path else {}
    command = [str(PYTHON), *_ISOLATED, str(program), *arguments]
    done = subprocess.run(command, input=marshal.dumps(stdin), capture_output=True, check=False, env=environment)  # noqa: S603
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise NotReady(f"{PYTHON} cannot run {program.name}: {last}", reason="image.impossible")
    return done.stdout
