"""What is running of a mesh folder, for the commands that did not start it: a lock, and a file beside it.

The supervisor holds the lock for as long as it lives, so that a stale process id is never taken for a running mesh.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cloister.cli.failures import Stop

_POLL_S: Final = 0.1
_ORPHANS_S: Final = 5.0


@contextmanager
def supervising(folder: Path) -> Iterator[Path]:
    """Be the one supervisor of this mesh folder; yields its state file, and removes it at the end.

    Raises:
        Stop: Another supervisor runs.
    """
    run = folder / "run"
    run.mkdir(exist_ok=True)
    with (run / "lock").open("w") as lock:
        if not _lock(lock.fileno()):
            raise Stop(f"the mesh in {folder} is up already; stop it with 'cloister down {folder}'")
        state = run / "up.json"
        _end_orphans(state, folder)
        state.unlink(missing_ok=True)
        try:
            yield state
        finally:
            state.unlink(missing_ok=True)


def write_state(state: Path, content: Mapping[str, object]) -> None:
    """Replace the state file in one step."""
    part = state.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    part.replace(state)


def read_state(folder: Path) -> dict[str, Any] | None:
    """What the running supervisor wrote; None when none runs."""
    return peek_state(folder) if is_up(folder) else None


def peek_state(folder: Path) -> dict[str, Any] | None:
    """The same, without asking whether the supervisor still runs: for whoever has just started it."""
    return _read(folder / "run" / "up.json")


def is_up(folder: Path) -> bool:
    """Whether a supervisor runs for this folder."""
    try:
        with (folder / "run" / "lock").open("r+") as lock:
            return not _try_lock(lock.fileno())
    except FileNotFoundError:
        return False


def take_down(folder: Path, timeout_s: float) -> bool:
    """Have the running supervisor drain, and wait for its end.

    Returns:
        False when none was running; programs that a killed supervisor left behind are ended all the same.

    Raises:
        Stop: It did not end in time.
    """
    if not is_up(folder):
        return _end_orphans(folder / "run" / "up.json", folder)
    until = time.monotonic() + timeout_s
    state = _read(folder / "run" / "up.json")
    while state is None and is_up(folder) and time.monotonic() < until:
        time.sleep(_POLL_S)
        state = _read(folder / "run" / "up.json")
    if state is not None:
        os.kill(int(state["pid"]), signal.SIGTERM)
    while is_up(folder):
        if time.monotonic() > until:
            raise Stop(f"the mesh in {folder} is still draining; see {folder / 'logs'}, and ask again")
        time.sleep(_POLL_S)
    return True


def _end_orphans(state: Path, folder: Path) -> bool:
    """End what an earlier supervisor left running, if it is certain that it is ours."""
    found = _read(state) or {}
    ours = [program for program in found.get("programs", []) if _is_ours(program.get("pid"), folder)]
    for program in ours:
        os.kill(int(program["pid"]), signal.SIGKILL)
    until = time.monotonic() + _ORPHANS_S
    while any(_is_ours(program["pid"], folder) for program in ours) and time.monotonic() < until:
        time.sleep(_POLL_S)  # their ports are free when they are gone
    return bool(ours)


def _is_ours(pid: object, folder: Path) -> bool:
    """Whether a process runs with a settings file of this folder: ids are used again, paths are not."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(argument.startswith(os.fsencode(folder.absolute()) + b"/") for argument in arguments)


def _read(state: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(state.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _lock(descriptor: int) -> bool:
    """Take the lock; more than once, since whoever asks whether the mesh is up holds it for a moment."""
    for _ in range(5):
        if _try_lock(descriptor):
            return True
        time.sleep(_POLL_S)
    return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
