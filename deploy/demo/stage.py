"""What the demonstration's story is told with: the `cloister` command, patience, and lines on the screen."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

BIN = Path(sys.executable).parent
WORKERS = 2
WAIT_S = 60.0

T = TypeVar("T")
console = Console(highlight=False, soft_wrap=True)
began = time.monotonic()


class Failed(Exception):
    """A step did not do what it should; the message says which."""


@contextmanager
def running(mesh: Path, workers: int = WORKERS, enclaves: Path | None = None) -> Iterator[None]:
    """The mesh, up for as long as the block lasts; what was built in `enclaves` runs under Gramine."""
    options = ("--enclaves", str(enclaves)) if enclaves else ()
    cloister("up", mesh, "--simulator", "--no-console", "--workers", str(workers), *options, "--detach")
    try:
        count = f" {workers} workers," if workers else ""
        how = ", all but the gateway as enclaves, by gramine-direct" if enclaves else ""
        step("operator", f"started verifier, provisioner,{count} gateway, mutual TLS 1.3 between all{how}")
        yield
    except Failed as error:
        raise Failed(f"{error} (logs: {mesh / 'logs'})") from None
    finally:
        cloister("down", mesh)


def cloister(*words: object) -> str:
    """Run a `cloister` command; returns what it printed."""
    return run(BIN / "cloister", *words)


def run(*words: object) -> str:
    """Run a program to its end; returns what it printed on stdout."""
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own commands
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed(f"'{' '.join([Path(command[0]).name, *command[1:]])}': {said[-1] if said else done.returncode}")
    return done.stdout


def record(mesh: Path, name: str, event: str = "") -> list[dict[str, Any]]:
    """Lines of the verifier's or the provisioner's record."""
    lines: list[dict[str, Any]] = json.loads(cloister("audit", "list", "--record", name, "--mesh", mesh, "--json"))
    return [line for line in lines if event in ("", line["event"])]


def each_worker(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last line of each worker, once every worker has one."""
    last = {line["instance"]: line for line in lines}
    return list(last.values()) if len(last) == WORKERS else []


def serving(mesh: Path, model: str) -> Mapping[str, Any] | None:
    """The mesh's status, once every worker serves the model."""
    status: dict[str, Any] = json.loads(cloister("status", mesh, "--json"))
    ready = [worker for worker in status["workers"] if model in worker["models"]]
    return status if len(ready) == WORKERS else None


def wait_for(look: Callable[[], T], what: str) -> T:
    """Look again and again until there is something to see."""
    until = time.monotonic() + WAIT_S
    while not (seen := look()):
        if time.monotonic() > until:
            raise Failed(f"waited {WAIT_S:.0f} s for {what}")
        time.sleep(0.2)
    return seen


def title(text: str) -> None:
    """A chapter."""
    console.print(Text(f"\n{text}", style="bold"))


def step(who: str, what: str) -> None:
    """One line: who did or proved what."""
    console.print(Text.assemble((f"{time.monotonic() - began:6.1f} s   ", "dim"), (f"{who:17}", "cyan"), what))


def short(text: str) -> str:
    """The first digits of a long number: enough to recognise it."""
    return text[:8]
