"""A server under test, once it runs: its processes, and the ways to ask it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load.carriers import Target
from benchmarks.models.catalogue import Network

REPOSITORY = Path(__file__).resolve().parents[2]
READY_S = 120.0
GRACE_S = 10.0


class Failed(Exception):
    """A server did not start, or answered wrongly; the message says which, and where its log is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a benchmark of one network keeps what it needs.

    Attributes:
        folder: For logs and settings.
        mesh: A mesh folder, for its identities.
        xml: The network's file.
        questions: Folder of the inputs.
    """

    network: Network
    folder: Path
    mesh: Path
    xml: Path
    questions: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A system.

    Attributes:
        name: Of the system.
        services: Process id by service; each stands for itself and all that it started.
        targets: By what is asked how; empty for OpenVINO in process, which is load and service in one.
    """

    name: str
    services: Mapping[str, int]
    targets: Mapping[str, Target] = field(default_factory=dict)


@contextmanager
def process(command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """A server process in a group of its own, ended with all that it started; gives its id."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        started = subprocess.Popen(  # noqa: S603 - our own commands
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield started.pid
    finally:
        _signal_group(started.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            started.wait(GRACE_S)
        _signal_group(started.pid, signal.SIGKILL)
        started.wait()


def wait_for_port(port: int, pid: int, log: Path) -> None:
    """Until somebody listens; raises Failed when nobody does in time or the process has ended."""
    until = time.monotonic() + READY_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if _ended(pid) or time.monotonic() > until:
            said = log.read_text(errors="replace").strip().splitlines()
            raise Failed(f"it does not listen; see {log}: {said[-1] if said else 'it said nothing'}")
        time.sleep(0.1)


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
