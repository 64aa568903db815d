"""Client processes, started again whenever they are killed, until each has seen all its jobs end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chaos.burning_mesh import environment
from chaos.client import Order

FAILURES = 3
"""So often a client may end by an error of its own before that is a finding."""


class Broken(AssertionError):
    """A client ended by an error of its own, which nothing that happens to a mesh should bring about."""


class Keeper:
    """One client, life after life.

    Args:
        program: Module that is run with the folder as its only argument.
        within: What comes before its command.
    """

    def __init__(self, program: str, folder: Path, within: Sequence[str] = ()) -> None:
        self.folder = folder
        self.lives = self.failures = 0
        self._command = [*within, sys.executable, "-m", program, str(folder)]
        self._process: subprocess.Popen[bytes] | None = None
        self.done = False

    @property
    def pid(self) -> int | None:
        """Of this life."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def tend(self) -> None:
        """Start it, or start it again; call now and then.

        Raises:
            Broken: It has ended by itself too often.
        """
        code = None if self._process is None else self._process.poll()
        if self.done or (self._process is not None and code is None):
            return
        self.done = code == 0
        self.failures += code is not None and code > 0
        if self.failures > FAILURES:
            raise Broken(f"a client ends by itself: {(self.folder / 'log').read_text()[-3000:]}")
        if not self.done:
            self.lives += 1
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment())

    def end(self) -> None:
        """For good."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class JobClient(Keeper):
    """One that submits jobs."""

    def __init__(self, order: Order, folder: Path, within: Sequence[str] = ()) -> None:
        super().__init__("chaos.client", folder, within)
        order.write(folder)
        self.order = order

    @property
    def journal(self) -> Path:
        """What it has noted."""
        return self.folder / "journal.jsonl"


@contextmanager
def clients(orders: Sequence[Order], folder: Path, within: Sequence[str] = ()) -> Iterator[list[JobClient]]:
    """One for each order, not yet started; `within` comes before its command."""
    keepers = [JobClient(order, folder / f"client-{order.owner}", within) for order in orders]
    with ended(keepers):
        yield keepers


@contextmanager
def ended(keepers: Sequence[Keeper]) -> Iterator[None]:
    """None of them lives on after the block."""
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.end()
