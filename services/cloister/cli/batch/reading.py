"""What a file of rows is to everybody who reads one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from cloister.cli.batch.spans import Fitted, Loaded, Span, merged
from cloister.contract import ModelContract

Piece = tuple[int, Callable[[], Mapping[str, Fitted]]]
"""How many rows follow, and what reads them: the inputs by name."""
_READ_BYTES: Final = 4 << 20


Stamp = tuple[int, int]
"""Size and time of the last change, by which a file that is written to meanwhile is found out."""


class Source(Protocol):
    """A file of rows that fit a model as far as its own description tells.

    Attributes:
        rows: How many there are.
    """

    rows: int

    def pieces(self, size: int) -> Iterator[Piece]:
        """All rows in order, so many at a time; the last may be fewer. What is not read costs little.

        Raises:
            Stop: The file breaks off, or cannot be read on.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a file is read.

    Attributes:
        contract: What the model takes.
        columns: As `columns.read_options` has them.
        rounding: Whether numbers may be rounded.
    """

    contract: ModelContract
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rounding: bool = False


def spans(source: Source, size: int, exactly: int = 0) -> Iterator[Span]:
    """The rows of each job.

    Args:
        source: The file.
        size: Rows of a job.
        exactly: How many the model takes at once; 0 for any number.
    """
    first = 0
    for number, (rows, read) in enumerate(source.pieces(size)):
        yield Span(number, first, rows, partial(_load, number, first, rows, read, exactly))
        first += rows


def stamp_of(path: Path) -> Stamp:
    """Of a file as it is now."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def digest_of(path: Path, told: Callable[[int], None] = lambda _bytes: None) -> str:
    """SHA-256 of a file, in hex; `told` hears of each piece that was read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
            told(len(piece))
    return digest.hexdigest()


def _load(number: int, first: int, rows: int, read: Callable[[], Mapping[str, Fitted]], exactly: int) -> Loaded:
    return merged(number, first, rows, read(), exactly)
