"""Which files of the owner's go into a sealed model, and what they are called in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import typer

from cloister.errors import InvalidRequest
from cloister.seal.names import check_file

_HEADS: Final = (".xml", ".onnx", ".pb", ".pdmodel", ".tflite")
_BESIDE: Final = ("fingerprint.pb", "keras_metadata.pb")
_WEIGHTS: Final = {".xml": ".bin", ".pdmodel": ".pdiparams"}


def gather(paths: Sequence[Path]) -> dict[str, Path]:
    """The files to seal, by their names inside.

    Args:
        paths: Files, which keep their own name, and folders, whose files keep their place relative to the folder.

    Raises:
        typer.BadParameter: A name cannot be one inside a sealed model, two are the same, something is neither file nor
            folder, or there is no file.
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


def head(names: Collection[str]) -> str:
    """The one file among these by which workers know a model; the rest is its weights and what lies beside.

    Raises:
        typer.BadParameter: None or several are one, or its weights are not there.
    """
    known = [name for name in names if name.endswith(_HEADS) and not name.endswith(_BESIDE)]
    if len(known) != 1:
        if known:
            raise typer.BadParameter(f"'{known[0]}' and '{known[1]}' are a model each; name one of them")
        raise typer.BadParameter(f"no file ends with {', '.join(_HEADS)}; 'cloister model convert' reads PyTorch's too")
    path = PurePosixPath(known[0])
    weights = str(path.with_suffix(_WEIGHTS[path.suffix])) if path.suffix in _WEIGHTS else known[0]
    if weights not in names:
        raise typer.BadParameter(f"the weights of '{path}' are missing; name its '{weights}' too")
    return known[0]


def _named(path: Path) -> Iterator[tuple[str, Path]]:
    if not path.is_dir():
        yield path.name, path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file.relative_to(path).as_posix(), file
        elif file.is_symlink() or not file.is_dir():
            what = "is a link to a folder, which is not followed" if file.is_dir() else "is no file that can be read"
            raise typer.BadParameter(f"'{file}' {what}; put what is meant in its place, or leave it out")
