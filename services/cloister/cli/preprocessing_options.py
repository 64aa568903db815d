"""Options of `cloister model seal` that change what is sealed: precision, and preprocessing compiled into the model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cloister.cli.preparing import extras

_SAVED_MODEL = "saved_model.pb"
_PANEL = "Preprocessing compiled into the model"


class Precision(StrEnum):
    """As `seal.manifest.PRECISIONS`."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


InputU8 = Annotated[
    list[str] | None,
    typer.Option("--input-u8", metavar="NAME", help="This input comes as bytes (UINT8).", rich_help_panel=_PANEL),
]
Resize = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]HxW[:HxW]",
        help="It comes in this size, or any ('?x?'), and is resized to the second, or to the model's own.",
        rich_help_panel=_PANEL,
    ),
]
Mean = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]NUMBERS", help="To subtract: one number, or R,G,B for channels.", rich_help_panel=_PANEL
    ),
]
Scale = Annotated[
    list[str] | None,
    typer.Option(metavar="[NAME=]NUMBERS", help="To divide by, after the mean.", rich_help_panel=_PANEL),
]
Layout = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]NHWC:NCHW", help="Axes as they come, and as the model takes them.", rich_help_panel=_PANEL
    ),
]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What was asked for, as it was written."""

    input_u8: Sequence[str]
    resize: Sequence[str]
    mean: Sequence[str]
    scale: Sequence[str]
    layout: Sequence[str]

    @contextmanager
    def compiled_into(
        self, head: str, files: Mapping[str, Path]
    ) -> Iterator[tuple[Mapping[str, Path], Mapping[str, str]]]:
        """The files to seal, and what was compiled in by input. With nothing asked for, the files as they are.

        The changed model lies in a temporary folder that only its owner can read, and is deleted afterwards.

        Args:
            head: Which of the files the model is known by; see `model_files.head`.
            files: All of it, by names inside.
        """
        if not any((self.input_u8, self.resize, self.mean, self.scale, self.layout)):
            yield files, {}
            return
        with extras("prepare"):
            from cloister.prepare.files import read_model, write_ir
            from cloister.prepare.preprocessing import compile_in, steps
        path = files[head]
        model = read_model(path.parent if path.name == _SAVED_MODEL else path)
        wanted = steps(
            model,
            from_u8=self.input_u8,
            resize=self.resize,
            mean=self.mean,
            scale=self.scale,
            layout=self.layout,
        )
        changed, words = compile_in(model, wanted)
        with tempfile.TemporaryDirectory(prefix="cloister-") as folder:
            yield write_ir(changed, Path(folder)), words
