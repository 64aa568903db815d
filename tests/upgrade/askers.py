"""The clients of both versions, each a process of its own, while a mesh is replaced under them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from fakes.running_mesh import CONFIG, MODEL, inputs, probe, until
from upgrade.rolling_mesh import RollingMesh
from upgrade.versions import Version

SCRIPT = Path(__file__).with_name("asker.py")
NOTES = "notes.jsonl"
QUESTIONS = 64
KINDS = ("sealed", "plain", "stream", "job")
END_S = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One request, or one job, as its client noted it; times are Unix.

    Attributes:
        client: The version whose SDK asked.
        error: Why it failed; empty for an answer that is right.
        by: MRENCLAVE of the worker; empty where the request was in clear.
        attempts: How often something was asked again since the note before.
    """

    client: str
    kind: str
    began: float
    at: float
    error: str
    by: str
    attempts: int


@dataclass
class AskingProcess:
    """One client."""

    version: Version
    folder: Path
    process: subprocess.Popen[bytes]
    _notes: list[Note] = field(default_factory=list)
    _read_bytes: int = 0

    def notes(self) -> list[Note]:
        """All that it has noted; each line is read once."""
        with (self.folder / NOTES).open("rb") as file:
            file.seek(self._read_bytes)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(end)
        told: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        self._notes += (Note(client=self.version.name, **each) for each in told)
        return self._notes

    def check_alive(self) -> None:
        """Raises AssertionError if it has ended."""
        code = self.process.poll()
        assert code is None, f"a client of {self.version.name} ended with {code}: {self._log()}"

    def end(self) -> None:
        """Let it finish what is under way."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(END_S) == 0, self._log()

    def _log(self) -> str:
        return (self.folder / "log").read_text()[-2000:]


class Askers:
    """All clients.

    Args:
        processes: Of each version at least one.
    """

    def __init__(self, processes: Sequence[AskingProcess]) -> None:
        self._processes = processes

    def notes(self) -> list[Note]:
        """Of all, by time."""
        return sorted((note for each in self._processes for note in each.notes()), key=lambda note: note.at)

    def more(self, count: int = 3) -> None:
        """Wait until each client has had so many more answers of each kind."""
        before = self._counts()

        def reached() -> bool:
            for each in self._processes:
                each.check_alive()
            now = self._counts()
            return all(now[key] >= before[key] + count for key in before)

        until(reached, f"{count} more answers of every kind to every client", 90)

    def end(self) -> None:
        """Let them finish, and see them end."""
        for each in self._processes:
            each.end()

    def _counts(self) -> dict[tuple[str, str], int]:
        counts = {(each.version.name, kind): 0 for each in self._processes for kind in KINDS}
        for each in self._processes:
            for note in each.notes():
                counts[note.client, note.kind] += not note.error
        return counts


@contextmanager
def asking(mesh: RollingMesh, versions: Sequence[Version]) -> Iterator[Askers]:
    """A client of each version; they take the gateways in different orders."""
    questions = _questions(mesh.folder / "questions.npz")
    processes: list[AskingProcess] = []
    try:
        for number, version in enumerate(versions):
            folder = mesh.folder / f"client-{number}"
            folder.mkdir()
            (folder / NOTES).touch()
            gateways = mesh.gateways[number:] + mesh.gateways[:number]
            order = {"gateways": gateways, "trust": str(mesh.trust), "model": MODEL, "questions": str(questions)}
            order["identity"] = str(mesh.identity("client"))
            (folder / "order.json").write_text(json.dumps(order))
            processes.append(AskingProcess(version, folder, _started(version, folder)))
        yield Askers(processes)
    finally:
        for each in processes:
            each.process.kill()
            each.process.wait()


def _started(version: Version, folder: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / "log").open("wb") as log:
        # -P: nothing of this folder is found as a module.
        command = [version.bin / "python", "-P", SCRIPT, folder]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _questions(file: Path) -> Path:
    """Inputs, and what OpenVINO answers to each in this process."""
    compiled = ov.Core().compile_model(probe(), "CPU", CONFIG)
    x = [inputs(seed) for seed in range(QUESTIONS)]
    np.savez(file, x=np.stack(x), y=np.stack([np.array(compiled(each)[0]) for each in x]))
    return file
