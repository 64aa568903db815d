"""What the commands print: words and tables for a person, JSON for a script.

Results go to stdout, progress and errors to stderr. Colour and width follow the terminal; into a file or a pipe goes
plain text. Names and messages that came over the wire are printed as text, never as markup or control characters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
_UNFOLDED = 10_000  # columns of a pipe: every row stays on its line
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, style: str = "") -> None:
    """One line for a person."""
    out.print(Text(_printable(text), style=style))


def warn(text: str) -> None:
    """One line that must not be missed."""
    err.print(Text(_printable(text), style="bold yellow"))


def alarm(text: str) -> None:
    """One line about what protects nobody."""
    err.print(Text(_printable(text), style="bold red"))


def complain(text: str) -> None:
    """The one line that a failed command ends with."""
    err.print(Text.assemble(("error: ", "bold red"), _printable(text)))


def print_json(value: object) -> None:
    """One JSON document for a script; the same bytes on a terminal and in a pipe."""
    out.print(Text(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)))


def print_json_line(value: object) -> None:
    """One JSON document on one line, of many that a script reads as they come."""
    out.print(Text(json.dumps(value, ensure_ascii=True, allow_nan=False)))


def instant(unix_ms: int) -> str:
    """A moment as ISO 8601 has it, in UTC, to the second."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds")


def facts(pairs: Mapping[str, object], indent: str = "") -> None:
    """Names and values, one line each, aligned."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        out.print(Text.assemble(indent, (name.ljust(width + 2), "dim"), _printable(str(value))))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table that stays readable in a pipe: no box characters, nothing cut; what is None stays empty."""
    grid = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text("" if cell is None else _printable(str(cell))) for cell in row))
    if out.is_terminal:
        out.print(grid)
        return
    page = Console(width=_UNFOLDED, highlight=False, color_system=None)
    with page.capture() as lines:
        page.print(grid)
    out.print(Text("\n".join(line.rstrip() for line in lines.get().splitlines())))


@contextmanager
def progress_bytes(what: str, total: int) -> Iterator[Progress]:
    """A bar for long work on `total` bytes; silent where stderr is not a terminal."""
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        progress.add_task(what, total=total)
        yield progress


@contextmanager
def progress_rows(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for long work on rows, told how many have ended and how many there are; silent where it is no terminal."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda ended, total: progress.update(task, completed=ended, total=total)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
