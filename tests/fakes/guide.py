"""A guide that is run as it is written: its `console` blocks typed in a shell, and what they show held against it.

Dots in what a page shows stand for anything, a name in angle brackets for what one step shows and a later one needs.
What only looks is typed again until it shows what the page says.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fakes.running_mesh import BIN

GUIDES: Final = Path(__file__).resolve().parents[2] / "docs" / "guides"
WITHIN_S: Final = 60.0
_BLOCK: Final = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LOOKS: Final = re.compile(r"cloister (status|infer|model list|policy explain|audit (list|show|verify))\b")
_PLACE: Final = re.compile(r"<([a-z]+)>")
_HOLE: Final = re.compile(r"\.\.\.|<[a-z]+>")


@dataclass(frozen=True, slots=True)
class Step:
    """One command and what the page shows of what it says."""

    command: str
    shown: tuple[str, ...]


def steps(page: str) -> list[Step]:
    """All of a page, in its order."""
    found: list[Step] = []
    for block in _BLOCK.findall((GUIDES / page).read_text()):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            typed, *shown = command.splitlines()
            found.append(Step(typed, tuple(shown)))
    return found


@dataclass
class Reader:
    """Somebody who types what the guide says, in a folder of their own.

    Attributes:
        more: Words added to a command that begins so.
        known: What earlier steps have shown.
        within: A program and its options that runs each shell, where it is not to run as it is.
    """

    folder: Path
    more: Mapping[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    within: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
        self.environment = {**kept, "PATH": f"{BIN}:{kept['PATH']}", "NO_COLOR": "1", **self.environment}

    def does(self, step: Step) -> None:
        """Type it, and hold what it shows against the page."""
        if step.command.startswith("export "):
            name, _, value = step.command.removeprefix("export ").partition("=")
            self.environment[name] = value
            return
        refused = any(line.startswith("error: ") for line in step.shown)
        deadline = time.monotonic() + WITHIN_S
        while True:
            code, said = self._typed(step.command)
            fits = (code != 0) is refused and self._fits(step, said)
            if fits:
                return
            late = time.monotonic() > deadline or _LOOKS.match(step.command) is None
            assert not late, f"$ {step.command}\n{said}(exit code {code}), where the page has\n" + "\n".join(step.shown)

    @contextmanager
    def follows(self, step: Step) -> Iterator[None]:
        """The same of a command that runs beside the others until the block ends, and has shown all by then."""
        heard = self.folder / f"followed-{step.command.replace('/', '.').replace(' ', '-')}.txt"
        with (
            heard.open("w") as out,
            subprocess.Popen(
                [*self.within, "bash", "-c", f"exec {self._filled(step.command)}"],
                cwd=self.folder,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                yield
                deadline = time.monotonic() + WITHIN_S
                while not self._fits(step, heard.read_text()):
                    assert time.monotonic() < deadline, f"$ {step.command}\n{heard.read_text()}"
                    time.sleep(0.1)
            finally:
                process.terminate()

    def ends(self) -> None:
        """Stop the mesh, however far the walk came."""
        with suppress(subprocess.TimeoutExpired):
            self._typed("cloister down mesh")

    def _typed(self, command: str) -> tuple[int, str]:
        more = next((f" {words}" for begins, words in self.more.items() if command.startswith(begins)), "")
        done = subprocess.run(
            [*self.within, "bash", "-c", self._filled(command) + more],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout

    def _filled(self, text: str) -> str:
        return _PLACE.sub(lambda place: self.known[place[1]], text)

    def _fits(self, step: Step, said: str) -> bool:
        found = re.fullmatch(self._pattern(step.shown), _plain(said))
        if found is None:
            return False
        self.known |= found.groupdict()
        return True

    def _pattern(self, shown: tuple[str, ...]) -> str:
        """Of all that is said: a line of dots is any lines, dots within a line anything on it."""
        pattern, new = "", set[str]()
        for line in shown:
            if line == "...":
                pattern += r"(?:.*\n)*?"
                continue
            words = " ".join(line.split())
            holes = [self._hole(hole, new) for hole in _HOLE.findall(words)]
            literal = [re.escape(part) for part in _HOLE.split(words)]
            pattern += literal[0] + "".join(hole + part for hole, part in zip(holes, literal[1:], strict=True)) + r"\n"
        return pattern

    def _hole(self, hole: str, new: set[str]) -> str:
        name = hole.strip("<>")
        if hole == "...":
            return ".*"
        if name in self.known:
            return re.escape(self.known[name])
        if name in new:
            return f"(?P={name})"
        new.add(name)
        return rf"(?P<{name}>\S+)"


def _plain(said: str) -> str:
    return "".join(f"{' '.join(line.split())}\n" for line in said.splitlines())
