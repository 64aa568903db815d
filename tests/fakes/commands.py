"""`cloister` as a person runs it, each time in a process of its own, without the second that Python needs to start.

One process imports the commands and is forked for each run (multiprocessing's fork server); the suite runs hundreds.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import forkserver
from pathlib import Path

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["cloister.cli.app", "cloister.client"])


def run(words: Sequence[str], environment: Mapping[str, str], given: str | None, within_s: float) -> tuple[int, str]:
    """Run `cloister` with these words.

    Args:
        words: After the command's own name.
        environment: All of it.
        given: Its standard input; None for ours.
        within_s: How long it may take.

    Returns:
        How it ended, and what it printed, errors after the rest.
    """
    _start_server()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("in", "out", "err")]
        for path in files:
            path.write_text(given or "")
        process = _server.Process(target=_main, args=(list(words), dict(environment), files))
        process.start()
        process.join(within_s)
        if process.exitcode is None:
            process.kill()
            process.join()
        code = process.exitcode
        process.close()
        return code if code is not None else -1, files[1].read_text() + files[2].read_text()


@cache
def _start_server() -> None:
    before = os.environ.get("GRPC_VERBOSITY")
    os.environ["GRPC_VERBOSITY"] = "NONE"  # as `cloister.cli.__main__` has it; gRPC reads it when it is loaded
    forkserver.ensure_running()
    if before is None:
        del os.environ["GRPC_VERBOSITY"]
    else:
        os.environ["GRPC_VERBOSITY"] = before


def _main(words: list[str], environment: dict[str, str], files: list[Path]) -> None:
    """The command's own process."""
    for number, (path, flags) in enumerate(zip(files, (os.O_RDONLY, *[os.O_WRONLY | os.O_TRUNC] * 2), strict=True)):
        descriptor = os.open(path, flags)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(Path(sys.executable).parent / "cloister"), *words]
    from cloister.cli.app import main

    main()
