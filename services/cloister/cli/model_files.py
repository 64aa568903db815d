"""Which files of the owner's go into a sealed model, and what they are called in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from cloister.errors import InvalidRequest
from cloister.seal.names import check_file


def gather(paths: Sequence[Path]) -> dict[str, Path]:
    """The files to seal, by their names inside.

    Args:
        paths: Files, which keep their own name, and folders, whose files keep their place relative to the folder.

    Raises:
        typer.BadParameter: A name cannot be one inside a sealed model, two are the same, or there is no file.
    """
    inside: dict[str, Path] = {}
    for name, path in (each for given in paths for each in _named(given)):
        try:
            check_file(name)
        except InvalidRequest as error:
            raise typer.BadParameter(f"'{path}': {error}; rename it, or leave it out") from None
        if name in inside:
            raise typer.BadParameter(f"'{path}' and '{inside[name]}' would both be '{name}' inside the model")
        inside[name] = path
    if not inside:
        raise typer.BadParameter(f"there is no file in {', '.join(map(str, paths))}")
    return inside


def _named(path: Path) -> Iterator[tuple[str, Path]]:
    if not path.is_dir():
        yield path.name, path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file.relative_to(path).as_posix(), file
