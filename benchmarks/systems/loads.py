"""A load's process, and what its servers cost while it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import processes
from benchmarks.load import questions
from benchmarks.load.carriers import Target
from benchmarks.load.checked import TOLERANCE
from benchmarks.load.open_loop import Pace, Paced
from benchmarks.load.questions import Arrays
from benchmarks.load.turns import BEGAN, Counted, Turn, Volley
from benchmarks.report.samples import Sample
from benchmarks.systems.running import REPOSITORY, Failed, Place

Asked: TypeAlias = Turn | Volley | Pace


class Load:
    """Told in lines, answers in lines."""

    def __init__(self, process: subprocess.Popen[str], system: str, carrier: str, services: Mapping[str, int]) -> None:
        self._process = process
        self.system, self.carrier = system, carrier
        self.services = services

    def answers(self, folder: Path, count: int) -> list[Arrays]:
        """Ask every question once, all at the same time."""
        folder.mkdir(parents=True, exist_ok=True)
        self._tell({"check": str(folder)})
        if self._heard() != {"checked": count}:
            raise Failed(f"{self.system}, {self.carrier}: not every question was answered")
        return [questions.load(folder / f"answers-{number}.npz") for number in range(count)]

    def check(self, folder: Path, expected: Sequence[Arrays]) -> float:
        """Compare its answers with those of OpenVINO in process; returns the largest difference.

        Raises:
            Failed: One is another answer.
        """
        answers = self.answers(folder, len(expected))
        worst = max(questions.difference(*pair) for pair in zip(answers, expected, strict=True))
        if not worst <= TOLERANCE:
            raise Failed(f"{self.system}, {self.carrier}: an answer is {worst:.2e} away from OpenVINO's in process")
        return worst

    def expect(self, folder: Path) -> None:
        """Have every later answer compared with those that `answers` left in a folder; a wrong one is an error."""
        self._tell({"expect": str(folder)})
        self._heard()

    def counted(self, turn: Turn) -> Counted:
        """One turn, and nothing but what the load saw of it."""
        self.tell(turn)
        self.await_begin()
        return Counted(**self._heard())

    def watched(
        self, asked: Turn | Volley, look: Callable[[], Mapping[str, float]]
    ) -> tuple[Counted, dict[str, float]]:
        """What the load saw, and how what `look` says grew while it counted; raises Failed on any error."""
        (counted,), grown = at_once([(self, asked)], look)
        assert isinstance(counted, Counted)
        return counted, grown

    def tell(self, asked: Asked) -> None:
        """Have it ask."""
        self._tell({"pace": asdict(asked)} if isinstance(asked, Pace) else asdict(asked))

    def await_begin(self) -> None:
        """Wait until it counts; raises Failed."""
        if self._heard() != BEGAN:
            raise Failed(f"{self.system}, {self.carrier}: the load did not begin")

    def await_end(self, asked: Asked) -> Counted | Paced:
        """Wait for what it saw; raises Failed on any error, and where nothing was answered."""
        came = Paced(**self._heard()) if isinstance(asked, Pace) else Counted(**self._heard())
        if came.errors or not came.answers:
            raise Failed(f"{self.system}, {self.carrier}: {came.errors} errors, such as: {came.error}")
        return came

    def sample(self, turn: Turn) -> Sample:
        """One turn, with what every service used meanwhile; raises Failed on any error."""
        counted, used = self.watched(turn, self._cpu_s)
        memory = {name: processes.memory_bytes(pid) for name, pid in self.services.items()}
        return Sample.of(self.system, self.carrier, turn, counted, used, memory)

    def paced(self, pace: Pace) -> tuple[Paced, dict[str, float]]:
        """An open loop, with the CPU seconds of every service from when counting began until the last answer came.

        Refused and expired requests are what it is there to count; raises Failed on any other error.
        """
        self.tell(pace)
        self.await_begin()
        before = self._cpu_s()
        came = Paced(**self._heard())
        after = self._cpu_s()
        if came.errors:
            raise Failed(f"{self.system}, {self.carrier}: {came.errors} errors, such as: {came.error}")
        return came, {name: after[name] - before[name] for name in before}

    def _cpu_s(self) -> dict[str, float]:
        return {name: processes.cpu_s(pid) for name, pid in self.services.items()}

    def _tell(self, what: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _heard(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.system}, {self.carrier}: the load ended; it says why above")
        return json.loads(line)


def at_once(
    asking: Sequence[tuple[Load, Asked]], look: Callable[[], Mapping[str, float]]
) -> tuple[list[Counted | Paced], dict[str, float]]:
    """Several loads at the same time: as `Load.watched`, with what each saw."""
    for load, asked in asking:
        load.tell(asked)
    for load, _ in asking:
        load.await_begin()
    before = look()
    came = [load.await_end(asked) for load, asked in asking]
    after = look()
    return came, {name: after[name] - before[name] for name in before}


@contextmanager
def asking(
    target: Target, system: str, services: Mapping[str, int], program: str = "benchmarks.load"
) -> Iterator[Load]:
    """A load for one target, by one of the programs that are told in the same way."""
    words = [program, json.dumps(asdict(target))]
    with _started(words) as process:
        yield Load(process, system, target.carrier, services)


@contextmanager
def in_process(place: Place) -> Iterator[Load]:
    """OpenVINO by itself: load and service in one process."""
    with _started(["benchmarks.load.in_process", str(place.xml), str(place.questions)]) as process:
        yield Load(process, "OpenVINO", "in process", {"in process": process.pid})


@contextmanager
def _started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(  # noqa: S603 - ourselves
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as process:
        try:
            yield process
        finally:
            process.kill()
