"""Programs kept running: started again when they die, asked to end, ended when they do not listen."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from cloister.cli import keeper as module
from cloister.cli.failures import Stop
from cloister.cli.keeper import Keeper
from cloister.cli.programs import Program


class Watched:
    """A keeper of a shell script, and what it reported."""

    def __init__(self, folder: Path, script: str, **more: Any) -> None:
        self.said: list[str] = []
        self.changes = asyncio.Event()
        program = Program(
            name="sample",
            service="gateway",
            command=("/bin/sh", "-c", script),
            address="127.0.0.1:1",
            environment={"GREETING": "hello"},
            **more,
        )
        self.keeper = Keeper(program, folder / "sample.log", self.said.append)

    async def until_log(self, text: str) -> None:
        async with asyncio.timeout(10):
            while not (self.keeper.log.exists() and text in self.keeper.log.read_text()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)


async def test_it_runs_with_its_environment_and_ends_when_asked(tmp_path: Path) -> None:
    watched = Watched(tmp_path, 'trap "echo bye; exit 0" TERM; echo $GREETING; while :; do sleep 0.01; done')
    async with asyncio.TaskGroup() as group:
        group.create_task(watched.keeper.run(watched.changes.set))
        await watched.until_log("hello")
        assert watched.keeper.pid is not None
        await watched.keeper.stop()
    assert watched.keeper.last_words() == "bye"
    assert (watched.keeper.pid, watched.keeper.restarts, watched.said) == (None, 0, [])


async def test_what_dies_starts_again(tmp_path: Path) -> None:
    script = f"if [ -e {tmp_path}/died ]; then echo again; sleep 60; fi; touch {tmp_path}/died; kill -KILL $$"
    watched = Watched(tmp_path, script)
    async with asyncio.TaskGroup() as group:
        group.create_task(watched.keeper.run(watched.changes.set))
        await watched.until_log("again")
        await watched.keeper.stop()
    assert watched.keeper.restarts == 1
    assert "SIGKILL" in watched.said[0]


async def test_what_the_mesh_refuses_says_why_and_asks_again_after_a_long_pause(tmp_path: Path) -> None:
    watched = Watched(tmp_path, """echo '{"error": "this measurement is revoked"}'; exit 3""")
    async with asyncio.TaskGroup() as group:
        group.create_task(watched.keeper.run(watched.changes.set))
        async with asyncio.timeout(10):
            while not watched.said:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await watched.keeper.stop()
    assert watched.said == [
        "sample ended (the mesh refuses it: this measurement is revoked); it starts again in 15.0 s"
    ]


async def test_wrong_settings_are_not_tried_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "echo 'listen: missing'; exit 2")
    with pytest.raises(Stop, match="listen: missing"):
        await watched.keeper.run(watched.changes.set)


async def test_what_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_S", 0.05)
    watched = Watched(tmp_path, 'trap "" TERM; echo deaf; while :; do sleep 0.01; done')
    async with asyncio.TaskGroup() as group:
        group.create_task(watched.keeper.run(watched.changes.set))
        await watched.until_log("deaf")
        await watched.keeper.stop()
    assert "was killed" in watched.said[0]


async def test_a_program_that_is_stopped_before_it_starts_again_stays_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 30.0)
    watched = Watched(tmp_path, "echo done; exit 1")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watched.keeper.run(watched.changes.set))
        await watched.until_log("done")
        await watched.keeper.stop()
    assert task.done()


async def test_cancelling_leaves_no_process(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "echo here; exec sleep 60")
    task = asyncio.ensure_future(watched.keeper.run(watched.changes.set))
    await watched.until_log("here")
    pid = watched.keeper.pid
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"event":"service.failed","error":"NotReady: no root","trace":["a.py:1"]}', "NotReady: no root"),
        ('{"event":"server.listening"}', '{"event":"server.listening"}'),
        ("[1]", "[1]"),
        ("Killed", "Killed"),
    ],
)
def test_of_an_error_in_its_log_the_last_words_are_what_it_says(tmp_path: Path, line: str, words: str) -> None:
    watched = Watched(tmp_path, "exit 0")
    watched.keeper.log.write_text(f"earlier\n{line}\n")
    assert watched.keeper.last_words() == words


async def test_wrong_settings_are_named_and_not_an_error_of_an_earlier_life(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "echo settings.toml: unknown key; exit 2")
    watched.keeper.log.write_text('{"error":"Unavailable: the shared state cannot be reached"}\n')
    with pytest.raises(Stop, match=r"does not accept its settings: settings\.toml: unknown key$"):
        await watched.keeper.run(lambda: None)


def test_the_error_is_said_though_the_program_has_been_started_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "exit 0")
    watched.keeper.log.write_text('{"error":"NotReady: older"}\n{"error":"NotReady: no policy"}\nThis is simulated.\n')
    assert watched.keeper.last_words() == "NotReady: no policy"


async def test_it_starts_anew_when_what_it_was_started_with_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    read = tmp_path / "read.once"
    read.write_text("first")
    watched = Watched(tmp_path, f'trap "exit 0" TERM; cat {read}; while :; do sleep 0.01; done', started_with=[read])
    async with asyncio.TaskGroup() as group:
        group.create_task(watched.keeper.run(watched.changes.set))
        await watched.until_log("first")
        read.write_text("second")
        await watched.until_log("second")
        await watched.keeper.stop()
    assert watched.said == ["sample is started anew: its files have changed"]
    assert watched.keeper.restarts == 0


async def test_what_was_left_half_written_is_mended_before_each_start(tmp_path: Path) -> None:
    left = tmp_path / "left"
    mend = ("/bin/sh", "-c", f'read answer; echo "mended: $answer" > {left}', str(left))
    watched = Watched(tmp_path, f"cat {left} || echo nothing; touch {left}; kill -KILL $$", mended_by=mend)
    async with asyncio.TaskGroup() as group:
        group.create_task(watched.keeper.run(watched.changes.set))
        await watched.until_log("mended: y")
        await watched.keeper.stop()
    assert watched.keeper.log.read_text().count("nothing") == 1  # there was nothing to mend
