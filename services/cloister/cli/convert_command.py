"""`cloister model convert`: another framework's model to OpenVINO's format, on its owner's machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloister.cli.acceptance import write_accepted
from cloister.cli.options import examples
from cloister.cli.output import facts, say, warn
from cloister.cli.preparing import check_out, extras, shapes


def add_to(app: typer.Typer) -> None:
    """Add the command to `cloister model`."""
    app.command(
        epilog=examples(
            "cloister model convert network.py:make --input 'image=?x3x224x224' --output scores --out model/model.xml",
            "cloister model convert network.onnx --out model/model.xml",
        )
    )(convert)


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="FILE.py:FACTORY or MODULE:FACTORY that returns a torch.nn.Module; a .pt2 (torch.export) or "
            "TorchScript file; or what OpenVINO reads: .onnx, .pb, .tflite, .pdmodel, a SavedModel folder.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The .xml to write; its weights go into the .bin beside it.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=SHAPE[:DATATYPE]",
            help="In the model's order, such as image=?x3x224x224 or tokens=?x?128:INT64. '?' may have any size; a "
            "number behind it is the size to try. PyTorch needs all of them.",
        ),
    ] = None,
    outputs: Annotated[list[str] | None, typer.Option("--output", help="Names of its outputs, in order.")] = None,
    example: Annotated[
        Path | None, typer.Option(help="A .npz of inputs to hold the result against PyTorch on; else made up.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far an output may differ from PyTorch's, over its largest value or 1.")
    ] = 1e-4,
) -> None:
    """Convert a model to OpenVINO's format, which workers serve.

    A factory, and what it imports, is run here, with your rights: convert only code that you would run anyway. Workers
    get the result and none of that code. What PyTorch exports is evaluated beside the original before it is written.
    """
    check_out(out)
    with extras("convert"):
        from cloister.prepare import conversion
        from cloister.prepare.inputs import all_declared

        declared = all_declared(inputs or ())
        converted = conversion.convert(
            source,
            declared,
            outputs or (),
            examples=conversion.read_example(example, declared) if example else None,
            tolerance=tolerance,
        )
        written = write_accepted(converted.model, out)
    say(f"converted {source} to {out}", "bold")
    facts(
        {**shapes(converted.model), "size": f"{sum(path.stat().st_size for path in written.values())} bytes"},
        indent="  ",
    )
    if converted.difference is not None:
        facts({"from PyTorch": f"at most {converted.difference:.2g} away"}, indent="  ")
    else:
        warn("The result was not held against the original; ask both the same before you rely on it.")
    say(f"next: cloister model seal {out} {out.with_suffix('.bin')} --name NAME --out FOLDER")
