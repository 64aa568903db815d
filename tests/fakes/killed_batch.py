"""The client of a batch, as a process of its own that kills itself at any point of its code.

The point is a number of calls, of functions and of what they call in SQLite and the like, in the code of batches and of
the gateway that they use: so every step is a point, whatever the machine is doing.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final

from cloister.cli.batch.journal import sweep
from cloister.cli.batch.reading import digest_of, stamp_of
from cloister.cli.batch.running import Batch, run
from fakes.folder_jobs import CONTRACT, MODEL, FakeTicket, FolderJobs, negative

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    ["cloister.cli.batch.array_output", "cloister.cli.batch.running", "cloister.client.answer"]
)
_WATCHED: Final = (str(Path("cloister", "cli", "batch")), "folder_jobs.py")


def live(folder: Path, seed: int, kill_at: int) -> int:
    """One life of the client; returns how the process ended: 0, or minus the signal.

    Args:
        folder: Holds `in.npy`, and gets all else.
        seed: Of the troubles that the gateway makes.
        kill_at: The call at which it dies; 0 for never.
    """
    process = _server.Process(target=_work, args=(folder, seed, kill_at))
    process.start()
    process.join(60)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    assert code in (0, -signal.SIGKILL), f"it ended with {code}"
    return code


def calls(folder: Path) -> int:
    """How many calls the last life made that came to its end."""
    return int((folder / "calls").read_text())


def _work(folder: Path, seed: int, kill_at: int) -> None:
    counted = itertools.count(1)
    last = 0
    watched: dict[str, bool] = {}

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal last
        if event not in ("call", "c_call"):
            return
        file = frame.f_code.co_filename
        if file not in watched:
            watched[file] = any(name in file for name in _WATCHED)
        if watched[file]:
            last = next(counted)
            if last == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(profile)
    sys.setprofile(profile)
    _run(folder, seed)
    sys.setprofile(None)
    (folder / "calls").write_text(str(last))


def _run(folder: Path, seed: int) -> None:
    source = folder / "in.npy"
    troubles = {"lost": 20, "forgotten": 3, "expired": 3}
    jobs = FolderJobs(folder, troubles=troubles, refuse=negative, seed=seed)
    batch = Batch(
        source=source,
        output=folder / "out.npz",
        folder=folder / "out.npz.journal",
        digest=digest_of(source),
        stamp=stamp_of(source),
        model=MODEL,
        rows=3,
        in_flight=32,
        cluster="test",
        client="spiffe://test/client/main",
    )
    sweep(batch.folder)
    asked = run(batch, jobs, CONTRACT, FakeTicket.from_bytes, lambda _rows, _ended: lambda _more: None)
    asyncio.run(asked, debug=False)
