"""The files that a job reads: which, and of which form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cloister.errors import InvalidRequest, NotFound

HIDDEN: Final = (".", "_")
_LONGEST_HEADER: Final = 1 << 20


def header_of(place: Path) -> str | None:
    """The header of the CSV files in `place`, or None where it holds JSON lines.

    Raises:
        NotFound: There are no files.
        InvalidRequest: CSV files and others side by side, or with different headers.
    """
    files = sorted(_files(place))
    if not files:
        raise NotFound(f"there are no records in {place}", reason="records.missing")
    csv = [file for file in files if file.suffix.lower() == ".csv"]
    if not csv:
        return None
    if len(csv) != len(files):
        raise InvalidRequest(f"{place} holds CSV files and others; give each form a folder of its own")
    headers = {_first_line(file) for file in csv}
    if len(headers) != 1:
        raise InvalidRequest(f"the CSV files in {place} have different headers")
    return headers.pop()


def _files(place: Path) -> Iterator[Path]:
    """Those that Flink would read: all below a folder, except what is hidden."""
    if place.is_file():
        yield place
    elif place.is_dir():
        for each in place.iterdir():
            if not each.name.startswith(HIDDEN):
                yield from _files(each)


def _first_line(file: Path) -> str:
    with file.open(encoding="utf-8") as opened:
        return opened.readline(_LONGEST_HEADER).rstrip("\r\n")
