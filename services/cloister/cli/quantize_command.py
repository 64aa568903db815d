"""`cloister model quantize`: a model in 8-bit integers, and what that costs, on its owner's machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from cloister.cli.acceptance import write_accepted
from cloister.cli.options import AsJson, check_place, examples
from cloister.cli.output import err, facts, print_json, say, table, warn
from cloister.cli.preparing import check_out, extras
from cloister.errors import InvalidRequest

if TYPE_CHECKING:
    from cloister.prepare.agreement import OutputAgreement
    from cloister.prepare.quantization import Quantized


def add_to(app: typer.Typer) -> None:
    """Add the command to `cloister model`."""
    app.command(
        epilog=examples("cloister model quantize model.xml --calibration calibration.npz --out int8/model.xml"),
    )(quantize)


def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An OpenVINO .xml, or what else OpenVINO reads.")],
    calibration: Annotated[
        Path, typer.Option(help="A .npz with an array for each input, examples along the first axis; or one .npy.")
    ],
    out: Annotated[Path, typer.Option(help="The .xml to write; its weights go into the .bin beside it.")],
    labels: Annotated[str, typer.Option(help="Array of the .npz that holds each example's class.")] = "",
    held_out: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Share of the examples to judge by and not calibrate on.")
    ] = 0.25,
    min_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Share of held-out answers that must stay the same.")
    ] = 0.98,
    anyway: Annotated[bool, typer.Option("--anyway", help="Write it even where fewer do.")] = False,
    numbers: Annotated[
        list[str] | None, typer.Option(metavar="OUTPUT", help="This output holds numbers and no scores of classes.")
    ] = None,
    transformer: Annotated[
        bool, typer.Option("--transformer", help="Quantise attention as suits transformers.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the report as JSON to this file, too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Quantise a model to 8-bit integers with a calibration set, and report what that changes.

    NNCF calibrates on a part of the examples; the rest judges. An answer stays the same where the class with the
    highest score does, or, in an output that is no choice of class, a number that moves by at most 5 % of its range.
    Examples stay on this machine, and nothing of them is in the result but the ranges of activations.
    """
    check_out(out)
    check_place(report)
    options = {"held_out": held_out, "transformer": transformer, "numbers": numbers or ()}
    made = _quantized(model, calibration, labels, options)
    enough = made.agreement.share >= min_agreement
    if enough or anyway:
        write_accepted(made.model, out)
    plain = {**_plain(made), "min_agreement": min_agreement, "written": enough or anyway}
    if report is not None:
        report.write_text(json.dumps(plain, indent=2) + "\n")
    if as_json:
        print_json(plain)
    else:
        _tell(made)
    if not enough and not anyway:
        raise InvalidRequest(
            f"{made.agreement.share:.1%} of the held-out answers stay the same, fewer than {min_agreement:.1%}; "
            "nothing was written. Give more examples, scale the inputs alike, leave it in f32 or bf16, or say --anyway",
            reason="agreement.insufficient",
        )
    if not enough:
        warn("Fewer answers stay the same than --min-agreement asks for; it was written because you said --anyway.")
    if not as_json:
        say(f"quantised to {out}", "bold")
        say(f"next: cloister model seal {out} {out.with_suffix('.bin')} --name NAME --out FOLDER")


def _quantized(model: Path, calibration: Path, labels: str, options: Mapping[str, Any]) -> Quantized:
    with extras("quantize"):
        from cloister.prepare import quantization
        from cloister.prepare.files import read_model
        from cloister.prepare.samples import read_samples

        original = read_model(model)
        samples = read_samples(calibration, original, labels)
        with _bar() as progress:
            return quantization.quantize(original, samples, progress=progress, **options)


def _plain(made: Quantized) -> dict[str, object]:
    return {"calibrated_on": made.calibrated_on, "size_bytes": made.size_bytes, **made.agreement.plain()}


def _tell(made: Quantized) -> None:
    found = made.agreement
    say(f"calibrated on {made.calibrated_on} evaluations, judged by {found.examples} held-out examples", "bold")
    rows = [(name, *_cells(output)) for name, output in found.outputs.items()]
    table(("output", "answers that stay", "largest change", "mean change", "accuracy before", "after"), rows)
    sizes, times = made.size_bytes, found.latency_ms
    facts(
        {
            "size": f"{sizes[0]} bytes before, {sizes[1]} after",
            "one evaluation": f"{times[0]:.3f} ms before, {times[1]:.3f} ms after, on this machine",
        },
        indent="  ",
    )


def _cells(output: OutputAgreement) -> tuple[str, ...]:
    accuracy = ("", "") if output.accuracy is None else tuple(f"{share:.1%}" for share in output.accuracy)
    what = "classes" if output.by_class else "numbers"
    return (f"{output.share:.1%} of {what}", f"{output.largest:.3g}", f"{output.mean:.3g}", *accuracy)


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage; silent where stderr is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield tell
