"""What runs of a mesh folder, told to commands that did not start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloister.cli import running
from cloister.cli.failures import Stop


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    assert not running.is_up(tmp_path)
    with running.supervising(tmp_path) as state:
        running.write_state(state, {"pid": os.getpid(), "ready": True})
        assert running.is_up(tmp_path)
        assert running.read_state(tmp_path) == {"pid": os.getpid(), "ready": True}
        with pytest.raises(Stop, match="up already"), running.supervising(tmp_path):
            raise AssertionError("unreachable")
    assert not running.is_up(tmp_path)
    assert running.read_state(tmp_path) is None


def test_there_is_nothing_to_take_down(tmp_path: Path) -> None:
    assert running.take_down(tmp_path, 1.0) is False


def sleeper(*words: str) -> subprocess.Popen[bytes]:
    """A process that has these words among its arguments by the time it is returned."""
    script = "import time; print('here', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        said.readline()
    return process


def left_behind(folder: Path, pid: int) -> None:
    """As a supervisor that was killed leaves it."""
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "lock").touch()
    content = {"pid": 2**22 + 1, "ready": True, "programs": [{"name": "gateway", "pid": pid}]}
    (folder / "run" / "up.json").write_text(json.dumps(content))


def test_programs_of_a_killed_supervisor_are_ended(tmp_path: Path) -> None:
    orphan = sleeper("--settings", str(tmp_path / "gateway" / "settings.toml"))
    left_behind(tmp_path, orphan.pid)
    assert running.take_down(tmp_path, 1.0) is True
    assert orphan.wait(10) == -signal.SIGKILL


def test_a_process_id_that_somebody_else_has_by_now_is_left_alone(tmp_path: Path) -> None:
    stranger = sleeper()
    try:
        left_behind(tmp_path, stranger.pid)
        assert running.take_down(tmp_path, 1.0) is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_state_that_is_half_written_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "up.json").write_text('{"pid": 1')
    assert running.peek_state(tmp_path) is None
